"""Asking for regions: what a query on the page holds, and its answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import streamlit as st

from app import annotations, region_colour
from app.markup import plain
from app.session import take_over
from stamp_index.errors import QueryError
from stamp_index.search import RegionHits, all_of, field_in, parse_filter
from stamp_index.search.kept import Kept
from stamp_index.search.sharing import RegionRequest, rings_of
from stamp_index.search.sharing.links import (
    COMPARED,
    LEFT_OUT_OF_REGIONS,
    MAX_REGIONS,
    MAX_WHERE,
)
from stamp_index.view.shapes import even_odd

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from shapely import MultiPolygon, Polygon

    from app.region_colour import Colour
    from app.stores import Opened
    from stamp_index.export import Annotation
    from stamp_index.search.selection import Own
    from stamp_index.store import Modality

MAX_KEPT = 32  # answers, all sessions together


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


@dataclass(frozen=True)
class Asking:
    """What the row of controls says.

    `loaded` is the annotation that asks unless a lasso does, `colour` the gene of both viewers.
    """

    slide_id: str
    question: RegionQuestion
    loaded: Annotation | None
    colour: Colour | None


def controls(opened: Opened) -> Asking:
    """Ask for the query's slide, how its region is asked for, for an annotation that asks, and for a gene."""
    take_over("s")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="regionbar"):
        slide_id = st.selectbox(
            "Query slide",
            list(opened.slides.index),  # as they are: the address holds what the list shows
            key="s",
            bind="query-params",
            width=210,
        )
        looks = [name for name, side in COMPARED.items() if side in opened.searchable]
        by = st.segmented_control(
            "Compare", looks, default=looks[0], required=True, key="as", bind="query-params"
        )
        exclude = st.selectbox(
            "Leave out", list(LEFT_OUT_OF_REGIONS), key="without", bind="query-params", width=150
        )
        k = st.number_input("Regions", 1, MAX_REGIONS, 6, key="k", bind="query-params", width=110)
        colour = region_colour.choose(opened)
        organs, where = _filters(opened)
        annotations.load(opened, slide_id)
        loaded = annotations.choose(slide_id)
    question = RegionQuestion(int(k), LEFT_OUT_OF_REGIONS[exclude], COMPARED[by], organs, where)
    return Asking(slide_id, question, loaded, colour)


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

    shape = even_odd(shape)
    if shape.area == 0:
        msg = "The shape has no area. Draw a larger region."
        raise QueryError(msg)
    return AskedShape(slide_id, shapely.to_wkb(shape), name)


# Not `st.cache_data`: the search tells the page how far it is, which a function cached by Streamlit must not.
_made: Kept[RegionAnswer] = Kept(MAX_KEPT)


def ask_region(
    opened: Opened,
    asked: AskedShape,
    question: RegionQuestion,
    told: Callable[[int, int], object] | None = None,
) -> RegionAnswer:
    """Regions like one of a slide.

    Parameters
    ----------
    opened : Opened
        The store.
    asked : AskedShape
        The region.
    question : RegionQuestion
        How it is asked for.
    told : callable, optional
        Called with the slides that are done and those that there are in all; never for an answer that is kept.

    Raises
    ------
    StampIndexError
        As `Searcher.search_region`.
    """
    key = (*opened.key, asked, question)
    made = _made.get(key, lambda: _answer(opened, asked, question, told))
    if not made.hits.is_whole:
        _made.forget(key)  # shards did not answer: who asks again shall see whether they do
    return made


def _answer(
    opened: Opened,
    asked: AskedShape,
    question: RegionQuestion,
    told: Callable[[int, int], object] | None,
) -> RegionAnswer:
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
    hits = request.run(opened.searcher, progress=told)
    return RegionAnswer(replace(hits, store=None), request, time.perf_counter() - started)


def said(notes: tuple[str, ...]) -> None:
    """What the library wants to be known."""
    for note in notes:
        st.caption(plain(note))
