"""Tiled and pyramidal TIFFs without a vendor, and OME-TIFF, read tile by tile."""

from __future__ import annotations

import struct
import weakref
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from stamp_index.errors import ImageFormatError
from stamp_index.slides.file_image import FileImage
from stamp_index.slides.images import Level, exact_downsample, one_mpp
from stamp_index.slides.plain import to_rgb
from stamp_index.slides.tiles import TileReader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_UNIT_UM: Final = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}  # inch, cm, mm, um
_MOST_PAGES: Final = 10_000  # a slide has levels, a label and a macro image
_COLOURS: Final = (1, 2)  # TIFF PhotometricInterpretation: black is zero, RGB
_YCBCR, _JPEG = 6, 7  # a JPEG decoder turns YCbCr into RGB; nothing else here does
_OME_UM: Final = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}


class TiffImage(FileImage):
    """A tiled TIFF with or without sub-levels; RGB in either plane order, or grey.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    ImageFormatError
        If it is not a TIFF that tifffile reads, or not 8-bit RGB or grey.
    """

    reads_pieces = True

    _HANDLES = ("_tiff", "_arrays", "_tiles")

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._arrays: list[Any] | None = None
        self._tiles: TileReader | None = None
        self._tiff: Any = None
        with open_tiff(path) as tiff:
            try:
                self._read_header(tiff)
            except tiff_errors() as exc:
                msg = f"{path} is not a TIFF that can be read ({exc}). Export it again."
                raise ImageFormatError(msg) from exc

    def _read_header(self, tiff: Any) -> None:  # noqa: ANN401
        series = tiff.series[0]
        self.is_tiled = bool(series.keyframe.is_tiled)
        self._axes = _checked_axes(series, self.path)
        self._is_chunky = self._axes in ("YX", "YXS") and self.is_tiled
        full = _size(series.levels[0], self._axes)
        self._levels = tuple(
            Level(*size, exact_downsample(full, size))
            for size in (_size(level, self._axes) for level in series.levels)
        )
        self._mpp = one_mpp(*_mpp(tiff), self.uri)

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        with self._lock:
            if self._tiff is not None:
                self._tiff.close()
            self._tiff, self._arrays, self._tiles = None, None, None

    def _read_level(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        left, top, _, _ = box
        try:
            if self._is_chunky:
                pixels = self._tile_reader().read(level, box)
            else:
                pixels = self._read_planes(level, box)
        except tiff_errors() as exc:
            msg = (
                f"{self.path} opens, but its pixels cannot be read at x {left}, y {top} px of level "
                f"{level} ({exc}). The file is damaged: copy or export it again."
            )
            raise ImageFormatError(msg) from exc
        if pixels.shape[2] == 1:
            return np.repeat(pixels, 3, axis=2)
        if pixels.shape[2] == 4:
            return to_rgb(Image.fromarray(pixels, "RGBA"))
        return pixels

    def _opened(self) -> Any:  # noqa: ANN401
        """Return the open file; it is closed when this image is closed or no longer used."""
        if self._tiff is None:
            self._tiff = open_tiff(self.path)
            weakref.finalize(self, self._tiff.close)
            for level in self._tiff.series[0].levels:
                # Making the decoder of JPEG tiles reads from the file; made by the first of several threads that
                # read tiles, it moves the file's position under the others.
                _ = level.keyframe.decode
        return self._tiff

    def _tile_reader(self) -> TileReader:
        with self._lock:
            if self._tiles is None:
                self._tiles = TileReader([s.keyframe for s in self._opened().series[0].levels])
            return self._tiles

    def _read_planes(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Read red, green and blue that lie in planes of their own; zarr puts them together."""
        left, top, right, bottom = box
        slices = {"Y": slice(top, bottom), "X": slice(left, right)}
        index = tuple(slices.get(axis, slice(None)) for axis in self._axes)
        pixels = np.asarray(self._level_arrays()[level][index])
        order = [self._axes.index(axis) for axis in "YXS"]
        return np.ascontiguousarray(pixels.transpose(order))

    def _level_arrays(self) -> list[Any]:
        import zarr

        with self._lock:
            if self._arrays is None:
                series = self._opened().series[0]
                self._arrays = [
                    zarr.open(series.aszarr(level=level), mode="r")
                    for level in range(len(series.levels))
                ]
            return self._arrays


def open_tiff(path: Path) -> Any:  # noqa: ANN401 - tifffile has no types here
    """Open a TIFF by itself: pictures that it says lie in other files are not looked for.

    Returns
    -------
    tifffile.TiffFile

    Raises
    ------
    ImageFormatError
        If it is no TIFF, or a part of a microscope's stack, whose index names the other files.
    """
    import tifffile

    try:
        tiff = tifffile.TiffFile(path, _multifile=False)
        # Pages name the next one. Counted first, a ring of them ends; looked at one by one, it does not (tifffile 2026.3).
        n_pages = len(tiff.pages)
    except tiff_errors() as exc:
        msg = f"{path} is not a TIFF that can be read ({exc}). Export it again."
        raise ImageFormatError(msg) from exc
    if n_pages > _MOST_PAGES:
        tiff.close()
        msg = f"{path} has {n_pages:,} pictures; expected those of one slide. Export the H&E image alone."
        raise ImageFormatError(msg)
    if tiff.is_ndtiff or tiff.is_mmstack:
        tiff.close()
        msg = f"{path} is part of a stack of Micro-Manager, which lies in several files. Export the H&E image alone."
        raise ImageFormatError(msg)
    return tiff


def tiff_errors() -> tuple[type[Exception], ...]:
    """Every error that tifffile and its codecs raise for damaged files, as found by damaging them."""
    import tifffile

    # imagecodecs' errors are RuntimeErrors; a codec that it lacks is an ImportError or a KeyError
    return (
        *(tifffile.TiffFileError, OSError, ValueError, LookupError, ImportError, RuntimeError),
        *(TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError, struct.error),
    )


def _checked_axes(series: Any, path: Path) -> str:  # noqa: ANN401
    """Return the axes of a series with channels called S, or refuse what is not RGB or grey."""
    axes: str = series.axes
    shape: tuple[int, ...] = series.shape
    if "S" not in axes and "C" in axes:
        axes = axes.replace("C", "S")  # OME-TIFF stores red, green and blue as channels
    channels = shape[axes.index("S")] if "S" in axes else 1
    if sorted(axes) not in (["X", "Y"], ["S", "X", "Y"]) or channels not in (1, 3, 4):
        msg = (
            f"{path} has axes {series.axes} of shape {shape}; expected one RGB or grey plane. "
            "Export the H&E image alone."
        )
        raise ImageFormatError(msg)
    page = series.keyframe
    photometric, compression = int(page.photometric), int(page.compression)
    if photometric not in _COLOURS and not (photometric == _YCBCR and compression == _JPEG):
        msg = (
            f"{path} has colours of kind {_name_of(page.photometric)} compressed as "
            f"{_name_of(page.compression)}; expected RGB or grey. Convert it to RGB."
        )
        raise ImageFormatError(msg)
    if series.dtype != np.uint8:
        msg = f"{path} holds {series.dtype} pixels; expected 8 bits per channel. Convert it to 8-bit RGB."
        raise ImageFormatError(msg)
    return axes


def _name_of(tag: Any) -> str:  # noqa: ANN401 - tifffile's enumerations, or a number that is in none
    return str(getattr(tag, "name", tag))


def _size(level: Any, axes: str) -> tuple[int, int]:  # noqa: ANN401
    return int(level.shape[axes.index("X")]), int(level.shape[axes.index("Y")])


def _mpp(tiff: Any) -> tuple[float | None, float | None]:  # noqa: ANN401
    if tiff.ome_metadata:
        found = _ome_mpp(tiff.ome_metadata)
        if None not in found:
            return found
    tags = tiff.pages[0].tags
    unit = _UNIT_UM.get(int(tags["ResolutionUnit"].value)) if "ResolutionUnit" in tags else None
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None, None
    across, down = tags["XResolution"].value, tags["YResolution"].value
    if not (across[0] and across[1] and down[0] and down[1]):
        return None, None
    return unit * across[1] / across[0], unit * down[1] / down[0]


def _ome_mpp(xml: str) -> tuple[float | None, float | None]:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None, None
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None, None
    values: list[float | None] = []
    for axis in "XY":
        unit = _OME_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        size = pixels.get(f"PhysicalSize{axis}")
        values.append(float(size) * unit if size and unit else None)
    return values[0], values[1]
