"""How far down the right answer stands: a query's own spot, or the first spot near it on the tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.evaluate.metrics import TIE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stamp_index.evaluate.spots import EvaluatedSpots

_PAIRS: Final = 200_000  # whose cosines are computed at once
OWN, NEAR = 0, 1  # columns of thresholds


@dataclass(frozen=True, eq=False)
class Right:
    """The cosine of the right answer of each query, and what is right as well.

    Attributes
    ----------
    thresholds : ndarray of shape (n, 2), float32
        Cosine with the query's own spot, and the best cosine with a spot near it.
    n_near : ndarray of shape (n,), int64
        Spots that would be right: the own one and those near it, all of the own slide.
    also_right : ndarray of shape (n,), int64
        Spots near it that reach the second threshold: they stand above nothing wrong.
    placed : ndarray of shape (n,), bool
        False where no position in microns is known: then nearness means nothing.
    """

    thresholds: NDArray[np.float32]
    n_near: NDArray[np.int64]
    also_right: NDArray[np.int64]
    placed: NDArray[np.bool_]


def right_answers(
    queries: NDArray[np.float32],
    targets: NDArray[np.float32],
    spots: EvaluatedSpots,
    radius_um: float,
) -> Right:
    """Find what is right for each query.

    Parameters
    ----------
    queries, targets : ndarray of shape (n, d), float32
        Unit vectors; row i of both is the same spot.
    spots : EvaluatedSpots
    radius_um : float
        Spots of the slide whose centres are at most this far are near.
    """
    n = len(queries)
    own = _cosines(queries, targets, np.arange(n), np.arange(n))
    best, near = own.copy(), []
    for asked, found in _near_pairs(spots, radius_um):
        cosines = _cosines(queries, targets, asked, found)
        np.maximum.at(best, asked, cosines)
        near.append((asked, cosines))
    also = (own >= best - np.float32(TIE)).astype(np.int64)
    n_near = np.ones(n, np.int64)
    for asked, cosines in near:
        np.add.at(n_near, asked, 1)
        np.add.at(also, asked, cosines >= best[asked] - np.float32(TIE))
    placed = np.isfinite(spots.xy_um[:, 0]) & np.isfinite(spots.xy_um[:, 1])
    return Right(np.column_stack([own, best]), n_near, also, placed)


def ranks_of(
    reached: NDArray[np.int64], right: Right, n_zones: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks in galleries that grow by one zone each: the own slide, with the patient's other slides, with all.

    Parameters
    ----------
    reached : ndarray of shape (n, 2, 3), int64
        Targets of each zone that reach the thresholds of `right`.
    right : Right
    n_zones : int
        How many galleries.

    Returns
    -------
    own, near : ndarray of shape (n, n_zones), int64
        1 is best; ties take the worst rank. `near` is the rank of the first spot near the query's, where nothing that is
        near stands above it.
    """
    within = np.cumsum(reached, axis=2)[:, :, :n_zones]
    near = within[:, NEAR] - right.also_right[:, None] + 1
    return within[:, OWN], np.maximum(near, 1)


def _cosines(
    queries: NDArray[np.float32],
    targets: NDArray[np.float32],
    asked: NDArray[np.int64],
    found: NDArray[np.int64],
) -> NDArray[np.float32]:
    parts = [
        np.einsum("nd,nd->n", queries[asked[at : at + _PAIRS]], targets[found[at : at + _PAIRS]])
        for at in range(0, len(asked), _PAIRS)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _near_pairs(
    spots: EvaluatedSpots, radius_um: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Ordered pairs of different spots of a slide that are near each other."""
    from scipy.spatial import cKDTree

    for slide in np.unique(spots.slide):
        here = np.flatnonzero(spots.slide == slide)
        if not np.isfinite(spots.xy_um[here]).all():
            continue
        pairs = cKDTree(spots.xy_um[here]).query_pairs(radius_um, output_type="ndarray")
        yield (
            here[np.concatenate([pairs[:, 0], pairs[:, 1]])],
            here[np.concatenate([pairs[:, 1], pairs[:, 0]])],
        )
