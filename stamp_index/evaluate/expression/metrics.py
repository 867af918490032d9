"""How near predicted expression is to what was measured, gene by gene. Pure numpy, float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.evaluate.metrics import pearson_per_gene

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class GeneSummary:
    """One number of many genes.

    Attributes
    ----------
    mean, median : float
        Over the genes that have a value; NaN where none has.
    n_genes : int
        All of them.
    n_constant : int
        Those without a value: a gene that was measured constant has no correlation.
    """

    mean: float
    median: float
    n_genes: int
    n_constant: int


def summarise_genes(values: NDArray[np.float64]) -> GeneSummary:
    """Sum up one value per gene (g,); NaN counts as constant."""
    held = values[~np.isnan(values)]
    mean, median = (float(held.mean()), float(np.median(held))) if len(held) else (np.nan, np.nan)
    return GeneSummary(mean, median, len(values), len(values) - len(held))


def mse_per_gene(
    predicted: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Mean squared error over spots of each gene.

    Parameters
    ----------
    predicted, measured : ndarray of shape (n, g)
        Expression of the same spots.

    Returns
    -------
    ndarray of shape (g,), float64

    Raises
    ------
    ValueError
        If the shapes differ or there is no spot.
    """
    x, y = _pair(predicted, measured)
    mse: NDArray[np.float64] = ((x - y) ** 2).mean(axis=0)
    return mse


def spearman_per_gene(
    predicted: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Spearman correlation over spots of each gene, equal values with their mean rank.

    Parameters, errors and what is NaN are those of `mse_per_gene` and `pearson_per_gene`.
    """
    from scipy.stats import rankdata

    x, y = _pair(predicted, measured)
    return pearson_per_gene(rankdata(x, axis=0), rankdata(y, axis=0))


def relative_variance_distance(
    predicted: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """How far each gene's predicted variance is from the measured one: ((v_p - v_m) / v_m) squared.

    0 is best; a constant prediction has 1. NaN where the gene was measured constant. Averages of neighbours
    correlate well and vary too little, which no correlation shows (Stem, Zhu et al. 2025, arXiv 2501.15598).
    """
    x, y = _pair(predicted, measured)
    found, variance = np.full(x.shape[1], np.nan), y.var(axis=0)
    varies = np.ptp(y, axis=0) > 0
    np.divide(x.var(axis=0) - variance, variance, out=found, where=varies)
    squared: NDArray[np.float64] = found**2
    return squared


def _pair(
    predicted: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    if x.shape != y.shape or x.ndim != 2 or not len(x):
        msg = f"predicted has shape {x.shape} and measured {y.shape}; expected one (n, g), n > 0."
        raise ValueError(msg)
    return x, y
