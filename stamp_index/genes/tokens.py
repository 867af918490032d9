"""Rank tokens: a spot as the list of its genes, most over-expressed first.

The scheme is that of STAMP and UMPIRE (Hanminghao/STAMP @78c4fd2, ``tokenize_and_encode.py``),
without their rounding of the means (see `compat_means`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PAD: Final = 0
MASK: Final = 2  # a hidden gene; only in the inputs of stage 1, never stored
TOKEN_OFFSET: Final = 30  # ids 0-29 are reserved (padding, mask, CLS), as in the published models


def rank_tokens(
    counts: csr_matrix, means: Sequence[float] | NDArray[np.float64], context: int
) -> NDArray[np.int32]:
    """Turn aligned counts into rank tokens.

    Each spot is scaled to 10,000, every gene is divided by its mean over spots that express it, and
    the genes are sorted by that ratio, highest first; equal ratios keep column order. A token is the
    gene's column plus 30.

    Parameters
    ----------
    counts : csr_matrix of shape (n, g)
        Raw counts whose columns are the panel's genes (`GenePanel.align`).
    means : array-like of shape (g,)
        Mean non-zero counts per 10,000 of each gene, above 0 (`GenePanel.means`).
    context : int
        Number of tokens kept per spot, at least 1.

    Returns
    -------
    ndarray of shape (n, context), int32
        Tokens, padded with 0 at the end.

    Raises
    ------
    ValueError
        If shapes disagree, a mean is not above 0, or a count is negative.

    Notes
    -----
    Scaling a spot to 10,000 multiplies all its ratios by one number, so it cannot change their order;
    it is left out, which also keeps equal ratios exactly equal.
    """
    counts = csr_matrix(counts)
    divisor = np.asarray(means, dtype=np.float64)  # (g,)
    _check(counts, divisor, context)
    n, _ = counts.shape
    row = np.repeat(np.arange(n), np.diff(counts.indptr))  # (nnz,)
    kept = counts.data > 0
    row, column = row[kept], counts.indices[kept].astype(np.int64)
    ratio = counts.data[kept].astype(np.float64) / divisor[column]  # (nnz,)
    order = np.lexsort((column, -ratio, row))
    row, column = row[order], column[order]
    starts = np.searchsorted(row, np.arange(n))  # (n,) first entry of each spot
    rank = np.arange(row.size) - starts[row] if row.size else np.zeros(0, dtype=np.int64)
    tokens = np.full((n, context), PAD, dtype=np.int32)
    inside = rank < context
    tokens[row[inside], rank[inside]] = column[inside] + TOKEN_OFFSET
    return tokens


def compat_means(means: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Round means to whole numbers (half up, 0 becomes 1), as the published STAMP code does.

    Only for reading checkpoints that were trained that way: it makes nearly half of the divisors 1.

    Parameters
    ----------
    means : array-like of shape (g,)
        Means before rounding.

    Returns
    -------
    ndarray of shape (g,), float64
        Whole numbers, at least 1.
    """
    return np.maximum(np.floor(np.asarray(means, dtype=np.float64) + 0.5), 1.0)


def _check(counts: csr_matrix, means: NDArray[np.float64], context: int) -> None:
    if means.ndim != 1 or means.shape[0] != counts.shape[1]:
        msg = (
            f"means has shape {means.shape}, but counts has {counts.shape[1]} columns; "
            "align the counts to the panel first (GenePanel.align)."
        )
        raise ValueError(msg)
    if not np.all(np.isfinite(means)) or np.any(means <= 0):
        msg = f"means must be finite and above 0; the smallest is {means.min():g}."
        raise ValueError(msg)
    if context < 1:
        msg = f"context is {context}; it must be at least 1."
        raise ValueError(msg)
    if counts.nnz and counts.data.min() < 0:
        msg = f"counts holds a negative value, {counts.data.min():g}; pass raw UMI counts."
        raise ValueError(msg)
