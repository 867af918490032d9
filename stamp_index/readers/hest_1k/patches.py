"""``patches/<id>.h5`` of HEST-1k: squares of 112 um, cut at the spots, joined to them by barcode."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import pandas as pd

from stamp_index.errors import SlideError
from stamp_index.keys import Nums
from stamp_index.readers.build import keep_spots
from stamp_index.readers.common.hdf5 import open_h5
from stamp_index.readers.common.joining import join_most
from stamp_index.readers.hest_1k.patch_image import PatchImage

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.slides import Slide

_SIDE_PX: Final = 224  # at 0.5 um/px: 112 um (HEST-1k, dump_patches)
_MOST_OFF_PX: Final = 3.0  # corners are whole numbers, and half an odd width was rounded down


@dataclass(frozen=True)
class HestPatches:
    """Where the patches lie, and which spot each belongs to.

    Attributes
    ----------
    path : Path
    barcodes : Index of length N
        The spots' names, in the order of the patches.
    width_px : float
        Width of a patch in level-0 pixels, from the distance between its corner and its spot's centre.
    """

    path: Path
    barcodes: pd.Index
    width_px: float

    @property
    def mpp(self) -> float:
        """Microns per level-0 pixel."""
        return Nums.PATCH_UM / self.width_px

    @classmethod
    def open(cls, path: Path, slide: Slide) -> Self:
        """Read corners and barcodes, and hold them against the slide's spots.

        Raises
        ------
        SlideError
            If the file is damaged, its patches have another size, or do not lie at the spots.
        BarcodeMismatchError
            If barcodes repeat, or most patches name spots that the slide does not have.
        """
        names, corners = _read(path)
        joined = join_most(
            names,
            slide.spots.index,
            where=f"The patches {path}",
            counted="patches",
            place="spot with counts",
        )
        half = slide.xy_px[joined.at] - corners[joined.rows]
        return cls(path, pd.Index(names), _width_px(half, path))

    def applied(self, slide: Slide, mpp: float, full_size_px: tuple[float, float] | None) -> Slide:
        """Return the slide with the patches as its image, without the spots that have none."""
        width_px = Nums.PATCH_UM / mpp  # the same to a pixel, without its rounding
        rows = self.barcodes.get_indexer(slide.spots.index)
        kept = np.flatnonzero(rows >= 0)
        lost = slide.n_spots - len(kept)
        if lost:
            note = f"{lost} of {slide.n_spots} spots have no patch and were dropped: HEST-1k cuts none off the tissue."
            slide = keep_spots(slide, kept, note)
        extent = slide.xy_px.max(axis=0) + width_px / 2
        width, height = full_size_px or (float(extent[0]), float(extent[1]))
        image = PatchImage(
            self.path,
            rows[kept],
            slide.xy_px - width_px / 2,
            patch_px=width_px,
            size_px=(math.ceil(width), math.ceil(height)),
            mpp=mpp,
        )
        return replace(slide, image=image)


def _read(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Return barcodes and corners (N, 2)."""
    try:
        with open_h5(path) as file:
            shape = file["img"].shape
            corners = np.asarray(file["coords"][:], dtype=np.float64)
            raw: Any = file["barcode"]
            values = raw.asstr()[:] if raw.dtype.kind in "OS" else raw[:]
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as exc:
        msg = (
            f"The patches {path} cannot be read ({exc}). Expected the datasets img, coords and barcode: copy the file "
            "again."
        )
        raise SlideError(msg) from exc
    names = [str(name) for name in np.ravel(values).tolist()]
    if len(shape) != 4 or shape[1:] != (_SIDE_PX, _SIDE_PX, 3):
        msg = f"The patches {path} have shape {shape}; expected (N, 224, 224, 3), as HEST-1k has them."
        raise SlideError(msg)
    if not len(names) == shape[0] == len(corners) or corners.shape[1:] != (2,) or not names:
        msg = (
            f"The patches {path} have {shape[0]} images, {len(names)} barcodes and corners of shape {corners.shape}; "
            "expected one barcode and one corner (x, y) an image. Copy the file again."
        )
        raise SlideError(msg)
    return names, corners


def _width_px(half: NDArray[np.float64], path: Path) -> float:
    """Return the width that corners and centres give, or refuse corners that do not fit the centres.

    HEST-Bench stores centres as (row, column) under the same name: half a patch is then no constant.
    """
    half = half[np.isfinite(half).all(axis=1)]  # `validate` names spots without position
    across, down = np.median(half, axis=0) if len(half) else (0.0, 0.0)
    off = float(np.max(np.abs(half - (across, down)))) if len(half) else math.inf
    if not (min(across, down) > 0 and abs(across - down) <= _MOST_OFF_PX and off <= _MOST_OFF_PX):
        msg = (
            f"The patches {path} do not lie at the spots: from corner to spot it is {across:.0f} px across and {down:.0f} "
            f"px down at the median, and up to {off:.0f} px off. Expected half a patch both ways, for every spot: the "
            "corners (x, y) of HEST-1k, not the centres of its benchmark."
        )
        raise SlideError(msg)
    return float(across + down)
