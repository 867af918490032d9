"""Ridge regressions of many targets with many penalties, from one factorisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class RidgePath:
    """Features of training spots, of which ridge regressions for any target and penalty are made.

    The eigenvectors of the features' scatter serve all: with ``S = Q diag(l) Q^T`` the weights are
    ``Q diag(1 / (l + alpha)) Q^T X^T y`` (Hastie, Tibshirani and Friedman 2009, section 3.4.1). They equal those of
    ``sklearn.linear_model.Ridge``.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Computed with in double precision.
    """

    def __init__(self, x: NDArray[np.float32]) -> None:
        rows = x.astype(np.float64)
        self._mean = rows.mean(axis=0)
        self._rows = rows - self._mean
        values, self._vectors = np.linalg.eigh(self._rows.T @ self._rows)
        self._values = np.maximum(values, 0.0)

    def turned(self, x: NDArray[np.float32]) -> Array:
        """Other features along the eigenvectors, (m, d), as `Targets.predict` wants them."""
        along: Array = (x.astype(np.float64) - self._mean) @ self._vectors
        return along

    def targets(self, y: Array) -> Targets:
        """Targets (n, g) of the training spots."""
        mean = y.mean(axis=0)
        along = self._vectors.T @ (self._rows.T @ (y - mean))  # (d, g)
        return Targets(self._values, along, mean)


class Targets:
    """Targets along the eigenvectors, from which each penalty gives weights.

    Parameters
    ----------
    values : ndarray of shape (d,), float64
        Eigenvalues.
    along : ndarray of shape (d, g), float64
        Products of the targets with the eigenvectors.
    mean : ndarray of shape (g,), float64
    """

    def __init__(self, values: Array, along: Array, mean: Array) -> None:
        self._values, self._along, self._mean = values, along, mean

    def predict(self, turned: Array, alpha: float | Array) -> Array:
        """Predict targets (m, g); `alpha` is one penalty, or (g,) of them, above 0."""
        weights = self._along / (self._values[:, None] + alpha)
        expected: Array = turned @ weights + self._mean
        return expected
