"""Looking at one slide closely: windows of the query's reach, and the regions that grow from the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.search.regions.grid import ROUNDED_UP, make_grid
from stamp_index.search.regions.growth import Target, grow, tidy
from stamp_index.search.regions.matching import composition, content
from stamp_index.search.regions.query import MIN_SPOTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.regions.grid import Grid, Lattice
    from stamp_index.search.regions.matching import Matching
    from stamp_index.search.regions.settings import RegionSettings

_UNITS: Final = 256  # units that cover the query's area; smaller spots are joined
# Units in all windows of a slide together, some 25 bytes each while they are added up. Up to 3,162 units never have more,
# nor does a Visium slide of 6.5 mm; a million bins do, and their windows are then made of larger squares.
_PAIRS: Final = 10_000_000
_STRENGTH: Final = (
    0.5  # weight of how well the spots of a window match beside how much of the query it holds
)
_SPARE: Final = (
    2  # windows to grow regions from besides those wanted, as some overlap or come to nothing
)
_LEASH: Final = 1.25  # a region stays within so many reaches of its window's centre


@dataclass(frozen=True)
class Wanted:
    """What a region shall be like.

    Attributes
    ----------
    shares : ndarray of shape (p,), float64
        Share of the query's spots that each prototype has; sums to 1.
    area_um2 : float
        Area of tissue that the query covers.
    reach_um : float
        Radius of a disc whose spots lie as far from its middle as the query's.
    """

    shares: NDArray[np.float64]
    area_um2: float
    reach_um: float


@dataclass(frozen=True)
class Found:
    """A region on a slide.

    Attributes
    ----------
    spots : ndarray of shape (m,), int64
        Its spots, by position among those that were looked at, ascending.
    score, composition, content : float
        How like the query it is.
    units_um : ndarray of shape (u, 2), float64
        Centres of its units.
    pitch_um : float
        From unit to unit.
    squares : bool
        Whether units are squares of several spots.
    """

    spots: NDArray[np.int64]
    score: float
    composition: float
    content: float
    units_um: NDArray[np.float64]
    pitch_um: float
    squares: bool


def scan_slide(
    xy_um: NDArray[np.float64],
    lattice: Lattice,
    cosines: NDArray[np.float32],
    *,
    matching: Matching,
    wanted: Wanted,
    settings: RegionSettings,
) -> list[Found]:
    """Find the regions of a slide that are most like the query.

    Parameters
    ----------
    xy_um : ndarray of shape (n, 2), float64
        Centres of the slide's spots that may be found.
    lattice : Lattice
        How all of its spots lie.
    cosines : ndarray of shape (n, p), float32
        With each prototype.
    matching : Matching
        Turns them into shares.
    wanted : Wanted
        What a region shall be like.
    settings : RegionSettings
        How many regions, and how far they may overlap.

    Returns
    -------
    list of Found
        At most `settings.per_slide`, best first.
    """
    grid = make_grid(xy_um, lattice, wanted.area_um2 / _UNITS)
    shares = matching.shares(cosines)
    means = np.asarray(grid.total(shares) / grid.n_spots[:, None], np.float32)  # (u, p + 1)
    target = Target(wanted.shares, wanted.area_um2 / lattice.spot_area_um2, wanted.reach_um)
    coarse = window_grid(grid, xy_um, wanted.reach_um)
    best = coarse.highest(matching.levels(cosines)).max(axis=1)
    worth = window_worth(coarse, coarse.total(shares), best, target)
    found = []
    for centre in peaks(coarse.xy_um, worth, wanted.reach_um, settings.per_slide + _SPARE):
        inside = _region_at(grid, means, coarse.xy_um[centre], target)
        if inside is not None:
            found.append(
                _judge(
                    grid, inside, target, measured=(shares, cosines, matching.prototypes.weights)
                )
            )
    found.sort(key=lambda region: (-region.score, int(region.spots[0])))
    return without_overlap(found, settings.per_slide, settings.max_overlap)


def window_grid(grid: Grid, xy_um: NDArray[np.float64], reach_um: float) -> Grid:
    """Units that windows are made of: those of the slide, or larger squares where that would be too many.

    Squares `s` times as wide are fewer by the square of `s`, and so are those of a window.
    """
    while len(grid.xy_um) ** 2 > _PAIRS and (n := grid.n_within(reach_um)) > _PAIRS:
        wider = max(2.0, np.ceil((n / _PAIRS) ** 0.25))
        grid = make_grid(xy_um, grid.lattice, (wider * grid.pitch_um) ** 2)
    return grid


def window_worth(
    grid: Grid, held: NDArray[np.float32], best: NDArray[np.float32], target: Target
) -> NDArray[np.float64]:
    """Worth of a window around each unit, (u,).

    How much of the query could be put together from the spots within its reach (1 where there is enough of
    every prototype), and half of how well those match that answer one.
    """
    within = grid.within(target.reach_um)
    stock = within @ held[:, :-1]  # (u, p)
    needed = target.shares * target.n_spots
    covered = np.minimum(stock, needed).sum(axis=1) / target.n_spots
    answering = held[:, :-1].sum(axis=1)
    strength = (within @ (best * answering)) / np.maximum(within @ answering, 1e-6)
    worth: NDArray[np.float64] = covered + _STRENGTH * np.clip(strength, 0.0, 1.0) * covered
    return worth


def peaks(
    xy_um: NDArray[np.float64], worth: NDArray[np.float64], apart_um: float, n: int
) -> list[int]:
    """Units of highest worth, no two closer than `apart_um`; at most `n`, best first."""
    left = worth.copy()
    found: list[int] = []
    while len(found) < n and left.max() > 0:
        unit = int(np.argmax(left))
        found.append(unit)
        left[np.hypot(*(xy_um - xy_um[unit]).T) * ROUNDED_UP < apart_um] = 0.0
        left[unit] = 0.0
    return found


def without_overlap(found: list[Found], n: int, most: float) -> list[Found]:
    """First `n` regions of which no two have more than `most` of their joint spots in common."""
    kept: list[Found] = []
    for region in found:
        if len(kept) == n:
            break
        if all(overlap(region.spots, other.spots) <= most for other in kept):
            kept.append(region)
    return kept


def overlap(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Spots in common over joint spots of two regions."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def _region_at(
    grid: Grid, means: NDArray[np.float32], centre_um: NDArray[np.float64], target: Target
) -> NDArray[np.bool_] | None:
    """Grow a region from the answering unit that is nearest to a window's centre."""
    away = np.hypot(*(grid.xy_um - centre_um).T)
    reach = target.reach_um * ROUNDED_UP
    starts = np.flatnonzero((means[:, -1] < 0.5) & (away <= reach))
    if not len(starts):
        return None
    nearest = starts[away[starts] <= away[starts].min() * ROUNDED_UP]
    seed = int(nearest[np.argmin(means[nearest, -1])])
    near = away <= _LEASH * max(reach, grid.pitch_um)
    inside = tidy(grid, grow(grid, means, seed, target, near=near), near)
    least = min(float(MIN_SPOTS), target.n_spots / 2)
    return inside if grid.n_spots[inside].sum() >= least else None


def _judge(
    grid: Grid,
    inside: NDArray[np.bool_],
    target: Target,
    *,
    measured: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]],
) -> Found:
    """Score a region by its spots' shares and cosines, and the weights of the prototypes."""
    shares, cosines, weights = measured
    members = np.flatnonzero(inside[grid.unit_of])
    n_spots = max(float(len(members)), target.n_spots)
    held = shares[members, :-1].sum(axis=0, dtype=np.float64)
    alike = composition(held, n_spots, target.shares)
    meant = content(cosines[members], weights)
    return Found(
        spots=members,
        score=alike * max(meant, 0.0),
        composition=alike,
        content=meant,
        units_um=grid.xy_um[inside],
        pitch_um=grid.pitch_um,
        squares=grid.pitch_um > grid.lattice.pitch_um,
    )
