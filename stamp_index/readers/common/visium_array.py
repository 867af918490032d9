"""Visium's array: how far apart its spots lie on an image, and the pixel size that follows.

Spots lie 100 um apart on a hexagonal array. Spots of one row are two columns apart; row and column of a spot are
both even or both odd (10x Genomics, "Spatial outputs").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.keys import Nums

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What spot_diameter_fullres spans. Space Ranger writes it of "a theoretical 65 um spot" (10x Genomics, Space Ranger
# 1.3, output/images; 0.65 of the pitch on real slides), other tools of the 55 um that the spot captures.
CIRCLES_UM: Final = (65.0, Nums.VISIUM_SPOT_UM)
# From a spot to its neighbours to the right, below to the right and below to the left, as (rows, columns).
_STEPS: Final = ((0, 2), (1, 1), (1, -1))


def neighbour_steps(array: NDArray[np.integer], xy_px: NDArray[np.float64]) -> list[float]:
    """Distances of neighbours in the three directions of the array.

    Parameters
    ----------
    array : ndarray of shape (n, 2), integer
        ``array_row`` and ``array_col`` of each spot.
    xy_px : ndarray of shape (n, 2), float64
        Centres. Spots without position are left out.

    Returns
    -------
    list of float
        Medians in pixels; up to three, as directions without neighbours are left out.
    """
    known = np.isfinite(xy_px).all(axis=1)
    array, xy_px = array[known].astype(np.int64), xy_px[known]
    if not len(array):
        return []
    width = (
        2 * int(np.abs(array).max()) + 5
    )  # wider than any step, so that no two places share a code
    places = array @ np.array([width, 1])
    medians = []
    for step in _STEPS:
        moved = places + np.array(step) @ np.array([width, 1])
        _, here, there = np.intersect1d(moved, places, return_indices=True)
        if len(here):
            medians.append(float(np.median(np.hypot(*(xy_px[here] - xy_px[there]).T))))
    return medians


def visium_pitch(array: NDArray[np.integer], xy_px: NDArray[np.float64]) -> float | None:
    """Pitch in pixels of spots that may lie on Visium's array.

    Parameters
    ----------
    array, xy_px
        As of `neighbour_steps`.

    Returns
    -------
    float or None
        None unless rows and columns are staggered as Visium's, and neighbours are equally far (to 3 %) in at least two
        directions.
    """
    if (array.sum(axis=1) % 2).any():
        return None
    steps = neighbour_steps(array, xy_px)
    return steps[0] if len(steps) > 1 and agree(steps) else None


def agree(steps: list[float]) -> bool:
    """Say whether distances are above 0 and the same to 3 %."""
    return 0 < max(steps) <= (1 + Nums.MPP_TOLERANCE) * min(steps)


def circle_um(circle_px: float, pitch_px: float) -> float | None:
    """Microns that ``spot_diameter_fullres`` spans, by the pitch of 100 um; None where it is neither 65 nor 55."""
    spans = circle_px / pitch_px * Nums.VISIUM_PITCH_UM
    near = [um for um in CIRCLES_UM if abs(spans - um) <= Nums.MPP_TOLERANCE * um]
    return near[0] if near else None


def visium_mpp(pitch_px: float | None, circle_px: float | None) -> dict[str, float | None]:
    """Microns per pixel by what they follow from: the pitch, and ``spot_diameter_fullres``.

    The second is that of the circle, of 65 or 55 um, which the pitch names, or of 65 um where it names neither: then
    the two contradict each other.
    """
    found: dict[str, float | None] = {}
    circle = CIRCLES_UM[0]
    if pitch_px is not None:
        found["the spots' pitch of 100 um"] = Nums.VISIUM_PITCH_UM / pitch_px
    if circle_px is not None and circle_px > 0:
        named = circle_um(circle_px, pitch_px) if pitch_px is not None else circle
        how = f"{named or circle:g} um" if named else "65 um (or 55 um, which fits no better)"
        found[f"spot_diameter_fullres, which spans {how}"] = (named or circle) / circle_px
    return found
