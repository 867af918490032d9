"""How well each gene is predicted in the store that is shown, and how near pictures usually come to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.gene_names import predictable_genes
from app.stores import Against, Opened
from stamp_index.errors import QueryError
from stamp_index.search.asking import DEFAULT_K
from stamp_index.search.domain import Reach, store_reach
from stamp_index.search.reliability import N_SPOTS, held_out, prediction_reliability

if TYPE_CHECKING:
    import pandas as pd

MANY_GENES = 4000  # from which on fewer spots are drawn, as the work grows with both
FEW_SPOTS = 200


def correlations(opened: Opened, against: Against) -> pd.Series | None:
    """Held-out correlation r of each predictable gene, by its name; None where nothing can be held out."""
    try:
        return _correlations(opened, against)
    except QueryError:
        return None


def basis(opened: Opened) -> str:
    """What the predictions that were correlated do not rest on, in words."""
    return {"patient": "patients", "slide": "slides"}.get(held_out(opened.store), "slides")


@st.cache_data(
    max_entries=8,
    show_spinner="Measuring how well genes are predicted here …",
    hash_funcs={Opened: lambda opened: opened.key},
)
def _correlations(opened: Opened, against: Against) -> pd.Series:
    genes = predictable_genes(opened)
    table = prediction_reliability(
        opened.searcher,
        genes,
        against=against,
        k=min(DEFAULT_K, opened.store.n_spots),
        n_spots=N_SPOTS if len(genes) <= MANY_GENES else FEW_SPOTS,
    )
    return table.set_index("gene")["r"]


def reach(opened: Opened, against: Against) -> Reach | None:
    """How near the store's own spots come to other slides; None where there is one slide."""
    try:
        return _reach(opened, against)
    except QueryError:
        return None


@st.cache_data(max_entries=8, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def _reach(opened: Opened, against: Against) -> Reach:
    return store_reach(opened.searcher, against=against)
