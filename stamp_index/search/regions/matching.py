"""Which prototype a spot answers, and how much of the query a group of spots holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.regions.prototypes import Prototypes

_LEAST_RANGE: Final = (
    0.02  # cosine; keeps noise apart from a match where random spots are as near as the query's own
)


@dataclass(frozen=True)
class Matching:
    """Measures spots against the prototypes of a query.

    Attributes
    ----------
    prototypes : Prototypes
        What is asked for.
    low, high : ndarray of shape (p,), float32
        Cosine with each prototype of a random spot of the store, and of a spot that answers it.
    floor : float
        How far a spot must lie on the way from low (0) to high (1) to answer a prototype rather than none.
    softness : float
        On the same scale: spots whose difference is small against it are shared between prototypes.
    """

    prototypes: Prototypes
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    floor: float
    softness: float

    def levels(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put cosines (n, p) on the scale where a random spot has 0 and an answer has 1."""
        span = np.maximum(self.high - self.low, _LEAST_RANGE)
        return np.asarray((cosines - self.low) / span, np.float32)

    def shares(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much of each spot answers each prototype, and in the last column none: (n, p + 1), rows sum to 1."""
        levels = self.levels(cosines)
        none = np.full((len(levels), 1), self.floor, np.float32)
        logits = np.concatenate([levels, none], axis=1) / np.float32(self.softness)
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)

    def answers(self, cosines: NDArray[np.float32]) -> NDArray[np.int64]:
        """Prototype that each spot answers most, (n,); -1 for those that answer none."""
        levels = self.levels(cosines)
        nearest = levels.argmax(axis=1)
        answering = levels[np.arange(len(levels)), nearest] > self.floor
        return np.where(answering, nearest, -1)


def composition(held: NDArray[np.float64], n_spots: float, wanted: NDArray[np.float64]) -> float:
    """Bhattacharyya coefficient between what is wanted and what is held.

    Parameters
    ----------
    held : ndarray of shape (p,), float
        Spots of each prototype in a region; what answers none is left out.
    n_spots : float
        Spots of the region, or of the query if that is more: what is missing answers none.
    wanted : ndarray of shape (p,), float
        Share of each prototype in the query; sums to at most 1.
    """
    return float(np.sqrt(held / n_spots * wanted).sum())


def content(cosines: NDArray[np.float32], weights: NDArray[np.float64]) -> float:
    """Late interaction between a query and a region, both ways.

    Parameters
    ----------
    cosines : ndarray of shape (m, p), float32
        Of the region's spots with the query's prototypes.
    weights : ndarray of shape (p,), float64
        Share of each prototype in the query; sums to 1.

    Returns
    -------
    float
        In [-1, 1]: mean of two means. One is over the query: each prototype takes its best spot (MaxSim of Khattab
        and Zaharia 2020, "ColBERT", with weights). The other is over the region: each spot takes its best prototype,
        so that what does not belong lowers it.
    """
    asked = float(weights @ cosines.max(axis=0).astype(np.float64))
    answered = float(cosines.max(axis=1).astype(np.float64).mean())
    return (asked + answered) / 2
