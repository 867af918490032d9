"""The distance between neighbouring spots of a regular array and how it lies, from their positions alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST_SPOTS: Final = 8  # fewer say too little about a pattern
_NEIGHBOURS: Final = 6  # of a hexagonal array; a square one has 4
# Neighbours lie at 1 pitch; the next nearest at 1.41 (square) or 1.73 (hexagonal).
_NEXT_RING: Final = 1.25
# Of neighbours' directions: 0.1 to 0.2 degrees on six sections of HER2ST (200 um apart), 45 on three of
# the later "2k" arrays, which are staggered and closer.
STAGGERED_DEG: Final = 22.5
_SPREAD: Final = 0.05  # legacy arrays are printed with a jitter of 2 to 3 % of the pitch


def array_pitch(xy_px: NDArray[np.float64]) -> float | None:
    """Find the pitch of a square or hexagonal array, turned or not, with holes or not.

    Parameters
    ----------
    xy_px : ndarray of shape (n, 2), float64
        Spot centres in pixels.

    Returns
    -------
    float or None
        Median distance in pixels of spots that are neighbours; None where the spots are fewer than 8 or
        lie on no regular array, as cells do.

    Notes
    -----
    The nearest neighbour alone is nearer than the pitch where spots are printed with a jitter, so that
    all neighbours within 1.25 times its distance are taken.
    """
    xy_px = xy_px[np.isfinite(xy_px).all(axis=1)]
    if len(xy_px) < _FEWEST_SPOTS:
        return None
    distance, _ = cKDTree(xy_px).query(xy_px, k=_NEIGHBOURS + 1)
    near = np.asarray(distance)[:, 1:]  # (n, 6), without the spot itself
    nearest = float(np.median(near[:, 0]))
    if nearest <= 0:
        return None
    ring = near[near < _NEXT_RING * nearest]
    pitch = float(np.median(ring))
    # Two neighbours a spot, half of them within 5 % of the pitch: cells have neither.
    close = np.abs(near - pitch) <= _SPREAD * pitch
    regular = close.sum() >= len(xy_px) and close.sum() >= 0.5 * len(ring)
    aligned = float(np.mean(close.sum(axis=1) >= 2)) >= 0.5
    return pitch if regular and aligned else None


def square_turn(xy_px: NDArray[np.float64], pitch_px: float) -> float:
    """Say by how much a square array is turned against the image's axes.

    Parameters
    ----------
    xy_px : ndarray of shape (n, 2), float64
        Spot centres in pixels.
    pitch_px : float
        As `array_pitch` found it.

    Returns
    -------
    float
        Degrees from -45 to 45; 45 (or -45) for a staggered array, whose nearest neighbours lie on the diagonals.
    """
    xy_px = xy_px[np.isfinite(xy_px).all(axis=1)]
    pairs = cKDTree(xy_px).query_pairs(_NEXT_RING * pitch_px, output_type="ndarray")  # (m, 2)
    apart = xy_px[pairs[:, 1]] - xy_px[pairs[:, 0]]
    # Four times the angle is the same for all four neighbours, so that their directions add up.
    direction = np.exp(4j * np.arctan2(apart[:, 1], apart[:, 0])).sum()
    return float(np.degrees(np.angle(direction)) / 4)
