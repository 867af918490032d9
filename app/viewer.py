"""The slide viewer on a page: what it is told, and what it says back.

Tiles, places and values are fetched by the browser itself; through Streamlit go some hundred bytes: which slide,
which layer, which marks, and back a polygon or the number of a spot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import streamlit as st

from app.api import frontend, images
from app.api.routes import asset_address, slide_address
from app.api.tokens import mint
from app.components import short_key
from app.session import user
from stamp_index.view import spot_places

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamlit.components.v2.types import ComponentRenderer

    from app.stores import Opened

MISSING = (
    "The slide viewer needs OpenSeadragon, which is not installed here. Run `make demo` in the checkout, or "
    "`npm ci --prefix app/frontend`, and start the app again."
)

Polygon = tuple[tuple[int, int], ...]
Rings = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True)
class Mark:
    """A ring on the slide, at level-0 pixels."""

    x_px: float
    y_px: float
    label: str
    kind: str = "hit"  # or "query", "marked"

    def to_dict(self) -> dict[str, Any]:
        """For the browser."""
        return {"x": self.x_px, "y": self.y_px, "label": self.label, "kind": self.kind}


@dataclass(frozen=True)
class Outline:
    """A named region on the slide: outer rings and holes of (x, y) in level-0 pixels, the first ring an outer one.

    What lies inside an odd number of them is inside the region.
    """

    outline_id: str
    name: str
    rings: Rings
    kind: str = "annotation"  # or "hit", "query"

    def to_dict(self) -> dict[str, Any]:
        """For the browser."""
        rings = [[[round(x, 1), round(y, 1)] for x, y in ring] for ring in self.rings]
        return {"id": self.outline_id, "name": self.name, "polygons": rings, "kind": self.kind}


@dataclass(frozen=True)
class Shown:
    """What a viewer shows besides slide and spots.

    Attributes
    ----------
    layer : mapping or None
        ``{"gene": name}`` or ``{"label": name}``; None for bare spots.
    layer_at : (str, str) or None
        Another layer instead: its address below the slide's, and its name.
    ends : (float, float) or None
        Values at the two ends of the colours, until the user sets others; by default those of the slide.
    marks : sequence of Mark
        Rings; `picked` is the place of the one that stands out.
    outlines : sequence of Outline
    selected : int or None
        Number of the selected spot on the slide.
    lasso : Polygon or None
        The polygon that Python puts there; what the user draws stays until `lasso_stamp` changes.
    focus : (float, float, float) or None
        Where to go, x and y in level-0 pixels, and the width to show in microns (pixels without a pixel size);
        once for each `focus_stamp`.
    group : str
        Viewers of one group keep the same physical zoom; "" for none.
    """

    layer: Mapping[str, str] | None = None
    layer_at: tuple[str, str] | None = None
    ends: tuple[float, float] | None = None
    marks: Sequence[Mark] = ()
    picked: int | None = None
    outlines: Sequence[Outline] = ()
    selected: int | None = None
    lasso: Polygon | None = None
    lasso_stamp: str = ""
    focus: tuple[float, float, float] | None = None
    focus_stamp: str = ""
    group: str = ""
    tools: Sequence[str] = ("pan", "lasso", "box")
    in_address: bool = False  # whether view and lasso stand in the page's address
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """What the user did in a viewer."""

    lasso: Polygon | None = None
    spot: int | None = None
    outline: str | None = None


def viewer(
    opened: Opened,
    slide_id: str,
    shown: Shown,
    *,
    key: str,
    height: str = "max(420px, calc(100vh - 290px))",
    on_change: Callable[[], None] | None = None,
) -> Said:
    """Show a slide and return what the user did on it.

    `height` is of CSS. A polygon or spot of another slide, or of another version of the store, is not returned.
    """
    data = viewer_data(opened, slide_id, shown) | {"height": height}
    changed = on_change or _nothing
    result = _component()(
        key=key,
        data=data,
        on_lasso_change=changed,
        on_spot_change=changed,
        on_outline_change=changed,
        on_renew_change=_nothing,
    )
    return said(result, data["key"], shown)


def said(state: Mapping[str, Any], slide_key: str, shown: Shown) -> Said:
    """Read a viewer's state, of which only what was done on the slide `slide_key` counts.

    Where nothing was done yet, the lasso and spot that the viewer was told to show count.
    """
    lasso = shown.lasso
    held = state.get("lasso")
    if isinstance(held, dict) and held.get("key") == slide_key:
        lasso = polygon_of(held["value"]) if held.get("value") else None
    spot = shown.selected
    held = state.get("spot")
    if isinstance(held, dict) and held.get("key") == slide_key:
        value = held.get("value")
        spot = int(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
    held = state.get("outline")
    outline = None
    if isinstance(held, dict) and held.get("key") == slide_key and held.get("value"):
        outline = str(held["value"])
    return Said(lasso, spot, outline)


def polygon_of(points: Any) -> Polygon | None:  # noqa: ANN401 - whatever the browser sent
    """A polygon of at most 500 corners from lists of two numbers; None where it is no such thing."""
    try:
        corners = tuple((round(float(x)), round(float(y))) for x, y in points)
    except (TypeError, ValueError, OverflowError):
        return None
    return corners if 3 <= len(corners) <= 500 else None


def slide_key(opened: Opened, slide_id: str) -> str:
    """Names a slide at a version of a store."""
    return short_key(opened.key, slide_id)


def viewer_data(opened: Opened, slide_id: str, shown: Shown) -> dict[str, Any]:
    """What the browser is told."""
    slide = opened.slides.loc[slide_id]
    zoom = images.geometry(opened, slide_id)
    mpp = float(slide["mpp"])
    data: dict[str, Any] = {
        "module": asset_address("viewer/streamlit.js"),
        "style": asset_address("viewer/viewer.css"),
        "openseadragon": asset_address("openseadragon.js"),
        "missing": "" if frontend.is_installed() else MISSING,
        "api": slide_address(opened, slide_id),
        "token": mint(user()),
        "key": slide_key(opened, slide_id),
        "label": slide_id,
        "mpp": mpp if math.isfinite(mpp) else None,
        "image": None,
        "spots": _spots(opened, slide_id),
        "layer": None,
        "marks": [mark.to_dict() for mark in shown.marks],
        "picked": shown.picked,
        "regions": [outline.to_dict() for outline in shown.outlines],
        "selected": shown.selected,
        "lasso": [list(corner) for corner in shown.lasso] if shown.lasso else None,
        "lassoStamp": shown.lasso_stamp,
        "focus": None,
        "link": {"group": shown.group, "on": True} if shown.group else None,
        "tools": list(shown.tools),
        "inAddress": shown.in_address,
        **shown.extra,
    }
    if zoom is not None:
        data["image"] = {
            "width": zoom.width_px,
            "height": zoom.height_px,
            "tileSize": zoom.tile_px,
            "overlap": zoom.overlap_px,
            "maxLevel": zoom.max_level,
        }
    if shown.layer_at:
        data["layer"] = dict(zip(("path", "name"), shown.layer_at, strict=True))
    elif shown.layer:
        name = next(iter(shown.layer.values()))
        data["layer"] = {"path": "layer?" + urlencode(dict(shown.layer)), "name": name}
    if shown.ends is not None and data["layer"]:
        data["layer"]["range"] = dict(zip(("low", "high"), shown.ends, strict=True))
    if shown.focus is not None:
        x, y, width = shown.focus
        unit = "width_um" if data["mpp"] else "width_px"
        data["focus"] = {"x": x, "y": y, unit: width, "stamp": shown.focus_stamp}
    return data


@st.cache_data(max_entries=64, show_spinner=False)
def _geometry_of_spots(key: str, _opened: Opened, slide_id: str) -> tuple[int, float, str]:
    places = spot_places(_opened.store, slide_id)
    return len(places.rows), places.diameter_px, places.shape


def _spots(opened: Opened, slide_id: str) -> dict[str, Any]:
    n, diameter, shape = _geometry_of_spots(slide_key(opened, slide_id), opened, slide_id)
    return {"n": n, "diameter": diameter, "shape": shape, "path": "spots"}


@cache
def _component() -> ComponentRenderer:
    """The component: a few lines that load the module, which the browser keeps."""
    js = (frontend.FRONTEND / "viewer" / "loader.js").read_text("utf-8")
    return st.components.v2.component("stamp_viewer", html='<div class="si-host"></div>', js=js)


def _nothing() -> None:
    """A component's state exists only with a callback; the rerun itself does the work."""
