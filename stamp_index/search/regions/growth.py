"""From a seed to a connected group of units that holds what the query holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.regions.grid import Grid

_STEPS: Final = 48  # a region is grown in about so many steps, whatever its size
_SURROUNDED: Final = (
    0.6  # share of its neighbours from which a unit belongs to a region whatever it answers
)
_SMALL: Final = 6  # units up to which every one counts, also a tip
_CONTACT: Final = 0.5  # worth of a unit all of whose neighbours are in the region, beside 1 for one that is wanted
_FAR: Final = 0.3  # and what a unit as far from the seed as the query reaches is worth less


@dataclass(frozen=True)
class Target:
    """What a region shall hold.

    Attributes
    ----------
    shares : ndarray of shape (p,), float64
        Share of each prototype.
    n_spots : float
        Spots that cover the query's area on this slide.
    reach_um : float
        How far the query's spots lie from their middle: radius of a disc as spread out as they are.
    """

    shares: NDArray[np.float64]
    n_spots: float
    reach_um: float


def grow(
    grid: Grid, shares: NDArray[np.float32], seed: int, target: Target, *, near: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Add touching units to a seed, those first whose prototypes are missing most.

    Parameters
    ----------
    grid : Grid
        Units of the slide.
    shares : ndarray of shape (u, p + 1), float32
        How much of each unit answers each prototype, and none (last); rows sum to 1.
    seed : int
        Unit to begin with.
    target : Target
        Growth ends at its number of spots, or where only units are left that answer none.
    near : ndarray of shape (u,), bool
        Units that may be taken.

    Returns
    -------
    ndarray of shape (u,), bool
        The region: connected, without holes of `near` units.
    """
    touching, n_spots = grid.touching, grid.n_spots
    degree = np.maximum(np.diff(touching.indptr), 1)
    inside = np.zeros(len(n_spots), np.bool_)
    contact = np.zeros(len(n_spots), np.float32)  # neighbours inside
    held, total, new = np.zeros(shares.shape[1] - 1), 0.0, np.array([seed])
    may, reach_um = np.flatnonzero(near), max(target.reach_um, grid.pitch_um)
    enough = target.n_spots - n_spots.min() / 2
    at_once = max(1, int(np.ceil(target.n_spots / n_spots.mean() / _STEPS)))
    while True:
        inside[new] = True
        total += float(n_spots[new].sum())
        held += n_spots[new] @ shares[new, :-1]
        for unit in new:
            contact[touching.indices[touching.indptr[unit] : touching.indptr[unit + 1]]] += 1
        edge = may[(contact[may] > 0) & ~inside[may]]
        touch = contact[edge] / degree[edge]
        belongs = (shares[edge, -1] < 0.5) | (touch >= _SURROUNDED)
        edge, touch = edge[belongs], touch[belongs]
        if total >= enough or not len(edge):
            return inside
        # One spot of the query is added to what is held, so that no prototype is missing without end.
        missing = np.sqrt(target.shares * (total + 1) / (held + target.shares).clip(1e-9))
        away = np.hypot(*(grid.xy_um[edge] - grid.xy_um[seed]).T) / reach_um
        worth = shares[edge, :-1] @ missing + _CONTACT * touch - _FAR * away
        best = edge[np.argsort(-worth, kind="stable")[:at_once]]
        before = np.cumsum(n_spots[best]) - n_spots[best]
        new = best[before < enough - total]


def tidy(grid: Grid, inside: NDArray[np.bool_], near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill notches of a region, cut off its tips, and keep the largest part; only units of `near` are added."""
    touching = grid.touching
    degree = np.maximum(np.diff(touching.indptr), 1)
    filled = (touching @ inside.astype(np.float32)) / degree >= _SURROUNDED
    inside = inside | (filled & near)
    if inside.sum() > _SMALL:
        inside = inside & (touching @ inside.astype(np.float32) >= 2)
    return largest_part(grid, inside)


def largest_part(grid: Grid, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest connected part of some units, by spots; the first of equal ones."""
    units = np.flatnonzero(inside)
    if not len(units):
        return inside
    _, part = connected_components(grid.touching[units][:, units], directed=False)
    most = np.argmax(np.bincount(part, grid.n_spots[units]))
    kept = np.zeros_like(inside)
    kept[units[part == most]] = True
    return kept
