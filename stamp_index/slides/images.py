"""What every slide image can do, whatever its file format.

Pixel coordinates are continuous: pixel (i, j) covers [i, i+1) x [j, j+1) of level 0.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from PIL import Image

from stamp_index.errors import ImageFormatError, MissingPixelSizeError
from stamp_index.keys import Nums

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WHITE: Final = 255  # what lies outside an image looks like glass
# Microscope pixels lie well inside these bounds. 72, 96 or 300 dpi (352, 265, 85 um/px), which
# image programs write when they know nothing, lie outside and are no pixel size.
MIN_MPP: Final = 0.02
MAX_MPP: Final = 20.0
# A flat slide of 60,000 x 60,000 px holds 10.8 GB of RGB: above the first number a box is reduced in blocks
# of the second.
MAX_WHOLE_PX: Final = 64_000_000
BLOCK_PX: Final = 4_000_000


@dataclass(frozen=True)
class Level:
    """One size of a pyramid: its pixels and how many level-0 pixels one of them covers."""

    width_px: int
    height_px: int
    downsample: float


class SlideImage(ABC):
    """A slide's image, read in pieces.

    Instances can be sent to other processes and used from several threads; files are opened when
    they are first needed. Use as a context manager or call `close` to free them.
    """

    uri: str
    reads_pieces: bool = False  # from the file, without holding the whole image in memory

    @property
    @abstractmethod
    def mpp(self) -> float | None:
        """Microns per level-0 pixel from the file's metadata, or None where it says nothing."""

    @property
    @abstractmethod
    def levels(self) -> tuple[Level, ...]:
        """Sizes that can be read, level 0 first."""

    @abstractmethod
    def _read_level(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Return RGB pixels of (left, top, right, bottom), which lies inside the level."""

    @abstractmethod
    def content_hash(self) -> str:
        """SHA-256 of the file's bytes (of the pixels where there is no file), as hex."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Level-0 size as (width, height)."""
        first = self.levels[0]
        return first.width_px, first.height_px

    def read(self, x_px: float, y_px: float, width_px: float, out_px: int) -> NDArray[np.uint8]:
        """Read a square.

        Parameters
        ----------
        x_px, y_px : float
            Top-left corner in level-0 pixels; may lie outside the image.
        width_px : float
            Width in level-0 pixels, above 0.
        out_px : int
            Width of the result in pixels, at least 1.

        Returns
        -------
        ndarray of shape (out_px, out_px, 3), uint8
            RGB; white outside the image.

        Raises
        ------
        ImageFormatError
            If the file's pixels cannot be decoded.
        ValueError
            If a size is not above 0 or a corner is not finite.
        """
        return self.read_box(x_px, y_px, (width_px, width_px), (out_px, out_px))

    def read_box(
        self,
        x_px: float,
        y_px: float,
        size_px: tuple[float, float],
        out_px: tuple[int, int],
    ) -> NDArray[np.uint8]:
        """Read a rectangle, resampled with a triangle filter that covers every source pixel.

        Parameters
        ----------
        x_px, y_px : float
            Top-left corner in level-0 pixels; may lie outside the image.
        size_px : (float, float)
            Width and height in level-0 pixels, above 0.
        out_px : (int, int)
            Width and height of the result in pixels.

        Returns
        -------
        ndarray of shape (out_h, out_w, 3), uint8
            RGB; white outside the image. A box of many pixels is read and reduced in blocks, which
            gives the same pixels up to rounding. At the level's own scale the corner is moved to the nearest
            pixel (by half a pixel at most), so that pixels come through unchanged.

        Raises
        ------
        ImageFormatError
            If the file's pixels cannot be decoded.
        ValueError
            If a size is not above 0 or a corner is not finite.
        """
        _check_box((x_px, y_px), size_px, out_px)
        scale = min(size_px[0] / out_px[0], size_px[1] / out_px[1])
        index = self._best_level(scale)
        level = self.levels[index]
        left, top = x_px / level.downsample, y_px / level.downsample
        width, height = size_px[0] / level.downsample, size_px[1] / level.downsample
        if math.isclose(width, out_px[0], abs_tol=1e-3) and math.isclose(
            height, out_px[1], abs_tol=1e-3
        ):
            left, top = math.floor(left + 0.5), math.floor(top + 0.5)
            return self._read_padded(index, (left, top, left + out_px[0], top + out_px[1]))
        scale_x, scale_y = width / out_px[0], height / out_px[1]
        if width * height <= MAX_WHOLE_PX:
            return self._resample(index, (left, top), (scale_x, scale_y), out_px)
        out = np.empty((out_px[1], out_px[0], 3), dtype=np.uint8)
        rows, columns = _block_size((scale_x, scale_y))
        for y in range(0, out_px[1], rows):
            for x in range(0, out_px[0], columns):
                size = (min(columns, out_px[0] - x), min(rows, out_px[1] - y))
                corner = (left + x * scale_x, top + y * scale_y)
                out[y : y + size[1], x : x + size[0]] = self._resample(
                    index, corner, (scale_x, scale_y), size
                )
        return out

    def overview(self, max_px: int) -> NDArray[np.uint8]:
        """Read the whole image, its longer side `max_px` pixels (never enlarged).

        Returns
        -------
        ndarray of shape (h, w, 3), uint8
            RGB.
        """
        width, height = self.size_px
        shrink = min(1.0, max_px / max(width, height))
        out = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        return self.read_box(0.0, 0.0, (width, height), out)

    def close(self) -> None:  # noqa: B027 - optional to override
        """Free the file and its memory; a later read opens it again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _best_level(self, scale: float) -> int:
        """Return the smallest level that still has the detail asked for."""
        best = 0
        for index, level in enumerate(self.levels):
            if level.downsample <= scale * (1 + 1e-3):
                best = index
        return best

    def _resample(
        self,
        index: int,
        corner: tuple[float, float],
        scale: tuple[float, float],
        out_px: tuple[int, int],
    ) -> NDArray[np.uint8]:
        """Resample a box of a level, whose corner and pixels per output pixel are given."""
        left, top = corner
        width, height = scale[0] * out_px[0], scale[1] * out_px[1]
        # The filter reaches one output pixel beyond the box; without this margin, the same place
        # would look different at the edge of a patch and inside a wider one.
        margin_x = math.ceil(max(scale[0], 1.0)) + 1
        margin_y = math.ceil(max(scale[1], 1.0)) + 1
        box = (
            math.floor(left) - margin_x,
            math.floor(top) - margin_y,
            math.ceil(left + width) + margin_x,
            math.ceil(top + height) + margin_y,
        )
        pixels = Image.fromarray(self._read_padded(index, box))
        inner = (left - box[0], top - box[1], left + width - box[0], top + height - box[1])
        return np.asarray(pixels.resize(out_px, Image.Resampling.BILINEAR, box=inner))

    def _read_padded(self, index: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Read a box that may reach over the edges; the outside is white."""
        left, top, right, bottom = box
        level = self.levels[index]
        inside = (
            min(max(left, 0), level.width_px),
            min(max(top, 0), level.height_px),
            max(min(right, level.width_px), 0),
            max(min(bottom, level.height_px), 0),
        )
        if inside == box:
            return self._read_level(index, box)
        canvas = np.full((bottom - top, right - left, 3), WHITE, dtype=np.uint8)
        if inside[0] < inside[2] and inside[1] < inside[3]:
            rows = slice(inside[1] - top, inside[3] - top)
            columns = slice(inside[0] - left, inside[2] - left)
            canvas[rows, columns] = self._read_level(index, inside)
        return canvas


def one_mpp(mpp_x: float | None, mpp_y: float | None, uri: str) -> float | None:
    """Make one pixel size of two: their mean, or None where the file gives none that can be true.

    Raises
    ------
    MissingPixelSizeError
        If the two differ by more than 3 %.
    """
    if mpp_x is None or mpp_y is None:
        return None
    if not (MIN_MPP <= mpp_x <= MAX_MPP and MIN_MPP <= mpp_y <= MAX_MPP):
        return None
    if abs(mpp_x - mpp_y) > Nums.MPP_TOLERANCE * min(mpp_x, mpp_y):
        msg = (
            f"{uri} says {mpp_x:.4g} um/px across and {mpp_y:.4g} um/px down; the two may differ by "
            f"{Nums.MPP_TOLERANCE:.0%} at most. Correct the file's metadata."
        )
        raise MissingPixelSizeError(msg)
    return (mpp_x + mpp_y) / 2


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex.

    Raises
    ------
    ImageFormatError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as exc:
        msg = f"{path} cannot be read ({exc.strerror}). Check that the file is there."
        raise ImageFormatError(msg) from exc


def exact_downsample(full: tuple[int, int], level: tuple[int, int]) -> float:
    """Level-0 pixels per level pixel, without the error that rounding a level's size brings.

    A 300 x 250 image halved three times is 37 x 31, which looks like 8.09 but is 8.
    """
    whole = max(round(full[0] / level[0]), 1)
    for size, small in zip(full, level, strict=True):
        if not (size // whole <= small <= -(-size // whole)):
            return (full[0] / level[0] + full[1] / level[1]) / 2
    return float(whole)


def _block_size(scale: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns of output whose source, near a square, has some `BLOCK_PX` pixels."""
    side = math.sqrt(BLOCK_PX)
    return max(1, int(side / scale[1])), max(1, int(side / scale[0]))


def _check_box(
    corner: tuple[float, float], size_px: tuple[float, float], out_px: tuple[int, int]
) -> None:
    if not all(math.isfinite(value) for value in (*corner, *size_px)):
        msg = f"Cannot read a box at {corner} of size {size_px} px: every number must be finite."
        raise ValueError(msg)
    if min(size_px) <= 0 or min(out_px) < 1:
        msg = f"Cannot read {size_px} px into {out_px} px: every size must be above 0."
        raise ValueError(msg)
