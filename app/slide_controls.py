"""Which slide is shown and how its spots are coloured; the address holds it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import markup
from app.gene_names import example_genes, stored_gene
from app.markup import plain
from app.predictions import needs_prediction, prediction
from app.query_bar import gene_box
from app.viewer import polygon_of
from stamp_index.addresses import decode_polygon
from stamp_index.errors import QueryError, StampIndexError
from stamp_index.search.maps import N_NEIGHBOURS

if TYPE_CHECKING:
    from app.stores import Opened
    from app.viewer import Polygon

GENE, LABEL, NOTHING = "Gene", "Label", "Nothing"


def choose(opened: Opened) -> tuple[str, dict[str, str] | None]:
    """Ask for a slide and a layer.

    Returns
    -------
    (str, dict or None)
        Id of the slide, and ``{"gene": name}`` or ``{"label": name}``; None for bare spots.
    """
    slide_ids = list(opened.slides.index)
    ways = [way for way in (GENE, LABEL, NOTHING) if way != LABEL or opened.store.label_names]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="slidebar"):
        slide_id = st.selectbox(
            "Slide",
            slide_ids,  # as they are: the address holds what the list shows
            key="s",
            bind="query-params",
            width=280,
        )
        way = st.segmented_control(
            "Colour spots by", ways, default=GENE, required=True, key="by", bind="query-params"
        )
        if way == GENE:
            return slide_id, _gene(opened, slide_id)
        if way == LABEL:
            label = st.selectbox(
                "Label", opened.store.label_names, key="label", bind="query-params", width=200
            )
            return slide_id, {"label": label}
    return slide_id, None


def _gene(opened: Opened, slide_id: str) -> dict[str, str] | None:
    genes = opened.store.genes or example_genes(opened)
    if not genes:
        return None
    first = next((gene for gene in ("EPCAM", "CD8A") if gene in genes), genes[0])
    typed = gene_box(opened, first, key="genebox")
    if not typed:
        return None
    try:
        gene = stored_gene(opened, typed)
    except QueryError as error:
        st.error(plain(str(error)))
        return None
    return {"gene": gene} if _predicted(opened, slide_id, gene) else None


def _predicted(opened: Opened, slide_id: str, gene: str) -> bool:
    """Whether a gene can be shown; one that the slide did not measure is predicted, which is said."""
    if not needs_prediction(opened, slide_id, gene):
        return True
    try:
        with st.spinner(f"Predicting {gene} on this slide …", show_time=True):
            made = prediction(opened, slide_id, gene)
    except StampIndexError as error:
        st.info(plain(str(error)))
        return False
    n = len(made.slides)
    st.html(markup.badge(f"{gene}: {made.note}"), width="content")
    st.caption(
        f"From the {N_NEIGHBOURS} spots whose measured profiles fit each place's picture best, on {n} "
        f"slide{'s' if n > 1 else ''} that measured it.",
        width="content",
    )
    return True


def lasso_of_address(slide_id: str) -> Polygon | None:
    """The polygon in the page's address; None where there is none, it is no polygon, or it was drawn on another slide."""
    if st.query_params.get("polyof", slide_id) != slide_id:
        return None
    try:
        return polygon_of(decode_polygon(st.query_params.get("poly", "")))
    except QueryError:
        return None


def selected_of_address(opened: Opened, slide_id: str) -> int | None:
    """Number on the slide of the spot that the address names."""
    spot_id = st.query_params.get("spot", "")
    if not spot_id.startswith(f"{slide_id}:"):
        return None
    try:
        return opened.store.row_of(spot_id) - int(opened.slides.loc[slide_id, "first_spot"])
    except QueryError:
        return None
