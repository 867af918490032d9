"""A slide of which only square patches were kept: an image that is white wherever no patch lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from stamp_index.errors import ImageFormatError
from stamp_index.readers.common.hdf5 import open_h5
from stamp_index.slides.array_image import SMALLEST_LEVEL_PX
from stamp_index.slides.file_image import FileImage
from stamp_index.slides.images import WHITE, Level

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray


class PatchImage(FileImage):
    """An image put together from the patches of one h5 file, which are read when they are needed.

    Parameters
    ----------
    path : Path
        Its dataset ``img`` of shape (N, s, s, 3), uint8, holds RGB patches.
    rows : ndarray of shape (m,), integer
        Which of the N patches are used.
    corners_px : ndarray of shape (m, 2), float64
        Their top-left corners (x, y) in level-0 pixels.
    patch_px : float
        Their width in level-0 pixels.
    size_px : (int, int)
        Width and height of level 0.
    mpp : float
        Microns per level-0 pixel.

    Raises
    ------
    ImageFormatError
        If the file has no such patches.

    Notes
    -----
    Where patches overlap, the one whose centre is nearest to that of the box being read lies on top: a
    box that is one patch gives that patch, unchanged where the box has the patches' own scale.
    """

    _HANDLES = ("_file",)

    def __init__(
        self,
        path: Path,
        rows: NDArray[np.integer],
        corners_px: NDArray[np.float64],
        *,
        patch_px: float,
        size_px: tuple[int, int],
        mpp: float,
    ) -> None:
        super().__init__(path)
        self._rows, self._corners = rows, corners_px
        self._patch_px, self._mpp = patch_px, mpp
        self._file: h5py.File | None = None
        with self._lock:
            side = int(self._patches().shape[1])
        self._levels = _levels(size_px, patch_px / side)

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def _read_level(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        left, top, right, bottom = box
        downsample = self._levels[level].downsample
        width = max(1, round(self._patch_px / downsample))
        corners = np.floor(self._corners / downsample + 0.5).astype(np.int64)  # (m, 2)
        touching = np.flatnonzero(
            (corners < (right, bottom)).all(axis=1) & (corners + width > (left, top)).all(axis=1)
        )
        middle = (left + right - width) / 2, (top + bottom - width) / 2
        away = np.hypot(*(corners[touching] - middle).T)
        canvas = np.full((bottom - top, right - left, 3), WHITE, dtype=np.uint8)
        for patch in touching[np.argsort(-away, kind="stable")]:
            _paste(canvas, self._patch(int(self._rows[patch]), width), corners[patch] - (left, top))
        return canvas

    def _patch(self, row: int, width: int) -> NDArray[np.uint8]:
        try:
            with self._lock:
                pixels = self._patches()[row]
        except (OSError, RuntimeError, ValueError) as exc:
            msg = f"Patch {row} of {self.uri} cannot be read ({exc}). Copy the file again."
            raise ImageFormatError(msg) from exc
        if pixels.shape[0] == width:
            return np.asarray(pixels)
        resized = Image.fromarray(pixels).resize((width, width), Image.Resampling.BILINEAR)
        return np.asarray(resized)

    def _patches(self) -> h5py.Dataset:
        """Return the dataset; the caller holds the lock."""
        try:
            if self._file is None:
                self._file = open_h5(self.path)
            patches = self._file["img"]
            good = patches.dtype == np.uint8 and patches.ndim == 4 and patches.shape[3] == 3
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as exc:
            msg = f"The patches {self.uri} cannot be read ({exc}). Copy the file again."
            raise ImageFormatError(msg) from exc
        if not good or patches.shape[1] != patches.shape[2]:
            msg = (
                f"The patches {self.uri} have shape {patches.shape} and dtype {patches.dtype}; expected square RGB "
                "patches (N, s, s, 3) of uint8."
            )
            raise ImageFormatError(msg)
        return patches


def _paste(
    canvas: NDArray[np.uint8], patch: NDArray[np.uint8], corner: NDArray[np.integer]
) -> None:
    """Write a patch over `canvas`, its corner (x, y), cut at the canvas' edges."""
    x, y = int(corner[0]), int(corner[1])
    left, top = max(x, 0), max(y, 0)
    right = min(x + patch.shape[1], canvas.shape[1])
    bottom = min(y + patch.shape[0], canvas.shape[0])
    canvas[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]


def _levels(size_px: tuple[int, int], own_scale: float) -> tuple[Level, ...]:
    levels = [Level(*size_px, 1.0)]
    if own_scale > 1:
        levels.append(_level(size_px, own_scale))
    while max(levels[-1].width_px, levels[-1].height_px) > SMALLEST_LEVEL_PX:
        levels.append(_level(size_px, 2 * levels[-1].downsample))
    return tuple(levels)


def _level(size_px: tuple[int, int], downsample: float) -> Level:
    width, height = (max(1, int(size / downsample)) for size in size_px)
    return Level(width, height, downsample)
