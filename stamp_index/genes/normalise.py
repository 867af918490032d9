"""Counts per 10,000, plain and logarithmic, without leaving the sparse format."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.keys import Nums


def cp10k(counts: csr_matrix) -> csr_matrix:
    """Scale every spot to 10,000 counts.

    Parameters
    ----------
    counts : csr_matrix of shape (n, g)
        Raw UMI counts.

    Returns
    -------
    csr_matrix of shape (n, g), float32
        Counts per 10,000 with the sparsity pattern of `counts`. A spot without counts stays zero.
    """
    counts = csr_matrix(counts)
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()  # (n,)
    scale = np.divide(
        Nums.COUNTS_PER_SPOT, totals, out=np.zeros_like(totals), where=totals > 0
    )  # (n,)
    data = counts.data * np.repeat(scale, np.diff(counts.indptr))  # (nnz,)
    return csr_matrix(
        (data.astype(np.float32), counts.indices.copy(), counts.indptr.copy()), shape=counts.shape
    )


def log1p_cp10k(counts: csr_matrix) -> csr_matrix:
    """Natural logarithm of 1 + counts per 10,000: the library's "expression".

    Parameters
    ----------
    counts : csr_matrix of shape (n, g)
        Raw UMI counts.

    Returns
    -------
    csr_matrix of shape (n, g), float32
        Same sparsity pattern as `counts`.
    """
    scaled = cp10k(counts)
    scaled.data = np.log1p(scaled.data)
    return scaled
