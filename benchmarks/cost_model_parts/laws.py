"""Simple laws fitted to what was measured, and how far off they are where they were not fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Point:
    """One measurement as a law sees it.

    Attributes
    ----------
    name : str
        Where it was measured, for tables.
    features : tuple of float
        What its terms are multiplied with; of a power law the base of each exponent.
    value : float
        What was measured, above 0.
    held_out : bool
        Whether it is of the largest size, which the check leaves out.
    """

    name: str
    features: tuple[float, ...]
    value: float
    held_out: bool = False


@dataclass(frozen=True)
class Law:
    """A sum of terms with weights that are not negative, or a product of powers.

    Attributes
    ----------
    name, unit : str
        What it says.
    terms : tuple of str
        Words for each feature.
    weights : tuple of float
        Of each; of a power law the logarithm of its factor, then the exponents.
    points : tuple of Point
        What it was fitted to.
    is_power : bool
        Whether it is a product of powers.
    checked : tuple of (Point, float)
        Points of the largest size, and what the law says of them when it is fitted without them.
    """

    name: str
    unit: str
    terms: tuple[str, ...]
    weights: tuple[float, ...]
    points: tuple[Point, ...]
    is_power: bool = False
    checked: tuple[tuple[Point, float], ...] = ()

    def __call__(self, *features: float) -> float:
        """Return what the law says."""
        return _predict(np.array(self.weights), np.array(features), is_power=self.is_power)

    def errors(self) -> list[float]:
        """(law - measured) / measured at each point that it was fitted to."""
        return [self(*point.features) / point.value - 1 for point in self.points]

    def formula(self) -> str:
        """Write the law in one line."""
        if self.is_power:
            powers = zip(self.terms, self.weights[1:], strict=True)
            parts = [f"{np.exp(self.weights[0]):.3g}", *(f"({t})^{w:.2f}" for t, w in powers)]
            return " * ".join(parts)
        pairs = zip(self.terms, self.weights, strict=True)
        parts = [
            f"{weight:.3g}" + ("" if term == "1" else f" * {term}")
            for term, weight in pairs
            if weight > 0
        ]
        return " + ".join(parts) or "0"


def fit(
    name: str, unit: str, terms: Sequence[str], points: Sequence[Point], *, is_power: bool = False
) -> Law:
    """Fit a law by least squares of relative errors, and check it without its largest size.

    Raises
    ------
    ValueError
        If there are fewer points than weights.
    """
    n_weights = len(terms) + is_power
    if len(points) < n_weights:
        msg = f"The law of {name} has {n_weights} weights, and {len(points)} points were measured."
        raise ValueError(msg)
    weights = _weights(points, is_power=is_power)
    fewer = [point for point in points if not point.held_out]
    checked: list[tuple[Point, float]] = []
    if n_weights <= len(fewer) < len(points):
        without = _weights(fewer, is_power=is_power)
        checked = [
            (point, _predict(without, np.array(point.features), is_power=is_power))
            for point in points
            if point.held_out
        ]
    return Law(
        name, unit, tuple(terms), tuple(weights.tolist()), tuple(points), is_power, tuple(checked)
    )


def _weights(points: Sequence[Point], *, is_power: bool) -> np.ndarray:
    from scipy.optimize import nnls

    features = np.array([point.features for point in points], np.float64)
    values = np.array([point.value for point in points], np.float64)
    if is_power:
        table = np.column_stack([np.ones(len(values)), np.log(features)])
        return np.linalg.lstsq(table, np.log(values), rcond=None)[0]
    # A row divided by what was measured counts its relative error; columns are scaled to like size for the solver.
    table = features / values[:, None]
    scale = np.maximum(np.abs(table).max(axis=0), 1e-300)
    found, _ = nnls(table / scale, np.ones(len(values)))
    return found / scale


def _predict(weights: np.ndarray, features: np.ndarray, *, is_power: bool) -> float:
    if is_power:
        return float(np.exp(weights[0] + weights[1:] @ np.log(features)))
    return float(weights @ features)
