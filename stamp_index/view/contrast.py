"""What sets some spots apart from the others of their slide: genes by fold change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError
from stamp_index.keys import Nums

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.store.view import StoreView

MOST_SPOTS: Final = 3000  # of each side; more are sampled, as a mean needs no more
PSEUDO_CP10K: Final = 0.5  # keeps genes that are hardly there from leading the table
MIN_SHARE: Final = 0.1  # of the spots of one side must have a gene


def region_contrast(store: StoreView, inside: ArrayLike, outside: ArrayLike) -> pd.DataFrame:
    """Compare the mean expression of genes inside and outside a region of one slide.

    Parameters
    ----------
    store : Store
    inside, outside : array of int
        Row ids of the two sides, of slides with counts. Of more than 3,000 a side is a seeded sample.

    Returns
    -------
    DataFrame
        gene, log2fc (of mean CP10K, each plus 0.5), mean_in and mean_out (CP10K), share_in and share_out (of spots with a
        count), largest fold change first. Genes that a tenth of either side has.

    Raises
    ------
    QueryError
        If a side has no spot with counts.
    """
    means, shares = zip(*(_side(store, rows) for rows in (inside, outside)), strict=True)
    fold = np.log2((means[0] + PSEUDO_CP10K) / (means[1] + PSEUDO_CP10K))
    table = pd.DataFrame(
        {
            "gene": store.genes,
            "log2fc": fold,
            "mean_in": means[0],
            "mean_out": means[1],
            "share_in": shares[0],
            "share_out": shares[1],
        }
    )
    table = table[np.maximum(shares[0], shares[1]) >= MIN_SHARE]
    ranked: pd.DataFrame = table.sort_values(
        "log2fc", ascending=False, kind="stable", ignore_index=True
    )
    return ranked


def _side(store: StoreView, rows: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean CP10K and share of spots with a count, for each gene."""
    at = np.asarray(rows, np.int64)
    if len(at) > MOST_SPOTS:
        at = np.sort(np.random.default_rng(0).choice(at, MOST_SPOTS, replace=False))
    counts: csr_matrix = store.sparse_counts(at)
    totals = np.asarray(counts.sum(axis=1), np.float64).ravel()
    kept = totals > 0
    if not kept.any():
        msg = "None of these spots has counts, so no genes can be compared. Choose spots of a slide with counts."
        raise QueryError(msg)
    counts = counts[kept]
    scale = Nums.COUNTS_PER_SPOT / totals[kept]
    mean = np.asarray(counts.T @ scale).ravel() / len(scale)
    share = np.asarray(counts.getnnz(axis=0), np.float64) / len(scale)
    return mean, share
