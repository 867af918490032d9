"""Beside the viewer: the selected spot, and the spots inside the lasso."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app import annotations, frame, markup
from app.api.routes import patch_address
from app.facts import spot_facts
from app.markup import plain
from app.selections import Selection, select
from app.session import hand_over, user
from app.stores import Opened
from stamp_index.addresses import encode_polygon
from stamp_index.errors import QueryError
from stamp_index.view.contrast import MOST_SPOTS, PSEUDO_CP10K, region_contrast

if TYPE_CHECKING:
    import pandas as pd

    from app.viewer import Said

TOP_GENES = 8


def chosen(opened: Opened, slide_id: str, done: Said) -> Selection | None:
    """The spots of the lasso, else of the annotation that was clicked."""
    import shapely

    if done.lasso is not None:
        return select(opened, slide_id, shapely.Polygon(done.lasso))
    at = annotations.place_of(slide_id, done.outline)
    if at is None:
        return None
    one = annotations.held(slide_id)[at]
    return select(opened, slide_id, one.shape(), one.name)


def show(opened: Opened, slide_id: str, done: Said, selection: Selection | None) -> None:
    """Spot card and lasso card; what to do where there is neither."""
    index = done.spot
    n_spots = int(opened.slides.loc[slide_id, "n_spots"])
    if index is not None and 0 <= index < n_spots:
        spot_card(opened, slide_id, int(opened.slides.loc[slide_id, "first_spot"]) + index)
    if selection is not None:
        lasso_card(opened, selection, done)
    if index is None and selection is None:
        st.html(markup.facts(slide_facts(opened, slide_id)))
        st.caption(
            "Click a spot to see what it expresses. Draw a lasso (L) to compare a region with its slide."
        )


def slide_facts(opened: Opened, slide_id: str) -> list[tuple[str, str]]:
    """What is known about a slide."""
    slide = opened.slides.loc[slide_id]
    mpp = float(slide["mpp"])
    rows = [
        ("Slide", slide_id),
        ("Patient", str(slide["patient_id"]) or "not given"),
        ("Organ", str(slide["organ"]) or "not given"),
        ("Disease", str(slide["disease"]) or "not given"),
        ("Platform", str(slide["platform"]) or "not given"),
        ("Spots", f"{int(slide['n_spots']):,}"),
        (
            "Genes",
            f"{int(slide['n_genes']):,}" if slide["n_genes"] else "H&E only, nothing measured",
        ),
        ("Pixel size", f"{mpp:.4g} µm" if math.isfinite(mpp) else "unknown"),
    ]
    if math.isfinite(slide["width_px"]):
        rows.append(("Image", f"{int(slide['width_px']):,} × {int(slide['height_px']):,} px"))
    return rows


def spot_card(opened: Opened, slide_id: str, row: int) -> None:
    """A spot: its picture, its top genes, and what can be done with it."""
    spot_id = str(opened.store.spots(["spot_id"], [row]).iloc[0, 0])
    with st.container(border=True, key="spotcard"):
        st.markdown(f"**{plain(spot_id)}**")
        picture, genes = st.columns([0.42, 0.58], gap="small")
        with picture:
            if opened.store.has_vector("image")[row]:
                width_um = opened.store.card.patch_width_um
                st.html(
                    markup.patch(patch_address(opened, row, user=user()), f"Patch of {spot_id}")
                )
                st.caption(f"{width_um:g} µm wide")
        with genes:
            st.html(markup.value_bars(top_genes(opened, slide_id, row)))
        st.html(markup.facts(spot_facts(opened, slide_id, row)))
        if st.button("Use as query", key="use-spot", width="stretch"):
            st.switch_page(frame.IMAGE_PAGE, query_params={"spot": spot_id})


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def top_genes(opened: Opened, slide_id: str, row: int) -> list[tuple[str, float]]:
    """Genes of most counts at a spot, log1p CP10K; none on plain H&E."""
    counts = opened.store.sparse_counts([row])
    total = float(counts.sum())
    if total <= 0:
        return []
    best = np.argsort(-counts.data, kind="stable")[:TOP_GENES]
    names = opened.store.genes
    return [
        (names[int(counts.indices[at])], float(np.log1p(counts.data[at] * 1e4 / total)))
        for at in best
    ]


def lasso_card(opened: Opened, chosen: Selection, done: Said) -> None:
    """The spots inside a lasso or annotation: how many, how large, and the genes that set them apart."""
    mpp = float(opened.slides.loc[chosen.slide_id, "mpp"])
    area = f" · {chosen.area_mm2(mpp):.2f} mm²" if math.isfinite(mpp) else ""
    n = len(chosen.rows)
    with st.container(border=True, key="lassocard"):
        st.markdown(f"**{plain(chosen.name)}: {n:,} spot{'' if n == 1 else 's'}**{area}")
        if n == 0:
            st.caption("No spot's centre lies inside. Draw a larger region.")
            return
        try:
            table = contrast(opened, chosen)
        except QueryError as error:
            st.caption(plain(str(error)))
        else:
            st.html(markup.contrast_table(table.head(TOP_GENES), table.tail(3)[::-1]))
            st.caption(
                f"log2 fold change of mean CP10K, {PSEUDO_CP10K:g} added to both, against the slide's other spots; of at most "
                f"{MOST_SPOTS:,} spots on each side."
            )
        if st.button("Find similar regions", key="find-regions", width="stretch"):
            asked = {}
            hand_over("s", chosen.slide_id)
            annotation = annotations.place_of(chosen.slide_id, done.outline)
            if done.lasso is not None:
                asked["poly"] = encode_polygon(done.lasso)
            elif annotation is not None:
                annotations.propose(chosen.slide_id, annotation)
            st.switch_page(frame.REGIONS_PAGE, query_params=asked)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs={
    Opened: lambda opened: opened.key, Selection: lambda one: (one.slide_id, one.wkb)})  # fmt: skip
def contrast(opened: Opened, chosen: Selection) -> pd.DataFrame:
    """Genes inside against outside."""
    return region_contrast(opened.store, chosen.rows, chosen.others)
