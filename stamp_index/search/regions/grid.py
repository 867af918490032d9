"""The spots of one slide as units with neighbours: spots themselves, or squares of many small bins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse import csr_matrix, identity
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Spots closer than so many pitches touch: more than the places of legacy ST arrays are off (0.2), less than the diagonal of
# a square array (1.41) and the second ring of a hexagonal one (1.73).
TOUCH: Final = 1.3
# Many units of an array lie at the same distance: rounding must not part them.
ROUNDED_UP: Final = 1.0 + 1e-6
_HEXAGONAL: Final = 5  # neighbours from which an array is no square one
_HEXAGON: Final = np.sqrt(3.0) / 2.0  # area of a spot of a hexagonal array, in squared pitches
_COUNTED: Final = 4_096  # units whose neighbours are counted to tell how many all have


@dataclass(frozen=True)
class Lattice:
    """How the spots of a slide lie, whichever of them may be found.

    Attributes
    ----------
    pitch_um : float
        From the centre of a spot to that of the next.
    spot_area_um2 : float
        Area of tissue that a spot stands for.
    """

    pitch_um: float
    spot_area_um2: float


def lattice_of(xy_um: NDArray[np.float64]) -> Lattice | None:
    """Find pitch and area of the spots at (n, 2) microns; None where there are too few to tell.

    The pitch is the median distance to the second nearest other spot: the same in square and in hexagonal arrays, at
    their edges too, and hardly moved by holes. An array counts as hexagonal where at least a quarter of the spots
    have five neighbours or more.
    """
    places = np.unique(xy_um, axis=0)
    if len(places) < 3:
        return None
    tree = cKDTree(places)
    distances = np.asarray(tree.query(places, k=3)[0])
    pitch = float(np.median(distances[:, 2]))
    n_near = tree.query_ball_point(places, TOUCH * pitch, return_length=True) - 1
    hexagonal = np.quantile(n_near, 0.75) >= _HEXAGONAL
    return Lattice(pitch, pitch**2 * (_HEXAGON if hexagonal else 1.0))


@dataclass(frozen=True)
class Grid:
    """Units of a slide that may be found: groups of spots that are taken or left together.

    Attributes
    ----------
    xy_um : ndarray of shape (u, 2), float64
        Centre of each unit.
    n_spots : ndarray of shape (u,), float64
        Spots in it.
    unit_of : ndarray of shape (n,), int64
        Unit of each spot.
    pitch_um : float
        From unit to unit.
    lattice : Lattice
        Of the spots.
    """

    xy_um: NDArray[np.float64]
    n_spots: NDArray[np.float64]
    unit_of: NDArray[np.int64]
    pitch_um: float
    lattice: Lattice

    @cached_property
    def touching(self) -> csr_matrix:
        """Which units touch: (u, u), float32, 1 where they do; no unit touches itself."""
        return self.within(TOUCH * self.pitch_um, itself=False)

    def within(self, radius_um: float, *, itself: bool = True) -> csr_matrix:
        """Which units lie within a distance of which: (u, u), float32, 1 where they do."""
        tree, n = cKDTree(self.xy_um), len(self.xy_um)
        pairs = tree.query_pairs(radius_um * ROUNDED_UP, output_type="ndarray").astype(np.int32)
        values = np.ones(len(pairs), np.float32)
        half = csr_matrix((values, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
        both = half + half.T
        return csr_matrix(both + identity(n, np.float32, "csr") if itself else both)

    def n_within(self, radius_um: float) -> float:
        """Entries of `within`, about: counted for some units, spread evenly over the slide."""
        step = max(1, len(self.xy_um) // _COUNTED)
        counted = cKDTree(self.xy_um).query_ball_point(
            self.xy_um[::step], radius_um * ROUNDED_UP, return_length=True
        )
        return float(counted.mean() * len(self.xy_um))

    def total(self, of_spots: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum values of spots, (n, p), over the spots of each unit: (u, p)."""
        if self._one_each:
            return of_spots
        n_spots, n_units = len(self.unit_of), len(self.xy_um)
        members = csr_matrix(
            (np.ones(n_spots, np.float32), (self.unit_of, np.arange(n_spots))),
            shape=(n_units, n_spots),
        )
        return np.asarray(members @ of_spots, np.float32)

    def highest(self, of_spots: NDArray[np.float32]) -> NDArray[np.float32]:
        """Highest value of spots, (n, p), over the spots of each unit: (u, p)."""
        if self._one_each:
            return of_spots
        order = np.argsort(self.unit_of, kind="stable")
        starts = np.searchsorted(self.unit_of[order], np.arange(len(self.xy_um)))
        return np.maximum.reduceat(of_spots[order], starts, axis=0)

    @property
    def _one_each(self) -> bool:
        return len(self.xy_um) == len(self.unit_of)


def make_grid(xy_um: NDArray[np.float64], lattice: Lattice, unit_area_um2: float) -> Grid:
    """Group spots into units.

    Parameters
    ----------
    xy_um : ndarray of shape (n, 2), float64
        Centres of the spots that may be found.
    lattice : Lattice
        Of all spots of the slide.
    unit_area_um2 : float
        Least area of a unit. Spots of that area or more are units themselves, those at one place together; smaller
        ones, such as bins of Visium HD, are joined in squares a whole number of pitches wide.
    """
    per_side = int(np.ceil(np.sqrt(unit_area_um2 / lattice.spot_area_um2) - 1e-6))
    if per_side <= 1:
        places, unit_of, n = np.unique(xy_um, axis=0, return_inverse=True, return_counts=True)
        if len(places) == len(xy_um):
            places, unit_of = xy_um, np.arange(len(xy_um))
        return Grid(places, n.astype(np.float64), unit_of, lattice.pitch_um, lattice)
    side = per_side * lattice.pitch_um
    corner = xy_um.min(axis=0) - lattice.pitch_um / 2  # so that no spot lies on a border
    square = np.floor((xy_um - corner) / side).astype(np.int64)
    columns = square[:, 1].max() + 1
    kept, unit_of = np.unique(square @ (columns, 1), return_inverse=True)
    n_spots = np.bincount(unit_of).astype(np.float64)
    centres = (np.stack(np.divmod(kept, columns), axis=1) + 0.5) * side + corner
    return Grid(centres, n_spots, unit_of.astype(np.int64), side, lattice)
