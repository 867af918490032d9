"""Linear maps between two views that are fitted in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_ROWS: Final = 10_000  # more do not change a covariance that is shrunk this much
_LEAST_STD: Final = 1e-6


@dataclass(frozen=True)
class LinearMap:
    """Maps rows x (n, c) to ``x @ weight + bias`` (n, d)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map rows (n, c) to (n, d)."""
        mapped: NDArray[np.float32] = rows @ self.weight + self.bias
        return mapped


@dataclass(frozen=True)
class Components:
    """Maps rows x (n, c) to ``(x - mean) @ axes`` (n, k)."""

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map rows (n, c) to (n, k)."""
        mapped = (rows - self.mean) @ self.axes
        return np.asarray(mapped, dtype=np.float32)


def shrunk_components(x: NDArray[np.float32], most: int, *, shrinkage: float = 100.0) -> Components:
    """Principal components of standardised columns, the leading ones whitened.

    Parameters
    ----------
    x : ndarray of shape (n, c), float32
    most : int
        Most components; there are no more than min(n - 1, c).
    shrinkage : float
        A component of variance v is divided by ``sqrt(v + shrinkage * mean v)``: far above the mean it is
        whitened, far below it keeps its length. 30 and 100 lead on HER2ST C4 and C2, a bulb replicate and the
        phantom (trainer/docs/experiments.md).

    Returns
    -------
    Components
        Scaled together, so that their mean variance is one.
    """
    from sklearn.decomposition import PCA

    rows = _thinned(x)
    mean, std = rows.mean(axis=0), np.maximum(rows.std(axis=0), _LEAST_STD)
    k = max(1, min(most, len(rows) - 1, rows.shape[1]))
    fitted = PCA(k, svd_solver="covariance_eigh").fit((rows - mean) / std)
    variance = np.maximum(fitted.explained_variance_, 0.0)
    scale = 1 / np.sqrt(variance + shrinkage * max(variance.sum() / rows.shape[1], 1e-12))
    scale /= np.sqrt(max(float(np.mean(variance * scale**2)), 1e-12))
    axes = fitted.components_.T * scale / std[:, None]
    return Components(mean.astype(np.float32), axes.astype(np.float32))


def shrunk_cca(
    x: NDArray[np.float32], y: NDArray[np.float32], dim: int, *, shrinkage: float = 3.0
) -> tuple[LinearMap, LinearMap]:
    """Canonical correlation analysis with shrunk covariances.

    Parameters
    ----------
    x : ndarray of shape (n, c), float32
    y : ndarray of shape (n, g), float32
    dim : int
        Most canonical pairs; there are no more than min(c, g, n - 1).
    shrinkage : float
        Added to every covariance's diagonal, as a multiple of its mean. Chosen on HER2ST sections C4 and C2, a
        bulb replicate and the phantom (trainer/docs/experiments.md): 3 leads on all of them.

    Returns
    -------
    x_map, y_map : LinearMap
        Scores of a pair are scaled by its (shrunk) correlation, so that a cosine listens to the pairs that agree.

    Notes
    -----
    Canonical ridge of Vinod (1976); SVD of the whitened cross-covariance.
    """
    (u, x_mean), (v, y_mean) = _centred(_thinned(x)), _centred(_thinned(y))
    n = len(u)
    white_x, white_y = (_inverse_root(part.T @ part / n, shrinkage) for part in (u, v))
    left, correlation, right = np.linalg.svd(white_x @ (u.T @ v / n) @ white_y, full_matrices=False)
    k = min(dim, n - 1, int((correlation > 1e-6).sum()))
    a = white_x @ left[:, :k] * correlation[:k]
    b = white_y @ right[:k].T * correlation[:k]
    return _linear_map(a, x_mean), _linear_map(b, y_mean)


def ridge_map(x: NDArray[np.float32], y: NDArray[np.float32]) -> LinearMap:
    """Ridge regression of y (n, d) on x (n, c).

    The penalty is chosen by leaving one row out, between a hundredth and a hundred times the mean variance of x.
    """
    from sklearn.linear_model import RidgeCV

    rows, mean = _centred(_thinned(x))
    target, offset = _centred(_thinned(y))
    alphas = np.logspace(-2, 2, 9) * len(rows) * max(float(rows.var(axis=0).mean()), 1e-12)
    fitted = RidgeCV(alphas, fit_intercept=False).fit(rows, target)
    weight = np.asarray(fitted.coef_).reshape(target.shape[1], -1).T
    found = _linear_map(weight, mean)
    return LinearMap(found.weight, (found.bias + offset).astype(np.float32))


def _thinned(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    step = -(-len(rows) // _MOST_ROWS)
    return np.asarray(rows[::step], dtype=np.float64)


def _centred(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = rows.mean(axis=0)
    return rows - mean, mean


def _inverse_root(covariance: NDArray[np.float64], shrinkage: float) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0)
    root: NDArray[np.float64] = (
        vectors / np.sqrt(values + shrinkage * values.mean() + 1e-12)
    ) @ vectors.T
    return root


def _linear_map(weight: NDArray[np.float64], mean: NDArray[np.float64]) -> LinearMap:
    """Map of raw rows that equals `weight` on centred ones."""
    return LinearMap(weight.astype(np.float32), (-mean @ weight).astype(np.float32))
