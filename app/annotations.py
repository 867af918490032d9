"""Annotations from QuPath, kept for the session and shown on their slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import shapely
import streamlit as st

from app.markup import plain
from app.viewer import Outline
from stamp_index.errors import QueryError
from stamp_index.export.annotations import Annotation, Annotations, read_annotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely import LinearRing, MultiPolygon, Polygon

    from app.stores import Opened
    from app.viewer import Rings

KEY = "annotations"  # of each slide
MAX_MB = 20
MAX_CORNERS = 5_000  # of a part that is drawn, with its holes
MIN_OF_RING = 3  # corners of a closed line that encloses nothing
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
        Outline(f"{_ID}{at}", one.name, rings(_joined(one)))
        for at, one in enumerate(held(slide_id)[:MAX_DRAWN])
    ]


def rings(shape: Polygon | MultiPolygon) -> Rings:
    """Outer rings and holes of a shape as it is drawn, the outer ring of a part before its holes."""
    return tuple(ring for part in shapely.get_parts(shape) for ring in _rings_of_part(part))


def _joined(annotation: Annotation) -> Polygon | MultiPolygon:
    """Parts that do not overlap: what lies in two of them would count as outside."""
    polygons = annotation.polygons
    return polygons[0] if len(polygons) == 1 else annotation.shape()


def _rings_of_part(polygon: Polygon) -> Rings:
    """Of very many corners those that a screen can show, and no hole that it cannot."""
    held = [polygon.exterior, *polygon.interiors]
    tolerance = _longer_side(polygon) / SHARE_OF_SIDE
    while sum(len(ring.coords) for ring in held) > MAX_CORNERS:
        holes = [ring for ring in held[1:] if _longer_side(ring) > tolerance]
        simple = shapely.simplify([held[0], *holes], tolerance, preserve_topology=False)
        held = [simple[0], *(ring for ring in simple[1:] if len(ring.coords) > MIN_OF_RING)]
        tolerance *= 2
    return tuple(tuple(ring.coords) for ring in held)


def _longer_side(shape: Polygon | LinearRing) -> float:
    left, top, right, bottom = shape.bounds
    return float(max(right - left, bottom - top))


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
