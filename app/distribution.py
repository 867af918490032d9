"""How each gene is distributed over the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.search.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from app.stores import Opened

SAMPLE_SPOTS = 4000
MAX_VALUES = 20_000_000  # of a sample: 80 MB
MAX_BYTES = 96 * 1024 * 1024


_sorted: Kept[NDArray[np.float32]] = Kept(MAX_BYTES, lambda values: values.nbytes)
_sampled: Kept[NDArray[np.float32]] = Kept(MAX_BYTES, lambda values: values.nbytes)


def sorted_expression(opened: Opened, gene: str) -> NDArray[np.float32]:
    """Measured log1p CP10K of one gene over the whole store, ascending; empty if on no slide."""
    if gene not in opened.measured:
        return np.empty(0, np.float32)

    def made() -> NDArray[np.float32]:
        values = opened.store.expression([gene])[:, 0]
        return np.sort(values[np.isfinite(values)])

    return _sorted.get((*opened.key, gene), made)


def percentile(opened: Opened, gene: str, value: float) -> float:
    """Share of the store's measured spots with a lower value, in percent; NaN if not measured."""
    return percentile_in(sorted_expression(opened, gene), value)


def percentile_in(ascending: NDArray[np.float32], value: float) -> float:
    """Share of `ascending` below `value`, in percent."""
    if not np.isfinite(value) or len(ascending) == 0:
        return float("nan")
    return 100.0 * float(np.searchsorted(ascending, value, side="left")) / len(ascending)


def sampled_expression(opened: Opened, genes: Sequence[str]) -> NDArray[np.float32]:
    """Expression of a sample of `n_sampled` spots, each column ascending with NaN at its end."""
    return _sampled.get((*opened.key, *genes), lambda: _sample(opened, genes))


def n_sampled(n_genes: int) -> int:
    """Spots that stand for the store where so many genes are compared at once; fewer for a whole transcriptome."""
    return max(200, min(SAMPLE_SPOTS, MAX_VALUES // max(n_genes, 1)))


def _sample(opened: Opened, genes: Sequence[str]) -> NDArray[np.float32]:
    rows = opened.store.rows()
    if opened.plain_slides:  # their spots would only add NaN
        measured = ~opened.slides["n_genes"].eq(0).to_numpy()
        rows = rows[opened.store.mask_of(measured)[rows]]
    if len(rows) > (most := n_sampled(len(genes))):
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    return np.sort(opened.store.expression(list(genes), rows), axis=0)
