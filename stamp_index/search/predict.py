"""Expression predicted from what was measured at the hits of a query."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.search.hits import Hits
    from stamp_index.store import Store

TEMPERATURE: Final = 0.05  # cosine; a hit 0.05 below another weighs 1/e of it
LOW, HIGH = 0.10, 0.90  # quantiles that are reported
_MAX_VALUES: Final = 4_000_000  # q * k * g that are weighted at once, 32 MB as float64


def predict_expression(
    hits: Hits | tuple[ArrayLike, ArrayLike],
    store: Store,
    genes: Sequence[str],
    *,
    temperature: float = TEMPERATURE,
) -> pd.DataFrame:
    """Predict the expression at a query from its hits.

    Retrieval prediction as in BLEEP (Xie et al., "Spatially Resolved Gene Expression Prediction
    from H&E Histology Images via Bi-modal Contrastive Learning", NeurIPS 2023), which takes the
    plain mean of the 50 nearest spots; here the hits are weighted by ``softmax(score /
    temperature)``. A very high temperature gives the plain mean.

    Parameters
    ----------
    hits : Hits, or (rows, scores) of shape (k,) each
        What the search found in `store`.
    store : Store
        Where expression was measured.
    genes : sequence of str, length g
        Genes of `store`.
    temperature : float
        Above 0, in units of the score (cosine).

    Returns
    -------
    DataFrame with g rows
        gene; mean, sd, low, high in log1p CP10K: weighted mean, weighted standard deviation, and
        weighted 10 and 90 % quantiles over the hits whose slides measured the gene; n_measured,
        how many these are. NaN where there are none.

    Raises
    ------
    MissingGenesError
        If the store holds no such gene.
    ValueError
        If shapes do not fit, there is no hit, a score is not finite, or `temperature` is not
        above 0.
    """
    rows, scores = hits if isinstance(hits, tuple) else (hits.rows, hits.scores)
    at, similarity = np.asarray(rows), np.asarray(scores, np.float64)
    if at.ndim != 1 or at.shape != similarity.shape or not len(at):
        msg = (
            f"rows has shape {at.shape} and scores {similarity.shape}; expected one score for each "
            f"of at least one row."
        )
        raise ValueError(msg)
    values = store.expression(genes, at).astype(np.float64)  # (k, g)
    weights = _weights(similarity, values, temperature)  # (k, g)
    measured = np.isfinite(values)
    n_measured = measured.sum(axis=0)
    mean = _mean(weights, values)
    spread = np.where(measured, values, 0.0) - mean
    variance = np.where(n_measured > 0, (weights * spread**2).sum(axis=0), np.nan)
    low, high = _quantiles(weights, values, (LOW, HIGH))
    return pd.DataFrame(
        {
            "gene": list(genes),
            "mean": mean,
            "sd": np.sqrt(variance),
            "low": low,
            "high": high,
            "n_measured": n_measured.astype(np.int64),
        }
    )


def predict_expression_batch(
    rows: ArrayLike | None,
    scores: ArrayLike,
    expression: ArrayLike,
    *,
    temperature: float = TEMPERATURE,
) -> NDArray[np.float64]:
    """Predict the expression at many queries: `predict_expression`'s mean for each of them.

    Parameters
    ----------
    rows : int array of shape (q, k), or None
        Rows of `expression` that each query found; None where `expression` holds them already.
    scores : float array of shape (q, k)
        Cosine of each hit.
    expression : float array of shape (n, g), or (q, k, g) without `rows`
        Measured log1p CP10K; NaN where not measured.
    temperature : float
        Above 0.

    Returns
    -------
    ndarray of shape (q, g), float64
        log1p CP10K; NaN where no hit of a query measured the gene.

    Raises
    ------
    ValueError
        If shapes do not fit, a row is not one of `expression`, a score is not finite, or
        `temperature` is not above 0.
    """
    similarity, measured = np.asarray(scores, np.float64), np.asarray(expression)
    at = None if rows is None else np.asarray(rows)
    _check_batch(at, similarity, measured)
    q, k = similarity.shape
    g = measured.shape[-1]
    out = np.empty((q, g))
    step = max(1, _MAX_VALUES // max(k * g, 1))
    for start in range(0, q, step):
        part = slice(start, start + step)
        values = (measured[part] if at is None else measured[at[part]]).astype(np.float64)
        out[part] = _mean(_weights(similarity[part], values, temperature), values)
    return out


def _check_batch(
    rows: NDArray[np.int64] | None, scores: NDArray[np.float64], expression: NDArray[np.float64]
) -> None:
    if scores.ndim != 2 or not scores.shape[1]:
        msg = f"scores has shape {scores.shape}; expected (q, k) with at least one hit."
        raise ValueError(msg)
    if rows is None:
        if expression.ndim != 3 or expression.shape[:2] != scores.shape:
            msg = (
                f"expression has shape {expression.shape}; without rows it must be (q, k, g) with "
                f"(q, k) = {scores.shape}."
            )
            raise ValueError(msg)
        return
    if rows.shape != scores.shape or rows.dtype.kind not in "iu" or expression.ndim != 2:
        msg = (
            f"rows is {rows.dtype} of shape {rows.shape}, scores has {scores.shape} and expression "
            f"{expression.shape}; expected int (q, k), (q, k) and (n, g)."
        )
        raise ValueError(msg)
    outside = rows[(rows < 0) | (rows >= len(expression))]
    if outside.size:
        msg = f"Row {outside[0]} is not in expression, which has rows 0 to {len(expression) - 1}."
        raise ValueError(msg)


def _weights(
    scores: NDArray[np.float64], values: NDArray[np.float64], temperature: float
) -> NDArray[np.float64]:
    """Softmax over the hits that measured each gene.

    Takes scores (..., k) and values (..., k, g); returns (..., k, g): 0 where not measured, and
    sums of 1 over k where anything was.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        msg = f"temperature is {temperature}; expected a number above 0, such as {TEMPERATURE}."
        raise ValueError(msg)
    if not np.isfinite(scores).all():
        msg = f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite numbers."
        raise ValueError(msg)
    logits = np.where(np.isfinite(values), scores[..., None] / temperature, -np.inf)
    best = logits.max(axis=-2, keepdims=True)  # of the measured ones, so that nothing underflows
    weights: NDArray[np.float64] = np.exp(logits - np.where(np.isfinite(best), best, 0.0))
    total = weights.sum(axis=-2, keepdims=True)
    weights /= np.where(total > 0, total, 1.0)
    return weights


def _mean(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean over the hits, (..., g); NaN where nothing was measured."""
    measured = np.isfinite(values)
    total = (weights * np.where(measured, values, 0.0)).sum(axis=-2)
    mean: NDArray[np.float64] = np.where(measured.any(axis=-2), total, np.nan)
    return mean


def _quantiles(
    weights: NDArray[np.float64], values: NDArray[np.float64], levels: tuple[float, ...]
) -> list[NDArray[np.float64]]:
    """Weighted quantiles of (k, g): the least value that at least that share does not exceed."""
    order = np.argsort(values, axis=0, kind="stable")  # NaN last
    ascending = np.take_along_axis(values, order, axis=0)
    share = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    last = np.maximum(np.isfinite(values).sum(axis=0) - 1, 0)
    out = []
    for level in levels:
        # rounding must not push a share of exactly `level` to the next value
        first = np.minimum((share < level - 1e-12).sum(axis=0), last)
        out.append(np.take_along_axis(ascending, first[None, :], axis=0)[0])
    return out
