"""Multinomial logistic regression for many spots: scikit-learn's optimum in fewer passes over the features.

A pass costs two products of the features with as many columns as there are classes, so what counts is how many there are.
Two things keep them few: a part of the rows gives the start, and the problem is solved in coordinates in which its Hessian
is about the identity. Each row is read once per pass, in blocks that stay in the cache between the two products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.probe.passes import Curvature, Passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.passes import Array, Coordinates

_START_SHARE: Final = 8  # the start is fitted to an eighth of the rows
_START_TOL: Final = 1e-3  # a part of the rows is off the whole's minimum by more than this
_START_ROWS_PER_WEIGHT: Final = (
    4  # with fewer, the part's minimum is farther away than zero weights
)
_STUCK: Final = 1e-9  # a share of the loss below what sums of single-precision terms can tell
_MEMORY: Final = 20  # pairs of vectors that L-BFGS keeps
_ITERATIONS_PER_ROUND: Final = (
    50  # then the curvature is measured anew: where rows got certain, old coordinates crawl
)


@dataclass(frozen=True)
class LogisticFit:
    """A fitted logistic regression.

    Attributes
    ----------
    classes : ndarray of shape (c,), int64
        Classes of the training rows, ascending.
    weights : ndarray of shape (c, d), float64
        One row only where there are two classes: of the second against the first.
    intercept : ndarray of shape (c,) or (1,), float64
    loss : float
        ``0.5 * ||weights||^2 + C * sum of negative log likelihoods``.
    n_passes : int
        Evaluations of the loss of all rows.
    converged : bool
        Whether the loss is about as near to its minimum as was asked for.
    """

    classes: NDArray[np.int64]
    weights: Array
    intercept: Array
    loss: float
    n_passes: int
    converged: bool

    def probabilities(self, x: NDArray[np.float32]) -> Array:
        """Probability of each of `classes` for features (m, d), as float64 (m, c)."""
        from scipy.special import softmax

        logits = x @ self.weights.T.astype(np.float32) + self.intercept  # (m, c) or (m, 1)
        if len(self.weights) == 1:
            logits = np.hstack([np.zeros_like(logits), logits])
        probability: Array = softmax(logits, axis=1)
        return probability


class LogisticProblem:
    """Features and classes, to which logistic regressions are fitted.

    The minimum is that of ``sklearn.linear_model.LogisticRegression(C=C)``: L2 penalty on the weights, none on the
    intercept, and for two classes one row of weights.

    Parameters
    ----------
    x : ndarray of shape (n, d), float32
        Features; not copied on the CPU. They need not be standardised.
    y : ndarray of shape (n,), int64
        Class of each row; at least two different.
    device : str
        Where torch computes, such as "cpu" or "cuda".
    pause : callable, optional
        Called at least every second or so while it computes; what it raises ends the work.

    Raises
    ------
    ValueError
        If there is one class only, the shapes do not fit, or a feature is not finite.
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        *,
        device: str = "cpu",
        pause: Callable[[], None] | None = None,
    ) -> None:
        flaw = _flaw(x, y)
        if flaw:
            raise ValueError(flaw)
        self.classes, place = np.unique(y, return_inverse=True)
        place = place.reshape(-1).astype(np.int64)
        n_classes = len(self.classes)
        self._passes = Passes(x, place, n_classes, device=device, pause=pause or _go_on)
        self._curvature = Curvature(self._passes)
        self._share = np.bincount(place) / len(y)

    def fit(
        self,
        C: float = 1.0,
        *,
        start: LogisticFit | None = None,
        tol: float = 1e-9,
        max_iterations: int = 1000,
    ) -> LogisticFit:
        """Fit one.

        Parameters
        ----------
        C : float
            Inverse strength of the penalty.
        start : LogisticFit, optional
            A fit of the same problem with another C, best a little smaller.
        tol : float
            It ends where the loss is estimated to be at most this share above its minimum. The estimate is low where
            classes are nearly separable: with 1e-6 the loss was once 4e-4 above.
        max_iterations : int

        Returns
        -------
        LogisticFit

        Notes
        -----
        L-BFGS (Liu and Nocedal 1989, doi:10.1007/BF01589116) by SciPy, along the eigenvectors of the features' covariance
        on a sample of rows, each scaled by the curvature ``C * sum p (1 - p) * eigenvalue + 1``: the diagonal blocks of the
        Hessian if p did not depend on the features. Half the squared gradient there, half the Newton decrement,
        estimates how far the loss is above its minimum.
        """
        if not 0 < C < np.inf:
            msg = f"C is {C}; it must be above 0 and finite."
            raise ValueError(msg)
        if start is not None and not np.array_equal(start.classes, self.classes):
            msg = f"The start was fitted to classes {start.classes.tolist()}, these rows have {self.classes.tolist()}."
            raise ValueError(msg)
        objective = _Objective(self._passes, C)
        if start is not None:
            weights, intercept = start.weights, start.intercept
        else:
            weights, intercept = self._first_guess(C, max_iterations)
        left, stuck = max_iterations, False
        while True:
            at = self._curvature.coordinates(C, weights, intercept)
            before, *gradients = objective(weights, intercept)
            converged = stuck or excess(before, at.gradient(*gradients)) <= tol
            if converged or left <= 0:
                break
            most = min(left, _ITERATIONS_PER_ROUND)
            weights, intercept, loss, used = _minimised(objective, at, tol=tol, max_iterations=most)
            left -= max(used, 1)
            stuck = before - loss <= _STUCK * before
        return LogisticFit(self.classes, weights, intercept, before, objective.n_passes, converged)

    def _first_guess(self, C: float, max_iterations: int) -> tuple[Array, Array]:
        """Minimum for a part of the rows; shares of the classes where that has too few rows to help."""
        passes = self._passes
        weights = np.zeros((passes.n_rows, passes.d))
        logs = np.log(self._share)
        intercept = logs[1:] - logs[0] if passes.n_rows == 1 else logs - logs.mean()
        size = passes.n // _START_SHARE
        if size < _START_ROWS_PER_WEIGHT * weights.size:
            return weights, intercept
        at = self._curvature.coordinates(C, weights, intercept)
        part = _Objective(passes.sample(size), C * passes.n / size)
        found = _minimised(part, at, tol=_START_TOL, max_iterations=max_iterations)
        return found[0], found[1]


def _go_on() -> None:
    """Where nobody wants to pause."""


def _flaw(x: NDArray[np.float32], y: NDArray[np.int64]) -> str:
    """Say what is wrong with a problem, or nothing."""
    if x.ndim != 2 or y.shape != (len(x),):
        return (
            f"Features are {x.shape} and classes {y.shape}; give features (n, d) and classes (n,)."
        )
    if not x.shape[1]:
        return "There are no features; give at least one column."
    if x.dtype != np.float32:
        return f"Features are {x.dtype}; give float32."
    # A sum is finite if every number is, and needs no array of n x d answers; it can overflow where they are huge.
    if not np.isfinite(x.sum(dtype=np.float64)) and not np.isfinite(x).all():
        return "Some features are not finite. Leave these rows out."
    if len(np.unique(y)) < 2:
        return f"All {len(y):,} rows are of one class; a logistic regression needs at least two."
    return ""


class _Objective:
    """Loss and its gradients for one C, the last of them remembered."""

    def __init__(self, passes: Passes, C: float) -> None:
        self._passes, self._C = passes, C
        self._last: tuple[Array, Array, tuple[float, Array, Array]] | None = None
        self.n_passes = 0

    def __call__(self, weights: Array, intercept: Array) -> tuple[float, Array, Array]:
        if self._last is not None:
            before, level, values = self._last
            if np.array_equal(before, weights) and np.array_equal(level, intercept):
                return values
        likelihood, by_weights, by_intercept = self._passes.loss(weights, intercept)
        self.n_passes += 1
        loss = 0.5 * float((weights**2).sum()) + self._C * likelihood
        values = (loss, self._C * by_weights + weights, self._C * by_intercept)
        self._last = weights, intercept, values
        return values


def _minimised(
    objective: _Objective, at: Coordinates, *, tol: float, max_iterations: int
) -> tuple[Array, Array, float, int]:
    """Weights, intercept, loss and iterations of L-BFGS from the origin of the coordinates.

    It ends where `excess` is at most `tol`, as the curvature was at the origin.
    """
    from scipy.optimize import minimize

    zero = np.zeros(at.size)
    loss, *gradients = objective(*at.out(zero))
    # SciPy's first step has length one; a Newton step is as long as the gradient.
    unit = max(float(np.linalg.norm(at.gradient(*gradients))), 1e-30)
    now = {"excess": np.inf}

    def scaled(u: Array) -> tuple[float, Array]:
        loss, *gradients = objective(*at.out(u * unit))
        gradient = at.gradient(*gradients)
        now["excess"] = excess(loss, gradient)
        return loss, gradient * unit

    def ended(intermediate_result: Any) -> None:  # noqa: ANN401 - SciPy goes by this name
        if now["excess"] <= tol:
            raise StopIteration

    options: Any = {"maxcor": _MEMORY, "maxiter": max_iterations, "ftol": _STUCK, "gtol": 0.0}
    found = minimize(scaled, zero, jac=True, method="L-BFGS-B", callback=ended, options=options)
    return *at.out(found.x * unit), float(found.fun), int(found.nit)


def excess(loss: float, gradient: Array) -> float:
    """Share of the loss that is above its minimum: half the Newton decrement, where curvature is one along all."""
    return 0.5 * float(gradient @ gradient) / max(loss, 1e-300)
