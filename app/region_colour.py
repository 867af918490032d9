"""The gene that colours the spots of both viewers on the page of similar regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.distribution import sorted_expression
from app.gene_names import stored_gene
from app.markup import plain
from app.query_bar import gene_box
from stamp_index.errors import QueryError

if TYPE_CHECKING:
    from app.stores import Opened

TOP_SHARE = 0.99  # of the store's measured spots lie below the end of the colours


@dataclass(frozen=True)
class Colour:
    """A gene of the store, and the values at the two ends of its colours."""

    gene: str
    ends: tuple[float, float]  # log1p CP10K, the same on all slides


def choose(opened: Opened) -> Colour | None:
    """Ask for a gene; None for bare spots, which is what the page opens with."""
    typed = gene_box(opened, "", key="genebox")
    if not typed:
        return None
    try:
        gene = stored_gene(opened, typed)
    except QueryError as error:
        st.error(plain(str(error)))
        return None
    return Colour(gene, _ends(opened, gene))


def _ends(opened: Opened, gene: str) -> tuple[float, float]:
    """From 0 to what a hundredth of the store's measured spots exceed: one colour is one value on every slide."""
    values = sorted_expression(opened, gene)
    high = float(values[int(TOP_SHARE * (len(values) - 1))])
    return 0.0, high or float(values[-1]) or 1.0


def is_shown(opened: Opened, slide_id: str, colour: Colour | None) -> bool:
    """Whether a slide measured the gene; on this page nothing is predicted."""
    return colour is not None and colour.gene in opened.store.genes_of(slide_id)


def lacking(opened: Opened, slide_id: str, colour: Colour | None) -> str:
    """Why the spots of a slide stay bare, as one sentence; "" where they do not, or are meant to."""
    if colour is None or is_shown(opened, slide_id, colour):
        return ""
    return f"Slide {slide_id} did not measure {colour.gene}: its spots stay bare."
