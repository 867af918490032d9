"""Asking for regions: what a query on the page holds, and its answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.facts import slide_name
from app.markup import plain
from app.stores import Opened
from stamp_index.errors import QueryError
from stamp_index.search import Region, all_of, field_in, parse_filter

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon

    from stamp_index.search import RegionHits

LEAVE_OUT = {"its slide": "slide", "its patient": "patient", "nothing": "nothing"}
LOOKS = {"look": "image", "expression": "gene"}
MAX_REGIONS = 40


@dataclass(frozen=True)
class RegionQuestion:
    """How a region is asked for."""

    k: int
    exclude_own: str
    by: str  # embedding of both sides
    organs: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class AskedShape:
    """A shape on a slide, in level-0 pixels, and where it comes from."""

    slide_id: str
    wkb: bytes  # of a valid Polygon or MultiPolygon; bytes are quick to compare
    name: str

    def shape(self) -> Polygon | MultiPolygon:
        """The shape itself."""
        import shapely

        found: Polygon | MultiPolygon = shapely.from_wkb(self.wkb)
        return found


@dataclass(frozen=True)
class RegionAnswer:
    """Regions as the page uses them."""

    table: pd.DataFrame
    rows: tuple[NDArray, ...]
    outlines: tuple[Polygon, ...]
    query_rows: NDArray
    query: str
    notes: tuple[str, ...]
    n_slides_looked_at: int
    geojson: dict
    spots: pd.DataFrame
    seconds: float


def controls(opened: Opened) -> tuple[str, RegionQuestion]:
    """Ask for the query's slide, and how its region is asked for."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="regionbar"):
        slide_id = st.selectbox(
            "Query slide",
            list(opened.slides.index),
            key="s",
            bind="query-params",
            format_func=lambda name: slide_name(opened, name),
            width=260,
        )
        looks = [name for name, side in LOOKS.items() if side in opened.searchable]
        by = st.segmented_control(
            "Compare", looks, default=looks[0], required=True, key="as", bind="query-params"
        )
        exclude = st.selectbox(
            "Leave out", list(LEAVE_OUT), key="without", bind="query-params", width=150
        )
        k = st.number_input("Regions", 1, MAX_REGIONS, 6, key="k", bind="query-params", width=110)
        organs, where = _filters(opened)
    return slide_id, RegionQuestion(int(k), LEAVE_OUT[exclude], LOOKS[by], organs, where)


def _filters(opened: Opened) -> tuple[tuple[str, ...], str]:
    asked = sum(len(st.query_params.get_all(name)) for name in ("organ", "where"))
    with st.popover(f"Filters · {asked}" if asked else "Filters"):
        organs = st.multiselect(
            "Organ",
            sorted(set(opened.slides["organ"]) - {""}),
            key="organ",
            bind="query-params",
            placeholder="all",
            select_all=False,
        )
        where = st.text_input("Filter", key="where", bind="query-params", max_chars=2000)
    return tuple(organs), where


def asked_shape(slide_id: str, shape: Polygon | MultiPolygon, name: str) -> AskedShape:
    """A shape as a query; one that crosses itself becomes what lies inside by the even-odd rule.

    Raises
    ------
    QueryError
        If it has no area.
    """
    import shapely

    if not shape.is_valid:
        parts = shapely.get_parts(shapely.make_valid(shape))
        shape = shapely.union_all([part for part in parts if part.area > 0])
    if shape.area == 0:
        msg = "The shape has no area. Draw a larger region."
        raise QueryError(msg)
    return AskedShape(slide_id, shapely.to_wkb(shape), name)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def ask_region(opened: Opened, asked: AskedShape, question: RegionQuestion) -> RegionAnswer:
    """Regions like one of a slide.

    Raises
    ------
    StampIndexError
        As `Searcher.search_region`.
    """
    started = time.perf_counter()
    hits: RegionHits = opened.searcher.search_region(
        Region(asked.slide_id, asked.shape(), "px"),
        query=question.by,
        against=question.by,
        exclude_own=question.exclude_own,
        k=question.k,
        filters=all_of(
            field_in("organ", question.organs),
            parse_filter(question.where) if question.where.strip() else None,
        ),
    )
    return RegionAnswer(
        table=hits.to_pandas(),
        rows=hits.rows,
        outlines=hits.outlines,
        query_rows=hits.query_rows,
        query=hits.query,
        notes=tuple(hits.notes),
        n_slides_looked_at=len(hits.slides),
        geojson=hits.to_geojson(),
        spots=hits.spots(),
        seconds=time.perf_counter() - started,
    )


def said(notes: tuple[str, ...]) -> None:
    """What the library wants to be known."""
    for note in notes:
        st.caption(plain(note))
