"""What the encoder is shown of a query picture: its patch, and its region where there is one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.slides import ArrayImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.encoders.base import Encoder
    from stamp_index.slides import PatchSpec

_ROUNDING: Final = 1e-6  # relative; widths are products of floats
_MOST_MPP: Final = 50.0  # a patch of 112 um is then two pixels wide


@dataclass(frozen=True)
class QueryPatch:
    """One patch as the encoder takes it.

    Attributes
    ----------
    patch : ndarray of shape (1, size_px, size_px, 3), uint8
        Width of `encoder.patch`.
    region : ndarray of shape (1, size_px, size_px, 3), uint8, or None
        Width of `encoder.region`; None where the picture does not reach that far.
    width_um : float
        Shorter side of the picture in microns.
    """

    patch: NDArray[np.uint8]
    region: NDArray[np.uint8] | None
    width_um: float

    def notes(self, encoder: Encoder) -> tuple[str, ...]:
        """Say what is missing from what the encoder is shown."""
        if self.region is not None:
            return ()
        return (
            f"The picture does not show the {encoder.region.width_um:g} um around the middle of the patch: "
            f"its surroundings were not used. Give a larger picture to search with them.",
        )


def cut_query(
    pixels: NDArray[np.uint8],
    encoder: Encoder,
    *,
    mpp: float,
    centre_px: tuple[float, float] | None = None,
) -> QueryPatch:
    """Cut patch and region around a place of a picture and resample them as stored ones are.

    Raises
    ------
    QueryError
        If the picture is smaller than the patch, or the patch does not lie on it.
    ValueError
        If `pixels`, `mpp` or `centre_px` is no such thing.
    """
    check_picture(pixels, mpp)
    height, width = pixels.shape[:2]
    width_um = min(width, height) * mpp
    if width_um < encoder.patch.width_um * (1 - _ROUNDING):
        msg = (
            f"The picture is {width_um:.4g} um wide ({min(width, height)} px at {mpp:g} um per "
            f"pixel), but a patch is {encoder.patch.width_um:g} um wide. Give a larger picture, "
            f"or correct the pixel size."
        )
        raise QueryError(msg)
    centre = (width / 2, height / 2) if centre_px is None else _checked_centre(centre_px)
    if not _lies_inside(pixels, centre, encoder.patch.width_um / mpp):
        msg = (
            f"A patch of {encoder.patch.width_um:g} um around ({centre[0]:g}, {centre[1]:g}) px "
            f"reaches over the edge of the picture of {width} x {height} px. Choose a centre "
            f"farther inside."
        )
        raise QueryError(msg)
    region = None
    if _lies_inside(pixels, centre, encoder.region.width_um / mpp):
        region = _square(pixels, centre, encoder.region, mpp)[None]
    return QueryPatch(_square(pixels, centre, encoder.patch, mpp)[None], region, width_um)


def check_picture(pixels: NDArray[np.uint8], mpp: float) -> None:
    """Refuse what is no picture, or no pixel size.

    Raises
    ------
    TypeError, ValueError
        Naming what was given.
    """
    if not isinstance(pixels, np.ndarray):
        msg = f"The picture is a {type(pixels).__name__}; expected a uint8 array (h, w, 3)."
        raise TypeError(msg)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        msg = (
            f"The picture is {pixels.dtype} of shape {pixels.shape}; expected uint8 RGB of shape "
            f"(h, w, 3)."
        )
        raise ValueError(msg)
    if isinstance(mpp, bool) or not 0 < mpp <= _MOST_MPP:
        msg = f"mpp is {mpp}; expected microns per pixel above 0, at most {_MOST_MPP:g}, such as 0.5 for a 20x scan."
        raise ValueError(msg)


def _checked_centre(centre_px: tuple[float, float]) -> tuple[float, float]:
    if len(centre_px) != 2 or not all(math.isfinite(value) for value in centre_px):
        msg = f"centre_px is {centre_px}; expected two finite numbers (x, y) in pixels."
        raise ValueError(msg)
    return float(centre_px[0]), float(centre_px[1])


def _lies_inside(pixels: NDArray[np.uint8], centre: tuple[float, float], side_px: float) -> bool:
    reach = side_px / 2 * (1 - _ROUNDING)
    sizes = (pixels.shape[1], pixels.shape[0])
    return all(reach <= at <= size - reach for at, size in zip(centre, sizes, strict=True))


def _square(
    pixels: NDArray[np.uint8], centre: tuple[float, float], spec: PatchSpec, mpp: float
) -> NDArray[np.uint8]:
    """Square of `spec` around a place, through the same resampling as the patches of slides."""
    side = spec.width_um / mpp
    left, top = centre[0] - side / 2, centre[1] - side / 2
    # The filter looks a little beyond the square. Tissue goes on there, so the edge is repeated
    # where the picture ends, instead of the white that lies around a slide.
    margin = math.ceil(4 * max(side / spec.size_px, 1.0)) + 2
    first_x, first_y = math.floor(left) - margin, math.floor(top) - margin
    n = math.ceil(side) + 2 * margin + 1
    columns = np.clip(np.arange(first_x, first_x + n), 0, pixels.shape[1] - 1)
    lines = np.clip(np.arange(first_y, first_y + n), 0, pixels.shape[0] - 1)
    around = ArrayImage(pixels[np.ix_(lines, columns)])
    square = around.read(left - first_x, top - first_y, side, spec.size_px)
    return square.copy()  # what Pillow gives cannot be written to, which torch warns of
