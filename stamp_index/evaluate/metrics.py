"""Numbers: ranks, recall, intervals, correlation. Pure numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def retrieval_ranks(
    queries: NDArray[np.float32], targets: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Rank of each query's own spot over the whole target set.

    Parameters
    ----------
    queries, targets : ndarray of shape (n, d), float32
        Row i of both is the same spot; compared by cosine, whatever their lengths.

    Returns
    -------
    ndarray of shape (n,), int64
        1 is best. Ties count against us: cosines within 1e-6 of the own spot's take the worst rank.

    Raises
    ------
    ValueError
        If the shapes differ or there is no row.
    """
    if queries.shape != targets.shape or not len(queries):
        msg = f"queries has shape {queries.shape} and targets {targets.shape}; expected one (n, d), n > 0."
        raise ValueError(msg)
    from stamp_index.evaluate.retrieval.scan import scan
    from stamp_index.evaluate.retrieval.zones import blocks

    one = np.zeros(len(queries), np.int64)
    pair = _unit(queries), _unit(targets)
    own = np.einsum("nd,nd->n", *pair)
    found = scan(pair, blocks(one, one), own[:, None], 0)
    return np.concatenate([block.reached.sum(axis=(1, 2)) for block in found])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1, which the width of a tie is meant for; a zero row stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-30), np.float32)


def retrieval_recall_at_k(ranks: NDArray[np.int64], k: int) -> float:
    """Share of queries whose own spot is among the first k hits.

    Parameters
    ----------
    ranks : ndarray of shape (n,), int64
        Rank of the true target for each query over the whole target set; 1 is best.
    k : int
        Cut-off, at least 1.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If `ranks` is empty or holds a value below 1, or k is below 1.

    Notes
    -----
    Same measure as ``image_to_text_R@k`` in open_clip (``open_clip_train/metrics.py``), except for ties
    (`retrieval_ranks`).
    """
    ranks = np.asarray(ranks)
    if ranks.size == 0 or ranks.min() < 1:
        msg = f"ranks must hold at least one rank and none below 1; got {ranks.size} ranks."
        raise ValueError(msg)
    if k < 1:
        msg = f"k is {k}; it must be at least 1."
        raise ValueError(msg)
    return float((ranks <= k).mean())


def bootstrap_interval(
    groups: list[NDArray[np.float64]],
    statistic: Callable[[NDArray[np.float64]], float],
    *,
    n_draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of any statistic by resampling groups with replacement; of a mean see `mean_interval`.

    Parameters
    ----------
    groups : list of ndarray
        Values of one patient each. With a single group its own values are resampled instead, which
        understates how much patients differ.
    statistic : callable
        Maps pooled values to a number.
    n_draws, seed : int
        Of the bootstrap.

    Returns
    -------
    tuple of float
        2.5th and 97.5th percentile.
    """
    rng = np.random.default_rng(seed)
    draws = np.empty(n_draws)
    for i in range(n_draws):
        if len(groups) > 1:
            chosen = rng.integers(0, len(groups), size=len(groups))
            values = np.concatenate([groups[j] for j in chosen])
        else:
            values = groups[0][rng.integers(0, len(groups[0]), size=len(groups[0]))]
        draws[i] = statistic(values)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(
    values: NDArray[np.float64], groups: NDArray[np.int64], *, n_draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a mean by resampling whole groups with replacement (Efron and Tibshirani 1993, section 13.3).

    Parameters
    ----------
    values : ndarray of shape (n,), float64
        One value per query; NaN is left out.
    groups : ndarray of shape (n,), int64
        Patient of each. With a single one its own values are resampled instead, which understates how much patients
        differ.
    n_draws, seed : int
        Of the bootstrap.

    Returns
    -------
    tuple of float
        2.5th and 97.5th percentile; NaN where there is no value.
    """
    known = np.isfinite(values)
    if not known.any():
        return float("nan"), float("nan")
    values, number = values[known], np.unique(groups[known], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    if number.max() == 0:
        number = np.arange(len(values))
    sums = np.bincount(number, values)
    sizes = np.bincount(number).astype(np.float64)
    draws = np.empty(n_draws)
    for i in range(n_draws):
        times = np.bincount(rng.integers(0, len(sums), len(sums)), minlength=len(sums))
        draws[i] = (times @ sums) / (times @ sizes)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def average_precision(
    cosines: NDArray[np.floating], relevant: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Average precision of each query's whole ranking (Manning et al. 2008, section 8.4).

    Parameters
    ----------
    cosines : ndarray of shape (q, n)
        Of each query with each target; -inf takes a target out of the gallery.
    relevant : ndarray of shape (q, n), bool
        Which targets are right.

    Returns
    -------
    ndarray of shape (q,), float64
        NaN where nothing is right. Ties count against us: of equal cosines the wrong ones come first.
    """
    found: NDArray[np.float64] = np.full(len(cosines), np.nan)
    for at, (row, right) in enumerate(zip(cosines, relevant, strict=True)):
        there = np.isfinite(row)
        wrong = np.sort(row[there & ~right])
        hits = np.sort(row[there & right])[::-1]
        if len(hits):
            above = len(wrong) - np.searchsorted(wrong, hits, "left")  # wrong ones that are as good
            nth = np.arange(1, len(hits) + 1)
            found[at] = (nth / (nth + above)).mean()
    return found


def pearson_per_gene(
    predicted: NDArray[np.floating], measured: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Pearson correlation over spots of each gene.

    Parameters
    ----------
    predicted, measured : ndarray of shape (n, g)
        Expression of the same spots; a spot where either side is NaN is left out for that gene.

    Returns
    -------
    ndarray of shape (g,), float64
        NaN where either side is constant, or fewer than two spots are left.
    """
    known = np.isfinite(predicted) & np.isfinite(measured)
    x, y = _centred(predicted, known), _centred(measured, known)
    spread = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    found: NDArray[np.float64] = np.full(x.shape[1], np.nan)
    np.divide((x * y).sum(axis=0), spread, out=found, where=spread > 0)
    return found


def _centred(values: NDArray[np.floating], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each column less its mean, 0 where it is not known; exactly 0 where it is constant."""
    held = np.where(known, values, np.nan).astype(np.float64)
    low = np.fmin.reduce(held, axis=0)
    from_low = np.where(known, held - low, 0)  # a constant leaves no rounding behind
    n = np.maximum(known.sum(axis=0), 1)
    centred: NDArray[np.float64] = np.where(known, from_low - from_low.sum(axis=0) / n, 0)
    return centred
