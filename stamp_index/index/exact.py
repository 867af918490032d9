"""Exact search by cosine, and what approximate search is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Vectors = np.ndarray[Any, np.dtype[np.float16 | np.float32]]

_ROWS: Final = 32_768  # rows scored at once
_QUERIES: Final = 64  # queries scored at once: 8 MB of scores
# A matrix product rounds differently by position; whatever it puts this close below the k-th score
# is scored again the same way for every row. 1e-5 is 100 times the rounding of unit vectors.
_SLACK: Final = 1e-5


def check_queries(queries: NDArray[Any], dim: int, k: int) -> NDArray[np.float32]:
    """Refuse queries that cannot be searched; scale the rest to unit length.

    Parameters
    ----------
    queries : ndarray of shape (q, d), float
        Query vectors.
    dim : int
        Expected d.
    k : int
        Hits per query.

    Returns
    -------
    ndarray of shape (q, d), float32
        Unit vectors, C-contiguous.

    Raises
    ------
    ValueError
        If shape, dtype, values or `k` are wrong.
    """
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.shape[1] != dim:
        msg = f"Queries have shape {queries.shape}; expected (q, {dim}): one row per query."
        raise ValueError(msg)
    if queries.dtype.kind != "f":
        msg = f"Queries have dtype {queries.dtype}; expected float32."
        raise ValueError(msg)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        msg = f"k is {k!r}; expected a whole number of hits, 1 or more."
        raise ValueError(msg)
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    bad = np.flatnonzero(~np.isfinite(lengths))
    if len(bad):
        msg = f"{len(bad)} of {len(queries)} queries hold NaN or infinite values (first: {bad[0]})."
        raise ValueError(msg)
    zero = np.flatnonzero(lengths == 0)
    if len(zero):
        msg = f"Query {zero[0]} is all zeros: it has no direction to compare by cosine."
        raise ValueError(msg)
    return np.ascontiguousarray(queries / lengths[:, None], dtype=np.float32)


def check_allowed(allowed: NDArray[np.bool_], n: int) -> None:
    """Refuse a filter that is not one bool per row.

    Raises
    ------
    ValueError
        If shape or dtype are wrong.
    """
    if allowed.shape != (n,) or allowed.dtype != np.bool_:
        msg = (
            f"The filter is {allowed.dtype} of shape {allowed.shape}; expected bool of shape "
            f"({n},): one value per row."
        )
        raise ValueError(msg)


def exact_search(
    vectors: Vectors,
    queries: NDArray[np.float32],
    k: int,
    *,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search every row.

    Parameters
    ----------
    vectors : ndarray of shape (n, d), float16 or float32
        Unit vectors; may be memory-mapped.
    queries : ndarray of shape (q, d), float32
        Scaled to unit length.
    k : int
        Hits per query.
    allowed : ndarray of shape (n,), bool, optional
        Rows that may be found; all by default.

    Returns
    -------
    scores : ndarray of shape (q, k'), float32
        Cosine, descending; equal scores by ascending row. k' is k, or what is allowed if less.
    rows : ndarray of shape (q, k'), int64
        Row numbers.

    Raises
    ------
    ValueError
        If shapes, dtypes, values or `k` are wrong.
    """
    queries = check_queries(queries, vectors.shape[1], k)
    rows: NDArray[np.int64] | None = None
    if allowed is not None:
        check_allowed(allowed, len(vectors))
        rows = np.flatnonzero(allowed)
    n = len(vectors) if rows is None else len(rows)
    k = min(k, n)
    scores = np.empty((len(queries), k), np.float32)
    found = np.empty((len(queries), k), np.int64)
    if k == 0:
        return scores, found
    for start in range(0, len(queries), _QUERIES):
        block = queries[start : start + _QUERIES]
        for i, candidates in enumerate(_candidates(vectors, block, k, rows), start):
            scores[i], found[i] = rank_exactly(vectors, candidates, queries[i], k)
    return scores, found


def _candidates(
    vectors: Vectors, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None
) -> list[NDArray[np.int64]]:
    """Rows of each query that may be among its best k, by chunks so that memory stays bounded."""
    n = len(vectors) if rows is None else len(rows)
    kept = [np.empty(0, np.int64) for _ in queries]
    kept_scores = [np.empty(0, np.float32) for _ in queries]
    for start in range(0, n, _ROWS):
        stop = min(start + _ROWS, n)
        chunk = np.arange(start, stop) if rows is None else rows[start:stop]
        piece = vectors[start:stop] if rows is None else vectors[chunk]
        block = queries @ np.asarray(piece, dtype=np.float32).T  # (q, chunk)
        for i, scores in enumerate(block):
            bound = _bound(kept_scores[i], k)
            near = np.flatnonzero(scores >= max(bound, _bound(scores, k)))
            merged = np.concatenate([kept_scores[i], scores[near]])
            keep = merged >= _bound(merged, k)
            kept_scores[i] = merged[keep]
            kept[i] = np.concatenate([kept[i], chunk[near]])[keep]
    return kept


def _bound(scores: NDArray[np.float32], k: int) -> float:
    """Score below which a row cannot be among the best k."""
    if len(scores) <= k:
        return -np.inf
    return float(np.partition(scores, len(scores) - k)[len(scores) - k]) - _SLACK


def rank_exactly(
    vectors: Vectors, rows: NDArray[np.int64], query: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Score some rows with one query and keep the best k.

    Every search ends here, so a row has the same score to the last bit however it was found.

    Returns
    -------
    scores : ndarray of shape (min(k, m),), float32
        Cosine, descending; equal scores by ascending row.
    rows : ndarray of shape (min(k, m),), int64
    """
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS):
        piece = vectors[rows[start : start + _ROWS]].astype(np.float32)
        scores[start : start + _ROWS] = np.einsum("nd,d->n", piece, query)
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]


def merge_hits(
    scores: tuple[NDArray[np.float32], NDArray[np.float32]],
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Join the hits of two searches over different rows: (q, a) and (q, b) to (q, min(k, a + b))."""
    all_scores, all_rows = np.concatenate(scores, axis=1), np.concatenate(rows, axis=1)
    order = np.lexsort((all_rows, -all_scores), axis=1)[:, :k]
    return np.take_along_axis(all_scores, order, 1), np.take_along_axis(all_rows, order, 1)


def ann_recall_at_k(found: NDArray[np.int64], exact: NDArray[np.int64], k: int = 10) -> float:
    """Share of the exact top k that approximate search found among its own top k.

    Parameters
    ----------
    found, exact : ndarray of shape (q, at least k or all there are), int64
        Row numbers, best first; -1 counts as not found.
    k : int
        Depth.

    Returns
    -------
    float
        Mean over queries, 0 to 1.

    Raises
    ------
    ValueError
        If the numbers of queries differ, or there are no exact hits.
    """
    if found.ndim != 2 or exact.ndim != 2 or len(found) != len(exact) or k < 1 or exact.size == 0:
        msg = (
            f"Recall at {k} needs hits of the same queries, two tables of shape (q, k); "
            f"got {found.shape} and {exact.shape}."
        )
        raise ValueError(msg)
    exact = exact[:, :k]
    hit = (exact[:, :, None] == found[:, None, :k]).any(axis=2)
    return float(hit.mean())
