"""The parts of the page of similar regions: query viewer, hit viewer, table, genes, downloads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import shapely
import streamlit as st

from app import annotations, markup, region_files
from app.components import short_key
from app.markup import plain
from app.region_asking import AskedShape, RegionAnswer, asked_shape, said
from app.selections import others_of
from app.slide_controls import lasso_of_address
from app.stores import Opened
from app.viewer import Outline, Shown, viewer
from stamp_index.errors import QueryError
from stamp_index.view.contrast import region_contrast

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from streamlit.delta_generator import DeltaGenerator

    from app.viewer import Polygon as ViewerPolygon
    from stamp_index.export import Annotation

TOP = 30  # genes of a region that may be shared
SHOWN_GENES = 10
MARGIN = 1.6  # of tissue around a hit, as a multiple of its width
HEIGHT = "clamp(320px, calc(100vh - 430px), 620px)"


def query_viewer(opened: Opened, slide_id: str, loaded: Annotation | None) -> AskedShape | None:
    """The query's slide with a lasso; returns the region that is asked with.

    That is the lasso, else the annotation that was clicked, else `loaded`.
    """
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
        ),
        key="query",
        height=HEIGHT,
    )
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


def show(opened: Opened, asked: AskedShape, answer: RegionAnswer, right: DeltaGenerator) -> None:
    """Hit viewer at the right; table, genes and downloads below both."""
    with right:
        place = st.container()
    picked = _table(opened, answer)
    with place:
        said(answer.hits.notes)
        if picked is None:
            st.info("No region was found. Relax the filters, or leave out less.")
            return
        _hit_viewer(opened, answer, picked)
    _genes(opened, asked, answer, picked)
    region_files.show(opened, answer, picked)


def _table(opened: Opened, answer: RegionAnswer) -> int | None:
    """Regions, best first; returns the picked one."""
    n = len(answer.table)
    if n == 0:
        return None
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.markdown(
            f"**{n} region{'s' if n > 1 else ''}** · {len(answer.hits.query_rows):,} spots asked · "
            f"{len(answer.hits.slides)} of {len(opened.slides)} slides looked at closely · "
            f"{answer.seconds * 1000:.0f} ms",
            width="content",
        )
        st.toggle("Link zoom", value=True, key="linkzoom")
    columns = [
        "rank",
        "slide_id",
        "patient_id",
        "organ",
        "score",
        "composition",
        "content",
        "n_spots",
    ]
    shown = answer.table[columns].assign(area_mm2=answer.table["area_um2"] / 1e6)
    event = st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=min(38 + 35 * n, 250),
        key=f"regions-{short_key(answer.hits.query, answer.table['score'].tolist())}",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            name: st.column_config.NumberColumn(format="%.3f")
            for name in ("score", "composition", "content", "area_mm2")
        },
    )
    chosen = event.selection.rows
    return int(chosen[0]) if chosen else 0


def _hit_viewer(opened: Opened, answer: RegionAnswer, picked: int) -> None:
    hit = answer.table.iloc[picked]
    slide_id = str(hit["slide_id"])
    same = [at for at in range(len(answer.table)) if answer.table["slide_id"].iloc[at] == slide_id]
    outlines = [
        Outline(str(at), f"#{at + 1}", (tuple(answer.hits.outlines[at].exterior.coords),), "hit")
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
        ),
        key="hit",
        height=HEIGHT,
    )
    st.caption(
        plain(
            f"#{picked + 1} on slide {slide_id}: {int(hit['n_spots']):,} spots, score {hit['score']:.3f}"
        )
    )


def _genes(opened: Opened, asked: AskedShape, answer: RegionAnswer, picked: int) -> None:
    """Genes that set the query apart on its slide, beside the same genes of the hit."""
    hit_slide = str(answer.table["slide_id"].iloc[picked])
    plain_ones = {asked.slide_id, hit_slide} & opened.plain_slides
    if plain_ones:
        st.caption(
            f"Slide {plain(', '.join(sorted(plain_ones)))} is H&E only: no genes to compare."
        )
        return
    try:
        query = contrast(opened, asked.slide_id, answer.hits.query_rows)
        hit = contrast(opened, hit_slide, answer.hits.rows[picked])
    except QueryError as error:
        st.caption(plain(str(error)))
        return
    shared = [gene for gene in query["gene"].head(TOP) if gene in set(hit["gene"].head(TOP))]
    table = query.head(SHOWN_GENES)[["gene", "log2fc"]].merge(
        hit[["gene", "log2fc"]], on="gene", how="left", suffixes=("", "_hit")
    )
    st.markdown(f"**Region and hit #{picked + 1}, gene by gene**")
    st.html(markup.pair_bars(table))
    words = ", ".join(shared[:12]) or "none"
    st.caption(
        f"log2 fold change of mean CP10K against the rest of each slide. Among the {TOP} most raised of both: "
        f"{plain(words)}."
    )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def contrast(opened: Opened, slide_id: str, rows: NDArray) -> pd.DataFrame:
    """Genes of a region against the rest of its slide."""
    return region_contrast(opened.store, rows, others_of(opened, slide_id, rows))
