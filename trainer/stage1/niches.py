"""Niches of nine spots for stage 1, grouped by distance on the tissue in microns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE: Final = 9  # a centre and eight neighbours, as published
_FIRST_LOOK = 32  # neighbours asked for at first; doubled until enough of them are free


@dataclass(frozen=True)
class Niches:
    """Groups of nearby spots of one slide.

    Attributes
    ----------
    members : ndarray of shape (k, 9), int64
        Spot numbers; slot 0 is the centre.
    pitch_um : float
        Median distance from a spot to its nearest one; 0 for fewer than two positions.
    """

    members: NDArray[np.int64]
    pitch_um: float


def group_niches(
    xy_um: NDArray[np.float64], *, angle: float = 0.0, max_pitches: float = 10.0
) -> Niches:
    """Group the spots of one slide by nines.

    While nine spots are free, the next free spot takes its eight nearest free ones. The last, fewer than
    nine, are filled up with the taken spots nearest to their middle. In each group the member with the
    smallest mean distance to the others becomes the centre. A group wider than `max_pitches` is dropped.

    Parameters
    ----------
    xy_um : ndarray of shape (n, 2), float64
        Positions in microns.
    angle : float
        The next free spot is the first in this direction, in radians: sweeping over the slide leaves few
        remote spots behind, and another angle gives other groups.
    max_pitches : float
        Largest distance between two members, in pitches.

    Returns
    -------
    Niches
        Empty for fewer than nine spots. In every group nine distinct spots.

    Notes
    -----
    Scheme of Hanminghao/STAMP @78c4fd2, ``_utils.group_spots_into_unique_batches``, which measures in
    array rows and columns: on Visium's hexagonal array these are not equally long, and on other platforms
    they mean something else. Published, the limit is ten array steps and the next spot is any.
    """
    pitch = pitch_um(xy_um)
    if len(xy_um) < SIZE:
        return Niches(np.zeros((0, SIZE), dtype=np.int64), pitch)
    order = np.argsort(xy_um @ [np.cos(angle), np.sin(angle)], kind="stable")
    groups, rest = _take_free(xy_um, order)
    if len(rest):
        groups.append(_filled_up(xy_um, rest))
    members, diameter = _centre_first(xy_um, np.stack(groups))
    kept = members[diameter <= max_pitches * pitch] if pitch > 0 else members
    return Niches(kept, pitch)


def pitch_um(xy_um: NDArray[np.float64]) -> float:
    """Median distance (um) from a position to the nearest other one; 0 for fewer than two positions."""
    places = np.unique(xy_um, axis=0)
    if len(places) < 2:
        return 0.0
    distance, _ = cKDTree(places).query(places, k=2)
    return float(np.median(np.asarray(distance)[:, 1]))


def _take_free(
    xy: NDArray[np.float64], order: NDArray[np.int64]
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Return groups of nine free spots each, in `order` of their first; and the fewer than nine left."""
    free = np.ones(len(xy), dtype=bool)
    lookup = _Lookup(xy, np.arange(len(xy)))
    n_free = len(xy)
    groups = []
    for first in order:
        if n_free < SIZE:
            break
        if not free[first]:
            continue
        if 2 * n_free < len(lookup.spots):  # half of what a look finds is taken by now
            lookup = _Lookup(xy[free], np.flatnonzero(free))
        group = lookup.nearest_free(free, xy[first], int(first))
        free[group] = False
        n_free -= SIZE
        groups.append(group)
    return groups, np.flatnonzero(free)


class _Lookup:
    """Nearest spots among `spots` (m,), which are at `xy` (m, 2)."""

    def __init__(self, xy: NDArray[np.float64], spots: NDArray[np.int64]) -> None:
        self.spots = spots
        self.tree = cKDTree(xy)

    def nearest_free(
        self, free: NDArray[np.bool_], at: NDArray[np.float64], first: int
    ) -> NDArray[np.int64]:
        """`first` and its eight nearest free spots."""
        k = _FIRST_LOOK
        while True:
            _, found = self.tree.query(at, k=min(k, len(self.spots)))
            near = self.spots[found]
            near = near[free[near] & (near != first)]
            if len(near) >= SIZE - 1 or k >= len(self.spots):
                return np.concatenate([[first], near[: SIZE - 1]])
            k *= 2


def _filled_up(xy: NDArray[np.float64], rest: NDArray[np.int64]) -> NDArray[np.int64]:
    """All of `rest`, and the taken spots nearest to their middle, nine together."""
    distance = np.linalg.norm(xy - xy[rest].mean(axis=0), axis=1)
    distance[rest] = -1.0
    return np.argsort(distance, kind="stable")[:SIZE]


def _centre_first(
    xy: NDArray[np.float64], groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Swap each group's most central member into slot 0; also the diameter (um) of each group."""
    places = xy[groups]  # (k, 9, 2)
    total = np.zeros(groups.shape)
    diameter = np.zeros(len(groups))
    for slot in range(SIZE):
        distance = np.linalg.norm(places - places[:, slot : slot + 1], axis=2)  # (k, 9)
        total += distance
        diameter = np.maximum(diameter, distance.max(axis=1))
    rows, centre = np.arange(len(groups)), total.argmin(axis=1)
    members = groups.copy()
    members[rows, 0], members[rows, centre] = groups[rows, centre], groups[rows, 0]
    return members, diameter
