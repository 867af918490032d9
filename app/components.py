"""The small components of the app: gallery of hits, picture with a movable square or ring, the page's address.

Their HTML, CSS and JavaScript are files of ours in frontend/; no text from a store or a user is ever
part of them. Values go in as data and reach the page by ``textContent``.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamlit.components.v2.types import ComponentRenderer

FRONTEND = Path(__file__).resolve().parent / "frontend"


def _component(name: str) -> ComponentRenderer:
    html, css, js = (
        (FRONTEND / name / f"{name}.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    return st.components.v2.component(f"stamp_{name}", html=html, css=css, js=js)


def short_key(*parts: object) -> str:
    """Name of a set of values, to tell whether a component shows them already."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def gallery(
    tiles: Sequence[Mapping[str, Any]],
    *,
    key: str,
    addresses: Mapping[str, str],
    bar: tuple[float, str],
    marked: Sequence[str] = (),
    on_mark: Callable[[int], None] | None = None,
) -> int:
    """Show hits as tiles and return the rank of the picked one, 1 unless another was picked.

    Parameters
    ----------
    tiles : sequence of mapping
        For each hit rank, row (None where no picture is stored), spot, alt, score, slide, genes, more.
    key : str
        Changes exactly when `tiles` do. A pick belongs to the tiles it was made on.
    addresses : mapping
        ``api``, what the addresses of the store's routes start with, and ``token``.
    bar : (float, str)
        Scale bar of every tile: length as a share of its width, and label.
    marked : sequence of str
        Ids of spots that carry a mark.
    on_mark : callable or None
        Called with a rank whose mark is to be turned.
    """
    data = {
        "key": key,
        "tiles": list(tiles),
        "bar": {"share": bar[0], "label": bar[1]},
        "picked": 1,
        "marked": list(marked),
        **addresses,
    }

    def turned() -> None:
        said = st.session_state["gallery"].get("mark") or {}
        if on_mark is not None and said.get("key") == key:
            on_mark(int(said.get("rank", 0)))

    result = _component("gallery")(
        key="gallery", data=data, on_picked_change=_nothing, on_mark_change=turned
    )
    picked = result.picked or {}
    rank = int(picked.get("rank", 1)) if picked.get("key") == key else 1
    return rank if 1 <= rank <= len(tiles) else 1


def locator(
    src: str,
    *,
    key: str,
    at: tuple[float, float],
    half: tuple[float, float],
    bar: tuple[float, str],
    texts: tuple[str, str],
    on_move: Callable[[tuple[float, float]], None] | None = None,
) -> tuple[float, float] | None:
    """Show a picture with a mark and return where the user put it, as shares of the picture.

    Parameters
    ----------
    src : str
        Data URI of the picture.
    key : str
        Changes exactly when the picture does.
    at : (float, float)
        Where the mark stands at first, as shares of width and height.
    half : (float, float)
        Half of the square's sides, as shares; zeros show a ring instead of a square.
    bar : (float, str)
        Scale bar.
    texts : (str, str)
        Alternative text of the picture; what the keys do.
    on_move : callable or None
        Called with the new place before the page is drawn again.

    Returns
    -------
    (float, float) or None
        None while the user has not moved the mark on this picture.
    """
    data = {
        "key": key,
        "src": src,
        "at": list(at),
        "stamp": short_key(key, at),
        "half": list(half),
        "shape": "square" if half[0] > 0 else "ring",
        "step": [max(half[0] / 4, 0.005), max(half[1] / 4, 0.005)],
        "bar": {"share": bar[0], "label": bar[1]},
        "alt": texts[0],
        "help": texts[1],
    }

    def moved() -> None:
        place = _place(st.session_state["locator"].get("at"), key)
        if on_move is not None and place is not None:
            on_move(place)

    result = _component("locator")(key="locator", data=data, on_at_change=moved)
    return _place(result.at, key)


def stepper(n: int, picked: int, *, key: str, on_step: Callable[[int], None]) -> None:
    """Show which of `n` hits is picked, with buttons for the one before and after; keys P and N of a viewer do the same.

    Parameters
    ----------
    n, picked : int
        How many there are, and the rank of the picked one.
    key : str
        Changes exactly when the hits do. A step belongs to the hits that it was made on.
    on_step : callable
        Called with the rank to pick, before the page is drawn again.
    """

    def stepped() -> None:
        said = st.session_state["stepper"].get("step") or {}
        rank = int(said.get("rank", 0))
        if said.get("key") == key and 1 <= rank <= n:
            on_step(rank)

    _component("stepper")(
        key="stepper", data={"key": key, "n": n, "picked": picked}, on_step_change=stepped
    )


def here(key: str, *, shown: bool) -> tuple[float, float, float, float] | None:
    """Show the page's address with what a viewer wrote into it, with a button that copies it, or nothing at all.

    Returns
    -------
    (float, float, float, float) or None
        Left, top, right and bottom of what the page's slide viewer shows, in level-0 pixels; None until it is known,
        and where there is no such viewer.
    """
    known = (st.session_state.get(key) or {}).get("seen")
    result = _component("here")(
        key=key,
        data={"known": known, "shown": shown, "without": ["drawer"]},  # how this browser draws
        on_seen_change=_nothing,
    )
    return seen_box(result.seen)


def seen_box(said: object) -> tuple[float, float, float, float] | None:
    """A box as the browser says it; None where it is none."""
    if not isinstance(said, list | tuple) or len(said) != 4:
        return None
    if not all(isinstance(side, int | float) and math.isfinite(side) for side in said):
        return None
    left, top, right, bottom = (float(side) for side in said)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _place(moved: Mapping[str, Any] | None, key: str) -> tuple[float, float] | None:
    """Where the mark was put on the picture `key`; None if it was moved on another one only."""
    if not moved or moved.get("key") != key:
        return None
    return min(max(float(moved["x"]), 0.0), 1.0), min(max(float(moved["y"]), 0.0), 1.0)


def _nothing() -> None:
    """A component's state exists only with a callback; the rerun itself does the work."""
