"""Exact search by cosine, and what approximate search is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.halves import Vectors, as_float32, half_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]

__all__ = ["Vectors", "ann_recall_at_k", "check_allowed", "check_queries", "exact_search"]

# FAISS and BLAS round by the shape of what they compare; whatever they put this close below the
# k-th score is scored again the same way for every row. 1e-5 is 100 times the rounding of unit
# vectors.
SLACK: Final = 1e-5
_UNIT: Final = 1e-7
_ROWS: Final = 16_384  # rows compared at once: 32 MB as float32 at d = 512
_QUERIES: Final = 1_024  # queries compared at once
_SPARE: Final = 6  # candidates besides k, where no more lie within the rounding of the last hit
_TWINS: Final = 16  # queries whose rows within rounding of the last hit are held at once
# Queries from which rows are converted for a matrix product. Float16 as it lies takes 82 us for
# 1,000 rows and one query; converting them 500 us, and then 15 us a query (d = 512, one core).
_CONVERT_FROM: Final = 12


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
    wide = queries.astype(np.float64)
    lengths = np.sqrt(np.einsum("qd,qd->q", wide, wide))  # each row for itself, whatever the batch
    if len(lengths) and not (lengths.min() > 0 and lengths.max() < np.inf):
        _refuse_directionless(lengths)
    # Scaled once they stay as they are, to the last bit: float32 leaves a length within 6e-8 of 1.
    lengths[np.abs(lengths - 1) < _UNIT] = 1
    return np.ascontiguousarray(wide / lengths[:, None], dtype=np.float32)


def _refuse_directionless(lengths: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~np.isfinite(lengths))
    if len(bad):
        msg = f"{len(bad)} of {len(lengths)} queries hold NaN or infinite values (first: {bad[0]})."
        raise ValueError(msg)
    zero = np.flatnonzero(lengths == 0)
    msg = f"Query {zero[0]} is all zeros: it has no direction to compare by cosine."
    raise ValueError(msg)


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
) -> Hits:
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
    if allowed is None:
        return search_pieces(vectors, queries, k, [(0, len(vectors))])
    check_allowed(allowed, len(vectors))
    rows = np.flatnonzero(allowed)
    return search_pieces(vectors, queries, k, [rows])


def search_pieces(
    vectors: Vectors,
    queries: NDArray[np.float32],
    k: int,
    pieces: Sequence[tuple[int, int] | NDArray[np.int64]],
) -> Hits:
    """Search some rows exactly: stretches (start, stop), which are read where they lie, or lists of rows.

    Parameters
    ----------
    vectors, queries, k
        As in `exact_search`; the queries are of unit length.
    pieces : sequence of (int, int) or ndarray of int64
        Rows to compare, none of them twice.

    Returns
    -------
    scores, rows : ndarray of shape (q, k'), float32 and int64
        As in `exact_search`.
    """
    n = sum(len(p) if isinstance(p, np.ndarray) else p[1] - p[0] for p in pieces)
    k = min(int(k), n)
    scores = np.empty((len(queries), k), np.float32)
    found = np.empty((len(queries), k), np.int64)
    width = min(n, k + max(_SPARE, k // 8))
    for start in range(0, len(queries) if k else 0, _QUERIES):
        block = queries[start : start + _QUERIES]
        near, rows = _nearest(vectors, block, width, pieces)
        least = near[:, k - 1] - SLACK
        # Where more rows than are kept lie within rounding of the last hit, as twins do, all of them are seen.
        unsure = start + np.flatnonzero((near[:, -1] >= least) & (width < n))
        if not _as_it_lies(vectors, block):
            near = np.stack([score(vectors, *pair) for pair in zip(rows, block, strict=True)])
        stop = start + len(block)
        scores[start:stop], found[start:stop] = in_order(near, rows, k)
        for at in range(0, len(unsure), _TWINS):
            some = unsure[at : at + _TWINS]
            seen = _no_less(vectors, queries[some], least[some - start], pieces)
            for i, these in zip(some, seen, strict=True):
                whole = score(vectors, these, queries[i])[None]
                scores[i], found[i] = (one[0] for one in in_order(whole, these[None], k))
    return scores, found


def _as_it_lies(vectors: Vectors, queries: NDArray[np.float32]) -> bool:
    """Whether float16 rows are compared without converting them."""
    return vectors.dtype == np.float16 and len(queries) < _CONVERT_FROM


def _nearest(
    vectors: Vectors,
    queries: NDArray[np.float32],
    width: int,
    pieces: Sequence[tuple[int, int] | NDArray[np.int64]],
) -> Hits:
    """Best `width` rows of each query, up to rounding; by chunks so that memory stays bounded."""
    faiss = load_faiss()
    best = np.full((len(queries), width), -np.inf, np.float32)
    rows = np.full((len(queries), width), -1, np.int64)
    for chunk, numbers in _chunks(vectors, pieces):
        most = min(width, len(chunk))
        if _as_it_lies(vectors, queries):
            scores, near = half_index(chunk).search(queries, most)  # type: ignore[arg-type]
        else:
            metric = faiss.METRIC_INNER_PRODUCT
            scores, near = faiss.knn(queries, as_float32(chunk), most, metric=metric)
        best, rows = merge_hits((best, scores), (rows, numbers[near]), width)
    return best, rows


def _no_less(
    vectors: Vectors,
    queries: NDArray[np.float32],
    least: NDArray[np.float32],
    pieces: Sequence[tuple[int, int] | NDArray[np.int64]],
) -> list[NDArray[np.int64]]:
    """Rows that score, up to rounding, no less with a query than its own number says: one array per query."""
    seen: list[list[NDArray[np.int64]]] = [[] for _ in queries]
    for chunk, numbers in _chunks(vectors, pieces):
        high = queries @ as_float32(chunk).T >= least[:, None]
        for rows, passed in zip(seen, high, strict=True):
            rows.append(numbers[passed])
    return [np.concatenate(rows) for rows in seen]


def _chunks(
    vectors: Vectors, pieces: Sequence[tuple[int, int] | NDArray[np.int64]]
) -> Iterator[tuple[Vectors, NDArray[np.int64]]]:
    """Vectors of at most `_ROWS` rows at a time, contiguous, and their row numbers."""
    for piece in pieces:
        start, stop = (0, len(piece)) if isinstance(piece, np.ndarray) else piece
        for at in range(start, stop, _ROWS):
            end = min(at + _ROWS, stop)
            if isinstance(piece, np.ndarray):
                yield vectors[piece[at:end]], piece[at:end]
            else:
                yield np.ascontiguousarray(vectors[at:end]), np.arange(at, end)


def score(
    vectors: Vectors, rows: NDArray[np.int64], query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Cosine of rows (m,) with one query (d,), (m,).

    Float16 rows are scored by FAISS one at a time, always by the same function: a row has the same
    score to the last bit however it was found, and whatever else was asked at the same time.
    """
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS):
        taken, part = vectors[rows[start : start + _ROWS]], scores[start : start + _ROWS]
        if taken.dtype == np.float16:
            index = half_index(np.ascontiguousarray(taken))
            near, order = index.search(query[None], len(taken))
            part[order[0]] = near[0]
        else:
            # A product of matrices rounds by its shape; einsum adds up each row in the same order.
            part[:] = np.einsum("md,d->m", taken, query)
    return scores


def in_order(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Hits:
    """Best k of (q, m) hits: scores descending, equal ones by ascending row."""
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    query = np.arange(len(rows))[:, None]
    return scores[query, order], rows[query, order]


def merge_hits(
    scores: tuple[NDArray[np.float32], NDArray[np.float32]],
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Join the hits of two searches over different rows: (q, a) and (q, b) to (q, min(k, a + b))."""
    return in_order(np.concatenate(scores, axis=1), np.concatenate(rows, axis=1), k)


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
