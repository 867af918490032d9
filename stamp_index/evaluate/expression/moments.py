"""Sums over the spots of a slide, from which correlations over any set of slides follow.

Predictions of all genes of all methods would not fit into memory; these seven numbers per slide and gene do, and a
bootstrap over patients then costs no look at a spot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# In this order along the axis of length seven; deviations are from the slide's own means, so nothing cancels.
N, MEAN_X, MEAN_Y, SXX, SYY, SXY, SSE = range(7)
_ROUNDING: Final = (
    1e-12  # relative; means of the same numbers, added up in another order, differ by less
)


def slide_moments(
    predicted: NDArray[np.floating[Any]], measured: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Moments (7, g) of one slide's predictions and measurements (n, g).

    A gene whose measurements are NaN was not measured and has no spots. What varies by less than 1e-12 of its mean counts as
    constant.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    absent = np.isnan(y).any(axis=0)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    u, v = x - mean_x, y - mean_y
    for deviation, side, mean in ((u, x, mean_x), (v, y, mean_y)):
        # What is constant but for rounding would correlate with anything.
        deviation[:, np.ptp(side, axis=0) <= _ROUNDING * np.abs(mean)] = 0
    n = np.full(x.shape[1], float(len(x)))
    sums = ((u**2).sum(axis=0), (v**2).sum(axis=0), (u * v).sum(axis=0), ((x - y) ** 2).sum(axis=0))
    found = np.stack([n, mean_x, mean_y, *sums])
    found[:, absent] = 0
    return found


def pooled_pearson(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson correlation (g,) over the spots of all slides together.

    Parameters
    ----------
    moments : ndarray of shape (s, 7, g), float64

    Returns
    -------
    ndarray of shape (g,), float64
        NaN where the gene was measured constant or on no slide; 0 where the prediction is constant, for it tells nothing. So
        all methods have numbers of the same genes.

    Notes
    -----
    Sums of squares of parts are put together as by Chan, Golub and LeVeque (1983).
    """
    n = moments[:, N]  # (s, g)
    total = np.maximum(n.sum(axis=0), 1)
    away = {}
    for side in (MEAN_X, MEAN_Y):
        means = moments[:, side]
        away[side] = means - (n * means).sum(axis=0) / total
        away[side][np.abs(away[side]) <= _ROUNDING * np.abs(means)] = 0
    sxx = (moments[:, SXX] + n * away[MEAN_X] ** 2).sum(axis=0)
    syy = (moments[:, SYY] + n * away[MEAN_Y] ** 2).sum(axis=0)
    sxy = (moments[:, SXY] + n * away[MEAN_X] * away[MEAN_Y]).sum(axis=0)
    spread = np.sqrt(sxx) * np.sqrt(syy)
    found: NDArray[np.float64] = np.where(syy > 0, 0.0, np.nan)
    np.divide(sxy, spread, out=found, where=spread > 0)
    return found


def slide_pearson(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson correlation (s, g) within each slide; see `pooled_pearson`."""
    return np.stack([pooled_pearson(one[None]) for one in moments])


def pooled_mse(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared error (g,) over the spots of all slides together; NaN where no slide measured the gene."""
    n = moments[:, N].sum(axis=0)
    found: NDArray[np.float64] = np.full(moments.shape[2], np.nan)
    np.divide(moments[:, SSE].sum(axis=0), n, out=found, where=n > 0)
    return found
