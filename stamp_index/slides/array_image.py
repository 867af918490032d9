"""Images that are held in memory: arrays, and plain JPEG, PNG and TIFF files decoded once."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from stamp_index.slides.file_image import FileImage
from stamp_index.slides.images import Level, SlideImage
from stamp_index.slides.plain import decode_plain, plain_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SMALLEST_LEVEL_PX: Final = 512  # longer side; below this a smaller level saves nothing


class ArrayImage(SlideImage):
    """An image in memory.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        RGB.
    mpp : float, optional
        Microns per pixel.
    uri : str, optional
        Where it came from, for messages and the store.

    Raises
    ------
    ValueError
        If `pixels` has another shape or dtype.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], mpp: float | None = None, *, uri: str = "memory"
    ) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            msg = (
                f"pixels has shape {pixels.shape} and dtype {pixels.dtype}; expected uint8 RGB of "
                "shape (h, w, 3)."
            )
            raise ValueError(msg)
        self.uri = uri
        self._mpp = mpp
        self._pyramid = [np.ascontiguousarray(pixels)]
        self._levels = _halvings(pixels.shape[1], pixels.shape[0])
        self._lock = threading.Lock()
        self._hash: str | None = None

    @property
    def mpp(self) -> float | None:
        """Microns per pixel as given."""
        return self._mpp

    @property
    def levels(self) -> tuple[Level, ...]:
        """The image and its halvings, which are made when they are first read."""
        return self._levels

    def content_hash(self) -> str:
        """SHA-256 of shape and pixels, as hex."""
        if self._hash is None:
            digest = hashlib.sha256(repr(self._pyramid[0].shape).encode())
            digest.update(self._pyramid[0].data)
            self._hash = digest.hexdigest()
        return self._hash

    def _read_level(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        left, top, right, bottom = box
        return self._level_pixels(level)[top:bottom, left:right].copy()

    def _level_pixels(self, level: int) -> NDArray[np.uint8]:
        if level >= len(self._pyramid):
            with self._lock:
                while level >= len(self._pyramid):
                    self._pyramid.append(halve(self._pyramid[-1]))
        return self._pyramid[level]

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_pyramid"] = self._pyramid[:1]
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


class PlainImage(FileImage):
    """A JPEG, PNG or TIFF file without tiles: decoded whole when it is first read.

    Parameters
    ----------
    path : Path
        A file of the user's own (uploads go through `safe_open`).

    Raises
    ------
    ImageFormatError
        If the file is not one of the three formats or is larger than 1 Gpx.
    """

    _HANDLES = ("_decoded",)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        header = plain_header(path)
        self._mpp = header.mpp
        self._levels = _halvings(*header.size_px)
        self._decoded: ArrayImage | None = None

    def close(self) -> None:
        """Free the decoded pixels; a later read decodes the file again."""
        with self._lock:
            self._decoded = None

    def _read_level(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        return self._image()._read_level(level, box)

    def _image(self) -> ArrayImage:
        with self._lock:
            if self._decoded is None:
                self._decoded = ArrayImage(decode_plain(self.path), self._mpp, uri=self.uri)
            return self._decoded


def halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of 2 x 2 pixels; an odd last row or column is averaged over what there is.

    Works in strips, as Pillow needs a copy with four bytes a pixel.
    """
    height, width, _ = pixels.shape
    small = np.empty(((height + 1) // 2, (width + 1) // 2, 3), dtype=np.uint8)
    for top in range(0, height, 1024):
        strip = Image.fromarray(pixels[top : top + 1024])
        reduced = np.asarray(strip.reduce(2))
        small[top // 2 : top // 2 + reduced.shape[0]] = reduced
    return small


def _halvings(width: int, height: int) -> tuple[Level, ...]:
    levels = [Level(width, height, 1.0)]
    while max(width, height) > SMALLEST_LEVEL_PX:
        width, height = (width + 1) // 2, (height + 1) // 2
        levels.append(Level(width, height, 2.0 * levels[-1].downsample))
    return tuple(levels)
