"""Annotations from QuPath, kept for the session and shown on their slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.markup import plain
from app.viewer import Outline
from stamp_index.errors import QueryError
from stamp_index.export.annotations import Annotation, Annotations, read_annotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely import Polygon

    from app.stores import Opened

KEY = "annotations"  # of each slide
MAX_MB = 20
MAX_CORNERS = 5_000  # of an outline that is drawn
SHARE_OF_SIDE = 2_000  # of the longer side: less than a pixel where the whole of it is seen
MAX_DRAWN = 500  # more outlines than that are a carpet
_ID = "annotation-"


def held(slide_id: str) -> tuple[Annotation, ...]:
    """Annotations that were loaded onto a slide in this session."""
    return st.session_state.get(KEY, {}).get(slide_id, ())


def load(opened: Opened, slide_id: str) -> tuple[Annotation, ...]:
    """Popover that takes a GeoJSON file; returns what is held for the slide."""
    with st.popover("Load GeoJSON", help="Annotations from QuPath, drawn on this slide."):
        file = st.file_uploader(
            "GeoJSON in pixels of the full-resolution image, as QuPath exports it",
            type=["geojson", "json"],
            max_upload_size=MAX_MB,
            key=f"geojson-{slide_id}",
        )
        if file is not None:
            _take(opened, slide_id, file.getvalue())
        n = len(held(slide_id))
        if n:
            drawn = f", of which the first {MAX_DRAWN} are drawn" if n > MAX_DRAWN else ""
            st.caption(f"{n:,} annotation{'s' if n > 1 else ''} on this slide{drawn}.")
            if file is None:
                st.button("Take them away", key="forget", on_click=_forget, args=(slide_id,))
    return held(slide_id)


def choose(slide_id: str) -> Annotation | None:
    """Ask for one of a slide's annotations; None where there is none."""
    shapes = held(slide_id)
    if not shapes:
        return None
    names = [f"{at + 1} · {one.name}" for at, one in enumerate(shapes)]
    chosen = st.selectbox(
        "Annotation that asks",
        names,
        key=f"{_ID}{slide_id}",
        width=220,
        help="Unless a lasso does.",
    )
    return shapes[names.index(chosen)]


def propose(slide_id: str, at: int) -> None:
    """Let `choose` start with an annotation."""
    st.session_state[f"{_ID}{slide_id}"] = f"{at + 1} · {held(slide_id)[at].name}"


def outlines(slide_id: str) -> Sequence[Outline]:
    """A slide's annotations as the viewer draws them."""
    return [
        Outline(f"{_ID}{at}", one.name, tuple(_ring(p) for p in one.polygons))
        for at, one in enumerate(held(slide_id)[:MAX_DRAWN])
    ]


def _ring(polygon: Polygon) -> tuple[tuple[float, float], ...]:
    """Corners of a polygon as it is drawn: of very many, those that a screen can show."""
    ring = polygon.exterior
    left, top, right, bottom = polygon.bounds
    tolerance = max(right - left, bottom - top) / SHARE_OF_SIDE
    while len(ring.coords) > MAX_CORNERS:
        ring = ring.simplify(tolerance, preserve_topology=False)
        tolerance *= 2
    return tuple(ring.coords)


def place_of(slide_id: str, outline_id: str | None) -> int | None:
    """Number of the annotation whose outline was clicked; None where there is no such one."""
    number = (outline_id or "").removeprefix(_ID)
    at = int(number) if number.isdecimal() and len(number) < 6 else -1
    return at if 0 <= at < len(held(slide_id)) else None


def _forget(slide_id: str) -> None:
    st.session_state.get(KEY, {}).pop(slide_id, None)


def _take(opened: Opened, slide_id: str, data: bytes) -> None:
    slide = opened.slides.loc[slide_id]
    try:
        found = _read(data, (float(slide["width_px"]), float(slide["height_px"])))
    except QueryError as error:
        st.error(plain(str(error)))
        return
    for note in found.notes:
        st.caption(plain(note))
    st.session_state.setdefault(KEY, {})[slide_id] = found.shapes


@st.cache_data(max_entries=2, show_spinner=False, scope="session")
def _read(data: bytes, size_px: tuple[float, float]) -> Annotations:
    return read_annotations(data, size_px)
