"""Expression predicted by retrieval: a mean over the training spots that a query resembles.

Every function compares query embeddings with embeddings of training spots: their gene embeddings, as BLEEP does, or
their image embeddings. None holds a score of every query with every training spot at the same time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

K: Final = 50  # BLEEP's released code (Xie et al. 2023)
TEMPERATURE: Final = 0.05  # of the softmax over cosines; ours
_QUERIES, _ROWS = 1024, 4096  # scores held at a time: 32 MiB


def mean_weights(
    queries: NDArray[np.float32], against: NDArray[np.float32], k: int = K
) -> csr_matrix:
    """Equal weights on the k training spots that are nearest to each query (BLEEP).

    Parameters
    ----------
    queries : ndarray of shape (n, d), float32
        Image embeddings.
    against : ndarray of shape (m, d), float32
        Embeddings of the training spots, of unit length.
    k : int
        At least 1; all training spots where there are fewer.

    Returns
    -------
    csr_matrix of shape (n, m), float64
        Rows sum to 1. Equal scores at the k-th place: the training spot that comes first.

    Raises
    ------
    EvaluationError
        If there is no training spot, the dimensions differ, or a vector is not finite.
    ValueError
        If k is below 1.
    """
    scores, rows = _nearest(queries, against, k)
    return _sparse(np.full(scores.shape, 1.0 / max(scores.shape[1], 1)), rows, len(against))


def softmax_weights(
    queries: NDArray[np.float32],
    against: NDArray[np.float32],
    k: int = K,
    *,
    temperature: float = TEMPERATURE,
) -> csr_matrix:
    """Weights softmax(cosine / temperature) on the k nearest training spots; see `mean_weights`."""
    _check_temperature(temperature)
    scores, rows = _nearest(queries, against, k)
    return _sparse(_softmax(scores.astype(np.float64) / temperature), rows, len(against))


def predict_by_mean(
    queries: NDArray[np.float32],
    against: NDArray[np.float32],
    expression: NDArray[np.floating[Any]],
    k: int = K,
) -> NDArray[np.float64]:
    """Plain mean of the expression (m, g) of the k nearest training spots, (n, g); see `mean_weights`."""
    _check_expression(against, expression)
    mean: NDArray[np.float64] = mean_weights(queries, against, k) @ expression
    return mean


def predict_by_softmax(
    queries: NDArray[np.float32],
    against: NDArray[np.float32],
    expression: NDArray[np.floating[Any]],
    k: int = K,
    *,
    temperature: float = TEMPERATURE,
) -> NDArray[np.float64]:
    """Softmax-weighted mean of the k nearest training spots, (n, g); see `softmax_weights`."""
    _check_expression(against, expression)
    weights = softmax_weights(queries, against, k, temperature=temperature)
    mean: NDArray[np.float64] = weights @ expression
    return mean


def predict_by_all(
    queries: NDArray[np.float32],
    against: NDArray[np.float32],
    expression: NDArray[np.floating[Any]],
    *,
    temperature: float = TEMPERATURE,
) -> NDArray[np.float64]:
    """Mean of all training spots, weighted by softmax(cosine / temperature).

    Parameters, errors and the result are those of `predict_by_softmax`.

    Notes
    -----
    The softmax is summed up block by block, each scaled to the highest score so far (Milakov and Gimelshein 2018,
    arXiv 1805.02867).
    """
    _check(queries, against)
    _check_temperature(temperature)
    _check_expression(against, expression)
    values = np.asarray(expression)
    out = np.empty((len(queries), values.shape[1]))
    for start in range(0, len(queries), _QUERIES):
        block = queries[start : start + _QUERIES]
        highest = np.full(len(block), -np.inf)
        total, weighted = np.zeros(len(block)), np.zeros((len(block), values.shape[1]))
        for at in range(0, len(against), _ROWS):
            part = slice(at, at + _ROWS)
            scores = (block @ against[part].T).astype(np.float64) / temperature  # (b, r)
            top = np.maximum(highest, scores.max(axis=1))
            weight = np.exp(scores - top[:, None])
            shrink = np.exp(highest - top)
            total = total * shrink + weight.sum(axis=1)
            seen: NDArray[np.float64] = weight @ values[part]
            weighted = weighted * shrink[:, None] + seen
            highest = top
        out[start : start + len(block)] = weighted / total[:, None]
    return out


def predict_by_similarity(
    queries: NDArray[np.float32],
    against: NDArray[np.float32],
    expression: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Mean of all training spots with the cosines themselves as weights (Loki's PredEx), (n, g).

    Parameters and errors are those of `predict_by_mean`.

    Notes
    -----
    ``predict_st_gene_expr`` of Loki divides by the sum of the similarities. These may be negative, so the result need not
    lie between the values that are averaged, and is wild where they sum to about 0; it is left so. Where they sum to 0
    exactly, the plain mean is given.
    """
    _check(queries, against)
    _check_expression(against, expression)
    values = np.asarray(expression, np.float64)
    x, y = np.asarray(queries, np.float64), np.asarray(against, np.float64)
    total = x @ y.sum(axis=0)  # (n,)
    weighted = x @ (y.T @ values)  # (n, g): the products need not be formed spot by spot
    mean = np.broadcast_to(values.mean(axis=0), weighted.shape).copy()
    np.divide(weighted, total[:, None], out=mean, where=total[:, None] != 0)
    return mean


def _nearest(
    queries: NDArray[np.float32], against: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from stamp_index.index import exact_search

    _check(queries, against)
    return exact_search(np.asarray(against, np.float32), np.asarray(queries, np.float32), k)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    weight = np.exp(scores - scores.max(axis=1, keepdims=True))
    share: NDArray[np.float64] = weight / weight.sum(axis=1, keepdims=True)
    return share


def _sparse(weights: NDArray[np.float64], rows: NDArray[np.int64], m: int) -> csr_matrix:
    from scipy.sparse import csr_matrix

    n, k = weights.shape
    indptr = np.arange(n + 1) * k
    found = csr_matrix((weights.ravel(), rows.ravel(), indptr), shape=(n, m))
    found.sort_indices()  # the same spots are added up in the same order, whoever asked
    return found


def _check(queries: NDArray[np.float32], against: NDArray[np.float32]) -> None:
    if not len(against):
        msg = "There are no training spots to predict from. Give at least one."
        raise EvaluationError(msg)
    if queries.ndim != 2 or against.ndim != 2 or queries.shape[1] != against.shape[1]:
        msg = (
            f"Queries have shape {queries.shape} and training spots {against.shape}; expected (n, d) and (m, d). "
            "Take both from one encoder."
        )
        raise EvaluationError(msg)
    for name, held in (("query", queries), ("training spot", against)):
        bad = np.flatnonzero(~np.isfinite(held).all(axis=1))
        if len(bad):
            msg = (
                f"The embeddings of {len(bad):,} {name} rows are not finite, first in row {bad[0]}. "
                "Embed their slides again."
            )
            raise EvaluationError(msg)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        msg = f"The temperature is {temperature}; expected a number above 0, such as {TEMPERATURE}."
        raise ValueError(msg)


def _check_expression(against: NDArray[np.float32], expression: NDArray[np.floating[Any]]) -> None:
    if np.ndim(expression) != 2 or len(expression) != len(against):
        msg = f"Expression has shape {np.shape(expression)} for {len(against):,} training spots; expected one row for each."
        raise EvaluationError(msg)
