"""The parts of the page of similar regions: query viewer, hit viewer, table, genes, downloads."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import shapely
import streamlit as st

from app import annotations, components, region_colour, region_files, region_genes
from app.components import short_key
from app.markup import plain
from app.region_asking import AskedShape, RegionAnswer, asked_shape, said
from app.region_progress import Working
from app.slide_controls import lasso_of_address
from app.viewer import Outline, Shown, viewer
from stamp_index.errors import QueryError

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from app.region_asking import Asking
    from app.region_colour import Colour
    from app.stores import Opened
    from app.viewer import Polygon as ViewerPolygon
    from stamp_index.export import Annotation

MARGIN = 1.6  # of tissue around a hit, as a multiple of its width
COLUMNS = (
    "rank",
    "slide_id",
    "patient_id",
    "organ",
    "score",
    "composition",
    "content",
    "n_spots",
)
SCORES = {
    "score": "Composition times content.",
    "composition": "How alike the shares of the query's kinds of tissue are: Bhattacharyya coefficient, 1 where they are the same.",
    "content": "How alike spots of the same kind are, both ways: a mean of cosines.",
}
HEIGHT = "clamp(360px, calc(100vh - 430px), 620px)"


def query_viewer(opened: Opened, asking: Asking) -> AskedShape | None:
    """The query's slide with a lasso; returns the region that is asked with.

    That is the lasso, else the annotation that was clicked, else the one that was chosen.
    """
    slide_id, loaded = asking.slide_id, asking.loaded
    lasso = lasso_of_address(slide_id)
    start = _start(opened, slide_id, lasso, loaded)
    done = viewer(
        opened,
        slide_id,
        Shown(
            outlines=annotations.outlines(slide_id),
            focus=start,
            focus_stamp=short_key(slide_id, start),
            lasso=lasso,
            lasso_stamp="address",
            group="regions" if st.session_state.get("linkzoom", True) else "",
            in_address=True,
            **_coloured(opened, slide_id, asking.colour),
        ),
        key="query",
        height=HEIGHT,
    )
    if bare := region_colour.lacking(opened, slide_id, asking.colour):
        st.caption(plain(bare))
    clicked = annotations.place_of(slide_id, done.outline)
    if clicked is not None:
        loaded = annotations.held(slide_id)[clicked]
    if done.lasso is None and loaded is None:
        return None
    try:
        if done.lasso is not None:
            return asked_shape(slide_id, shapely.Polygon(done.lasso), "the lasso")
        return asked_shape(slide_id, loaded.shape(), loaded.name)
    except QueryError as error:
        st.warning(plain(str(error)))
        return None


def _start(
    opened: Opened, slide_id: str, lasso: ViewerPolygon | None, loaded: Annotation | None
) -> tuple[float, float, float] | None:
    """Where the query's viewer goes: to the lasso that the address came with, or to an annotation that is chosen.

    What is drawn later is in sight already, and an address that says a view is followed.
    """
    came = f"came-{slide_id}"
    if came not in st.session_state:
        st.session_state[came] = None if "view" in st.query_params else lasso
    if st.session_state[came] is not None:
        return _around(opened, slide_id, shapely.Polygon(st.session_state[came]).bounds)
    if loaded is not None and lasso is None:
        return _around(opened, slide_id, loaded.shape().bounds)
    return None


def _around(
    opened: Opened, slide_id: str, bounds: tuple[float, float, float, float]
) -> tuple[float, float, float]:
    """Middle of a box, and the width to show with some tissue around it, as a viewer takes them."""
    left, top, right, bottom = bounds
    mpp = float(opened.slides.loc[slide_id, "mpp"])
    width = max(right - left, bottom - top) * MARGIN * (mpp if math.isfinite(mpp) else 1.0)
    return (left + right) / 2, (top + bottom) / 2, width


def nothing_yet(opened: Opened) -> None:
    """What to do, before there is a region."""
    st.info(
        "Draw a region on the slide at the left (press L, or the lasso button), or load annotations from QuPath. "
        "At least five spots must lie inside."
    )
    if len(opened.slides) < 2:
        st.caption("This store has one slide: leave out nothing, or there is nowhere to look.")


def _coloured(opened: Opened, slide_id: str, colour: Colour | None) -> dict[str, Any]:
    """How a viewer colours the spots of a slide."""
    if colour is None or not region_colour.is_shown(opened, slide_id, colour):
        return {}
    return {"layer": {"gene": colour.gene}, "ends": colour.ends}


def show(
    opened: Opened,
    asked: AskedShape,
    answer: RegionAnswer,
    *,
    colour: Colour | None,
    right: DeltaGenerator,
) -> None:
    """Hit viewer at the right; table, genes and downloads below both."""
    with right:
        said(answer.hits.notes)
        if not len(answer.table):
            st.info("No region was found. Relax the filters, or leave out less.")
            return
        picked = _picked(answer)
        _hit_viewer(opened, answer, picked, colour)
    _summary(opened, answer, picked)
    _table(opened, asked, answer)
    region_genes.show(opened, asked, answer, picked)
    region_files.show(opened, answer, picked)


def _key(answer: RegionAnswer) -> str:
    """Name of the table of these regions."""
    return f"regions-{short_key(answer.hits.query, answer.table['score'].tolist())}"


def _picked(answer: RegionAnswer) -> int:
    """Row of the picked region. It is read before the table is drawn, whose genes take longer than the hit's slide."""
    held = st.session_state.get(_key(answer))
    rows = held["selection"]["rows"] if held else []
    return int(rows[0]) if rows and rows[0] < len(answer.table) else 0


def _pick(key: str, rank: int) -> None:
    st.session_state[key] = {"selection": {"rows": [rank - 1], "columns": [], "cells": []}}


def _summary(opened: Opened, answer: RegionAnswer, picked: int) -> None:
    """How many regions there are, which is picked, and whether the viewers keep one zoom."""
    n = len(answer.table)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.markdown(
            f"**{n} region{'s' if n > 1 else ''}** · {len(answer.hits.query_rows):,} spots asked · "
            f"{len(answer.hits.slides)} of {len(opened.slides)} slides looked at closely · "
            f"{answer.seconds * 1000:.0f} ms",
            width="content",
        )
        key = _key(answer)
        components.stepper(n, picked + 1, key=key, on_step=partial(_pick, key))
        st.toggle("Link zoom", value=True, key="linkzoom")


def _table(opened: Opened, asked: AskedShape, answer: RegionAnswer) -> None:
    """Regions, best first, with the genes that they share with the query; a row picks one."""
    working = Working()
    genes = region_genes.column(opened, asked, answer, working.hits)
    working.done()
    shown = answer.table[list(COLUMNS)].assign(
        area_mm2=answer.table["area_um2"] / 1e6, shared_genes=genes
    )
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=min(38 + 35 * len(shown), 250),
        key=_key(answer),
        on_select="rerun",
        selection_mode="single-row-required",
        column_config=_columns(),
    )


def _columns() -> dict[str, Any]:
    """What the columns of the table are called, and how their numbers are written."""
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        "rank": number("#", width="small"),
        "slide_id": text("Slide"),
        "patient_id": text("Patient"),
        "organ": text("Organ"),
        "n_spots": number("Spots"),
        "area_mm2": number("Area, mm²", format="%.3f"),
        **{name: number(name.title(), format="%.3f", help=about) for name, about in SCORES.items()},
        "shared_genes": text("Shared genes", width="large", help=region_genes.SHARED_HELP),
    }


def _hit_viewer(opened: Opened, answer: RegionAnswer, picked: int, colour: Colour | None) -> None:
    hit = answer.table.iloc[picked]
    slide_id = str(hit["slide_id"])
    same = [at for at in range(len(answer.table)) if answer.table["slide_id"].iloc[at] == slide_id]
    outlines = [
        Outline(str(at), f"#{at + 1}", annotations.rings(answer.hits.outlines[at]), "hit")
        for at in same
    ]
    linked = st.session_state.get("linkzoom", True)
    viewer(
        opened,
        slide_id,
        Shown(
            outlines=outlines,
            focus=_around(opened, slide_id, answer.hits.outlines[picked].bounds),
            focus_stamp=short_key(answer.hits.query, picked),
            group="regions" if linked else "",
            tools=("pan",),
            **_coloured(opened, slide_id, colour),
        ),
        key="hit",
        height=HEIGHT,
    )
    about = f"#{picked + 1} on slide {slide_id}: {int(hit['n_spots']):,} spots, score {hit['score']:.3f}. "
    st.caption(plain(about + region_colour.lacking(opened, slide_id, colour)))
