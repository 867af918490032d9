"""Loss of a logistic regression over all rows, block by block, and the coordinates in which it is round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# 8 MB of 512 numbers. On one core of an EPYC a pass over 100,000 rows with ten classes took 53 to 66 ms with any
# block from 512 to 8,192 rows.
_BLOCK: Final = 4096
_WORK_PER_PAUSE: Final = (
    3e9  # multiplications between two calls of `pause`: about 0.3 s on that core
)
_GRAM_ROWS_PER_FEATURE: Final = 32  # sampled eigenvalues are then within 40 % of the true ones
# Numbers in the features up to which they are held in double precision (128 MiB). In single precision fits with C of 1e4 ended
# up to 2e-4 above the minimum on nearly dependent features, where 1e-4 is promised; with so many rows as are left, C is small.
_DOUBLE_UP_TO: Final = 2**24
_SEED: Final = 0  # of the rows that are sampled, so that a fit is always the same


class Passes:
    """Features and places of classes, and the sums over them that a fit needs.

    Parameters
    ----------
    x : ndarray of shape (n, d), float32
    y : ndarray of shape (n,), int64
        Below `n_classes`.
    n_classes : int
        With two, there is one row of weights: the logit of the second class against the first.
    device : str
        Of torch.
    pause : callable
        Called between blocks.
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        n_classes: int,
        *,
        device: str,
        pause: Callable[[], None],
    ) -> None:
        import torch

        self.n, self.d = x.shape
        self.n_classes = n_classes
        self.n_rows = 1 if n_classes == 2 else n_classes  # of weights
        dtype = torch.float64 if x.size <= _DOUBLE_UP_TO else torch.float32
        self._x = torch.from_numpy(np.ascontiguousarray(x)).to(device, dtype)
        self._y = torch.from_numpy(y).to(device)
        self._device = device
        self._pause = pause

    def sample(self, size: int) -> Passes:
        """Draw some of the rows at random."""
        if size >= self.n:
            return self
        rows = np.sort(np.random.default_rng(_SEED).choice(self.n, size, replace=False))
        x, y = (part[rows].cpu().numpy() for part in (self._x, self._y))
        return Passes(x, y, self.n_classes, device=self._device, pause=self._pause)

    def loss(self, weights: Array, intercept: Array) -> tuple[float, Array, Array]:
        """Sum of negative log likelihoods, and its gradients.

        Parameters
        ----------
        weights, intercept : ndarray of shapes (r, d) and (r,), float64
            r is 1 with two classes.

        Returns
        -------
        loss : float
        by_weights, by_intercept : ndarray of shapes (r, d) and (r,), float64
            Products are in single precision within a block where there are many features, sums over blocks in double.
        """
        import torch

        total, by_weights, by_intercept = (
            torch.zeros(shape, dtype=torch.float64, device=self._device)
            for shape in ((), (self.n_rows, self.d), (self.n_rows,))
        )
        w, b = self._like(weights), self._like(intercept)[:, None]
        for x, y in self._blocks():
            loss, residual = _residuals(torch.addmm(b, w, x.T), y)
            total += loss.sum(dtype=torch.float64)
            by_weights += residual @ x  # (r, b) @ (b, d)
            by_intercept += residual.sum(1, dtype=torch.float64)
        return total.item(), by_weights.cpu().numpy(), by_intercept.cpu().numpy()

    def spread(self, weights: Array, intercept: Array) -> Array:
        """Sum over rows of ``p (1 - p)`` for each row of weights, (r,)."""
        import torch

        total = torch.zeros(self.n_rows, dtype=torch.float64, device=self._device)
        w, b = self._like(weights), self._like(intercept)[:, None]
        for x, _ in self._blocks():
            logits = torch.addmm(b, w, x.T)  # (r, b)
            p = torch.sigmoid(logits) if self.n_rows == 1 else torch.softmax(logits, 0)
            total += (p * (1 - p)).sum(1, dtype=torch.float64)
        return total.cpu().numpy()

    def moments(self) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of the features, float64."""
        import torch

        mean = self._x.mean(0, dtype=torch.float64)
        gram = torch.zeros((self.d, self.d), dtype=torch.float64, device=self._device)
        for x, _ in self._blocks():
            centred = x - mean.to(x)
            gram += centred.T @ centred
        return mean.cpu().numpy(), gram.cpu().numpy() / self.n

    def _like(self, values: Array) -> torch.Tensor:
        """As the features are."""
        import torch

        return torch.from_numpy(values).to(self._x)

    def _blocks(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Rows and their classes, with pauses."""
        rows_per_pause = max(1, int(_WORK_PER_PAUSE / (self.d * self.n_rows)))
        last = -1
        for start in range(0, self.n, _BLOCK):
            if start // rows_per_pause != last:
                last = start // rows_per_pause
                self._pause()
            yield self._x[start : start + _BLOCK], self._y[start : start + _BLOCK]


def _residuals(logits: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log likelihood of each row (b,), and its derivatives by the logits (r, b).

    Written with the other classes' logits against the true one's, so that nothing cancels where a row is nearly
    certain: a sum over separable rows is right to single precision, not to single precision times their number.
    """
    import torch
    from torch.nn.functional import softplus

    if len(logits) == 1:
        sign = 1.0 - 2.0 * y  # of the wrong class's logit against the right one's
        against = logits[0] * sign
        return softplus(against), (torch.sigmoid(against) * sign)[None]
    true = y[None]
    against = logits - logits.gather(0, true)  # (c, b)
    against.scatter_(0, true, -torch.inf)
    loss = softplus(torch.logsumexp(against, 0))
    residual = against.sub_(loss).exp_()  # probabilities of the wrong classes, 0 for the true one
    return loss, residual.scatter_(0, true, -residual.sum(0, keepdim=True))


class Coordinates:
    """Weights and intercepts as one vector, in which the loss is about a unit sphere near its minimum.

    Parameters
    ----------
    vectors : ndarray of shape (d, d), float64
        Eigenvectors of the features' covariance, in columns.
    mean : ndarray of shape (d,), float64
        Of the features; in these coordinates the intercept is that of centred features.
    scale : ndarray of shape (r, d + 1), float64
        One over the square root of the curvature along each, the intercept last.
    origin : tuple of ndarray
        Weights (r, d) and intercept (r,) that are zero here.

    Attributes
    ----------
    size : int
        Of a vector.
    """

    def __init__(
        self, vectors: Array, mean: Array, scale: Array, origin: tuple[Array, Array]
    ) -> None:
        self._vectors, self._mean, self._scale = vectors, mean, scale
        self._origin = origin
        self.size = scale.size

    def out(self, v: Array) -> tuple[Array, Array]:
        """Weights and intercept of a vector."""
        step = _without_mean(v.reshape(self._scale.shape) * self._scale)
        weights = step[:, :-1] @ self._vectors.T
        intercept = step[:, -1] - weights @ self._mean
        return self._origin[0] + weights, self._origin[1] + intercept

    def gradient(self, by_weights: Array, by_intercept: Array) -> Array:
        """Gradient by a vector, of those by weights and intercept."""
        turned = (by_weights - np.outer(by_intercept, self._mean)) @ self._vectors
        both = _without_mean(np.column_stack([turned, by_intercept]))
        return (both * self._scale).ravel()


def _without_mean(rows: Array) -> Array:
    """Take the mean over classes out.

    It is zero at the optimum. As the same for all classes it does not touch the probabilities, so its curvature is that of
    the penalty alone and would spoil the scale.
    """
    return rows if len(rows) == 1 else rows - rows.mean(axis=0)


class Curvature:
    """How strongly the loss is curved along the directions of the features.

    Parameters
    ----------
    passes : Passes
    """

    def __init__(self, passes: Passes) -> None:
        self._sample = passes.sample(_GRAM_ROWS_PER_FEATURE * passes.d)
        self._times = passes.n / self._sample.n
        self._mean, covariance = self._sample.moments()
        values, self._vectors = np.linalg.eigh(covariance)
        self._values = np.maximum(values, 0.0)

    def coordinates(self, C: float, weights: Array, intercept: Array) -> Coordinates:
        """Coordinates around these weights: blocks of the Hessian as if p told nothing of the features."""
        spread = C * self._times * self._sample.spread(weights, intercept)  # (r,)
        spread = np.maximum(spread, 1e-12)
        curve = np.column_stack([spread[:, None] * self._values + 1.0, spread])  # (r, d + 1)
        return Coordinates(self._vectors, self._mean, 1.0 / np.sqrt(curve), (weights, intercept))
