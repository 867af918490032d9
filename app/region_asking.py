"""Asking for regions: what a query on the page holds, and its answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import streamlit as st

from app import annotations
from app.markup import plain
from app.session import take_over
from app.stores import Opened
from stamp_index.errors import QueryError
from stamp_index.search import RegionHits, all_of, field_in, parse_filter
from stamp_index.search.sharing import RegionRequest, rings_of
from stamp_index.search.sharing.links import (
    COMPARED,
    LEFT_OUT_OF_REGIONS,
    MAX_REGIONS,
    MAX_WHERE,
)

if TYPE_CHECKING:
    import pandas as pd
    from shapely import MultiPolygon, Polygon

    from stamp_index.export import Annotation
    from stamp_index.search.selection import Own
    from stamp_index.store import Modality


@dataclass(frozen=True)
class RegionQuestion:
    """How a region is asked for."""

    k: int
    exclude_own: Own
    by: Modality  # embedding of both sides
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

    hits: RegionHits  # without their store, so that they can be cached; see `hits_of`
    request: RegionRequest
    seconds: float

    @property
    def table(self) -> pd.DataFrame:
        """One row per region, best first."""
        return self.hits.table


def hits_of(opened: Opened, answer: RegionAnswer) -> RegionHits:
    """The answer as the library's hits, for what it does with them."""
    return replace(answer.hits, store=opened.store)


def controls(opened: Opened) -> tuple[str, RegionQuestion, Annotation | None]:
    """Ask for the query's slide, how its region is asked for, and for an annotation that asks."""
    take_over("s")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="regionbar"):
        slide_id = st.selectbox(
            "Query slide",
            list(opened.slides.index),  # as they are: the address holds what the list shows
            key="s",
            bind="query-params",
            width=260,
        )
        looks = [name for name, side in COMPARED.items() if side in opened.searchable]
        by = st.segmented_control(
            "Compare", looks, default=looks[0], required=True, key="as", bind="query-params"
        )
        exclude = st.selectbox(
            "Leave out", list(LEFT_OUT_OF_REGIONS), key="without", bind="query-params", width=150
        )
        k = st.number_input("Regions", 1, MAX_REGIONS, 6, key="k", bind="query-params", width=110)
        organs, where = _filters(opened)
        annotations.load(opened, slide_id)
        loaded = annotations.choose(slide_id)
    question = RegionQuestion(int(k), LEFT_OUT_OF_REGIONS[exclude], COMPARED[by], organs, where)
    return slide_id, question, loaded


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
        where = st.text_input("Filter", key="where", bind="query-params", max_chars=MAX_WHERE)
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
    request = RegionRequest(
        slide_id=asked.slide_id,
        outlines=rings_of(asked.shape()),
        query=question.by,
        against=question.by,
        exclude_own=question.exclude_own,
        k=question.k,
        filters=all_of(
            field_in("organ", question.organs),
            parse_filter(question.where) if question.where.strip() else None,
        ),
    )
    hits = request.run(opened.searcher)
    return RegionAnswer(replace(hits, store=None), request, time.perf_counter() - started)


def said(notes: tuple[str, ...]) -> None:
    """What the library wants to be known."""
    for note in notes:
        st.caption(plain(note))
