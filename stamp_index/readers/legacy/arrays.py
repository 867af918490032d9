"""The two printed arrays of legacy Spatial Transcriptomics, and the pixel size that they give an image.

Spots are 100 um wide on both: on STUtility's images of 2k arrays, printed rims lie 11 px from the centres, at
4.35 um/px.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import MissingPixelSizeError
from stamp_index.keys import Nums

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENOUGH_SPOTS: Final = (
    16  # by chance, so many spots of a square array lie staggered once in 2**15 times
)
_AREA_UM: Final = (6200.0, 6600.0)  # the printed area of both arrays


@dataclass(frozen=True)
class Array:
    """One design.

    Attributes
    ----------
    name : str
        ``1k`` or ``2k``.
    what : str
        For notes.
    columns, rows : int
        Highest array coordinates.
    across_um, down_um : float
        Distance of neighbouring columns and of neighbouring rows, centre to centre.
    """

    name: str
    what: str
    columns: int
    rows: int
    across_um: float
    down_um: float


# 1,007 spots of 100 um on a square of 200 um, inside a frame of 33 x 35 (Stahl et al. 2016).
SQUARE: Final = Array(
    "1k", "the 1k array's pitch of 200 um", 33, 35, Nums.LEGACY_ST_PITCH_UM, Nums.LEGACY_ST_PITCH_UM
)
# About 2,000 spots on the same area: 66 columns and 63 rows, every other place printed. Neighbours are 140.7 um
# apart, one column and one row away; STUtility, which these arrays' tables come with, counts with 141 um
# (process_from_table.R). Pixels per column and per row then agree to 0.3 % on its example images.
STAGGERED: Final = Array(
    "2k", "the staggered 2k array's pitch of 141 um", 66, 63, _AREA_UM[0] / 66, _AREA_UM[1] / 63
)


def which_array(xy: NDArray[np.float64]) -> Array | None:
    """Tell the array by the places that are printed.

    Parameters
    ----------
    xy : ndarray of shape (n, 2)
        Array coordinates.

    Returns
    -------
    Array or None
        None where there are too few spots to tell, or coordinates that neither array has.
    """
    places = np.unique(np.round(xy).astype(np.int64), axis=0)
    if len(places) < _ENOUGH_SPOTS or places.min() < 1:
        return None
    # Every other place: the sum of the two coordinates is even for all spots, or odd for all.
    array = STAGGERED if len(np.unique(places.sum(axis=1) % 2)) == 1 else SQUARE
    fits = (places <= (array.columns, array.rows)).all()
    return array if fits else None


def fitted_mpp(
    array: Array, xy: NDArray[np.float64], xy_px: NDArray[np.float64], section: str
) -> float:
    """Fit pixels against array coordinates: microns per pixel, the same both ways.

    Parameters
    ----------
    array : Array
        Its design.
    xy, xy_px : ndarray of shape (n, 2)
        The same spots on the array and on the image.
    section : str
        For messages.

    Raises
    ------
    MissingPixelSizeError
        If all spots lie in one line, or the two axes differ by more than 3 %.
    """
    known = np.isfinite(xy_px).all(axis=1)  # `validate` names spots without position
    slopes = []
    for axis, name in enumerate(("column", "row")):
        if len(np.unique(xy[known, axis])) < 2:
            msg = (
                f"Section {section}: all spots lie in the same {name}, so their distance gives no pixel size. Give "
                "the whole positions file, or mpp (SlideOptions(mpp=...) or `mpp` in slide.toml)."
            )
            raise MissingPixelSizeError(msg)
        slopes.append(float(np.polyfit(xy[known, axis], xy_px[known, axis], 1)[0]))
    if min(slopes) > 0:
        across, down = array.across_um / slopes[0], array.down_um / slopes[1]
        if abs(across - down) <= Nums.MPP_TOLERANCE * min(across, down):
            return (across + down) / 2
    msg = (
        f"Section {section}: neighbouring columns are {slopes[0]:.4g} px apart and neighbouring rows {slopes[1]:.4g} px, "
        f"but {array.what} asks for {array.across_um:.4g} um and {array.down_um:.4g} um: the two give pixel sizes that "
        f"differ by more than {Nums.MPP_TOLERANCE:.0%}. Correct the positions file."
    )
    raise MissingPixelSizeError(msg)
