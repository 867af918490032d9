"""How each gene is distributed over the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.stores import Opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SAMPLE_SPOTS = 4000  # spots that stand for the store where every gene is compared at once


@st.cache_data(max_entries=512, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def sorted_expression(opened: Opened, gene: str) -> NDArray[np.float32]:
    """Measured log1p CP10K of one gene over the whole store, ascending; empty if on no slide."""
    if gene not in opened.measured:
        return np.empty(0, np.float32)
    values = opened.store.expression([gene])[:, 0]
    return np.sort(values[np.isfinite(values)])


def percentile(opened: Opened, gene: str, value: float) -> float:
    """Share of the store's measured spots with a lower value, in percent; NaN if not measured."""
    return percentile_in(sorted_expression(opened, gene), value)


def percentile_in(ascending: NDArray[np.float32], value: float) -> float:
    """Share of `ascending` below `value`, in percent."""
    if not np.isfinite(value) or len(ascending) == 0:
        return float("nan")
    return 100.0 * float(np.searchsorted(ascending, value, side="left")) / len(ascending)


@st.cache_data(max_entries=4, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def sampled_expression(opened: Opened, genes: Sequence[str]) -> NDArray[np.float32]:
    """Expression of at most `SAMPLE_SPOTS` spots, each column ascending with NaN at its end."""
    rows = opened.store.rows()
    if opened.plain_slides:  # their spots would only add NaN
        measured = ~opened.slides["n_genes"].eq(0).to_numpy()
        rows = rows[opened.store.mask_of(measured)[rows]]
    if len(rows) > SAMPLE_SPOTS:
        rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE_SPOTS, replace=False))
    return np.sort(opened.store.expression(list(genes), rows), axis=0)
