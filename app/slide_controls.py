"""Which slide is shown and how its spots are coloured; the address holds it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.facts import slide_name
from app.gene_names import example_genes
from app.markup import plain
from app.query_controls import close_genes
from app.viewer import polygon_of
from stamp_index.errors import QueryError, StampIndexError
from stamp_index.genes import GeneResolver

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
            slide_ids,
            key="s",
            bind="query-params",
            format_func=lambda name: slide_name(opened, name),
            width=280,
        )
        way = st.segmented_control(
            "Colour spots by", ways, default=GENE, required=True, key="by", bind="query-params"
        )
        if way == GENE:
            return slide_id, _gene(opened)
        if way == LABEL:
            label = st.selectbox(
                "Label", opened.store.label_names, key="label", bind="query-params", width=200
            )
            return slide_id, {"label": label}
    return slide_id, None


def _gene(opened: Opened) -> dict[str, str] | None:
    genes = example_genes(opened)
    if not genes:
        return None
    first = next((gene for gene in ("EPCAM", "CD8A") if gene in genes), genes[0])
    typed = st.text_input(
        "Gene", value=first, key="gene", bind="query-params", max_chars=60, width=170
    )
    try:
        found = GeneResolver(opened.store.genes, opened.store.gene_ids).resolve([typed.strip()])
    except QueryError as error:
        st.error(plain(str(error)))
        return None
    except StampIndexError:
        near = ", ".join(close_genes(opened, typed)) or "no gene of this store is close"
        st.error(plain(f"{typed} was measured on no slide of this store. Did you mean {near}?"))
        return None
    return {"gene": next(iter(found.values()))}


def lasso_of_address() -> Polygon | None:
    """The polygon in the page's address; None where there is none or it is no polygon."""
    text = st.query_params.get("poly", "")
    try:
        steps = [int(part) for part in text.split(".")] if text else []
    except ValueError:
        return None
    x = y = 0
    corners = []
    for dx, dy in zip(steps[::2], steps[1::2], strict=False):
        x, y = x + dx, y + dy
        corners.append((x, y))
    return polygon_of(corners) if len(steps) % 2 == 0 else None


def selected_of_address(opened: Opened, slide_id: str) -> int | None:
    """Number on the slide of the spot that the address names."""
    spot_id = st.query_params.get("spot", "")
    if not spot_id.startswith(f"{slide_id}:"):
        return None
    try:
        return opened.store.row_of(spot_id) - int(opened.slides.loc[slide_id, "first_spot"])
    except QueryError:
        return None
