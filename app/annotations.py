"""Annotations from QuPath, kept for the session and shown on their slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.markup import plain
from app.viewer import Outline
from stamp_index.errors import QueryError
from stamp_index.export.annotations import Annotation, read_annotations

if TYPE_CHECKING:
    from app.stores import Opened

KEY = "annotations"  # of each slide
MAX_MB = 20
MAX_DRAWN = 500  # more outlines than that are a carpet


def held(slide_id: str) -> tuple[Annotation, ...]:
    """Annotations that were loaded onto a slide in this session."""
    return st.session_state.get(KEY, {}).get(slide_id, ())


def load(opened: Opened, slide_id: str) -> tuple[Annotation, ...]:
    """Ask for a GeoJSON file; returns what is held for the slide."""
    with st.popover("Load annotations (GeoJSON)"):
        file = st.file_uploader(
            "GeoJSON in pixels of the full-resolution image, as QuPath exports it",
            type=["geojson", "json"],
            max_upload_size=MAX_MB,
            key=f"geojson-{slide_id}",
        )
        if file is not None:
            _take(opened, slide_id, file.getvalue())
    return held(slide_id)


def choose(opened: Opened, slide_id: str) -> Annotation | None:
    """Ask for a GeoJSON file, and for one of its annotations; None where there is none."""
    shapes = load(opened, slide_id)
    if not shapes:
        return None
    names = [f"{at + 1} · {one.name}" for at, one in enumerate(shapes)]
    chosen = st.selectbox(
        "Annotation that asks, where there is no lasso", names, key=f"annotation-{slide_id}"
    )
    return shapes[names.index(chosen)]


def _take(opened: Opened, slide_id: str, data: bytes) -> None:
    slide = opened.slides.loc[slide_id]
    try:
        found = read_annotations(data, (float(slide["width_px"]), float(slide["height_px"])))
    except QueryError as error:
        st.error(plain(str(error)))
        return
    for note in found.notes:
        st.caption(plain(note))
    st.session_state.setdefault(KEY, {})[slide_id] = found.shapes


def outline(one: Annotation, at: int) -> Outline:
    """An annotation as the viewer draws it."""
    rings = tuple(tuple(part.exterior.coords) for part in one.polygons)
    return Outline(f"annotation-{at}", one.name, rings)
