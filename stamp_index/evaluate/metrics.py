"""Numbers: ranks, recall, intervals, correlation. Pure numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_CHUNK = 1024


def retrieval_ranks(
    queries: NDArray[np.float32], targets: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Rank of each query's own spot over the whole target set.

    Parameters
    ----------
    queries, targets : ndarray of shape (n, d), float32
        Unit vectors; row i of both is the same spot.

    Returns
    -------
    ndarray of shape (n,), int64
        1 is best. Ties count against us: equal scores take the worst rank.

    Raises
    ------
    ValueError
        If the shapes differ or there is no row.
    """
    if queries.shape != targets.shape or not len(queries):
        msg = f"queries has shape {queries.shape} and targets {targets.shape}; expected one (n, d), n > 0."
        raise ValueError(msg)
    ranks = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _CHUNK):
        scores = queries[start : start + _CHUNK] @ targets.T  # (b, n)
        own = scores[np.arange(len(scores)), np.arange(start, start + len(scores))]
        ranks[start : start + len(scores)] = (scores >= own[:, None]).sum(axis=1)
    return ranks


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
    """95 % interval by resampling groups with replacement.

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


def pearson_per_gene(
    predicted: NDArray[np.float64], measured: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pearson correlation over spots of each gene.

    Parameters
    ----------
    predicted, measured : ndarray of shape (n, g)
        Expression of the same spots.

    Returns
    -------
    ndarray of shape (g,), float64
        NaN where either side is constant.
    """
    x = predicted - predicted.mean(axis=0)
    y = measured - measured.mean(axis=0)
    spread = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    found: NDArray[np.float64] = np.full(x.shape[1], np.nan)
    np.divide((x * y).sum(axis=0), spread, out=found, where=spread > 0)
    return found
