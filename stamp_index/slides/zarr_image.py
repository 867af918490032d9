"""OME-Zarr images (OME-NGFF 0.4 and 0.5), read chunk by chunk: those of SpatialData, and others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from stamp_index.errors import ImageFormatError, SlideError
from stamp_index.slides.file_image import FileImage
from stamp_index.slides.images import Level, exact_downsample, one_mpp
from stamp_index.slides.plain import MAX_PLAIN_PX, to_rgb
from stamp_index.slides.tile_cache import TileCache
from stamp_index.slides.zarr_files import attributes, open_node, walk, zarr_errors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_HASH_BYTES: Final = 1 << 20
# Units of OME-NGFF's axes (its specification names the first three in full).
UNIT_UM: Final = {
    "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0,
    "micron": 1.0, "microns": 1.0, "mm": 1e3,
}  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    """How one level lies on disk."""

    path: str
    axes: str  # such as "cyx"
    shape: tuple[int, ...]
    chunk: tuple[int, int]  # height and width of what is decoded at once

    @property
    def size_px(self) -> tuple[int, int]:
        return self.shape[self.axes.index("x")], self.shape[self.axes.index("y")]


class ZarrImage(FileImage):
    """A multiscale image in a zarr folder: 8-bit RGB, RGBA or grey, with axes y, x and c in any order.

    Parameters
    ----------
    path : Path
        The image's own group, such as ``store.zarr/images/hires_image``.

    Raises
    ------
    ImageFormatError
        If it is no such image, or is damaged.
    """

    reads_pieces = True

    _HANDLES = ("_arrays",)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            group = open_node(path)
            scales = multiscales(path)
            self._stored = tuple(_level(group, name, scales.axes, path) for name in scales.paths)
        except ImageFormatError:
            raise
        except SlideError as exc:
            raise ImageFormatError(str(exc)) from exc
        sizes = [level.size_px for level in self._stored]
        if any(a[0] <= b[0] or a[1] <= b[1] for a, b in zip(sizes, sizes[1:], strict=False)):
            msg = f"The sizes of {path} are {sizes} px; expected the largest first. Write the image again."
            raise ImageFormatError(msg)
        if sizes[-1][0] * sizes[-1][1] > MAX_PLAIN_PX:
            msg = (
                f"The smallest size of {path} is {sizes[-1][0]} x {sizes[-1][1]} px; at most {MAX_PLAIN_PX:,} px can be "
                "shown. Write it with smaller sizes (a pyramid)."
            )
            raise ImageFormatError(msg)
        self._levels = tuple(Level(*size, exact_downsample(sizes[0], size)) for size in sizes)
        self._mpp = one_mpp(*scales.mpp, self.uri)
        self._arrays: list[Any] | None = None
        self._cache = TileCache()

    def _hashed(self) -> str:
        """Hash level 0: names and bytes of its metadata and chunks."""
        return _folder_hash(self.path / self._stored[0].path)

    def close(self) -> None:
        """Free the decoded chunks; a later read decodes them again."""
        with self._lock:
            self._arrays = None
        self._cache.clear()

    def _read_level(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        left, top, right, bottom = box
        height, width = self._stored[level].chunk
        out = np.empty((bottom - top, right - left, 3), dtype=np.uint8)
        for row in range(top // height, -(-bottom // height)):
            for column in range(left // width, -(-right // width)):
                chunk = self._chunk(level, row, column)
                y, x = row * height, column * width
                y0, x0 = max(y, top), max(x, left)
                y1, x1 = min(y + chunk.shape[0], bottom), min(x + chunk.shape[1], right)
                out[y0 - top : y1 - top, x0 - left : x1 - left] = chunk[
                    y0 - y : y1 - y, x0 - x : x1 - x
                ]
        return out

    def _chunk(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        return self._cache.get((level, row, column), partial(self._decode, level, row, column))

    def _decode(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        stored = self._stored[level]
        height, width = stored.chunk
        at = {
            "y": slice(row * height, (row + 1) * height),
            "x": slice(column * width, (column + 1) * width),
        }
        try:
            array = self._opened()[level]
            pixels = np.asarray(array[tuple(at.get(axis, slice(None)) for axis in stored.axes)])
        except zarr_errors() as exc:
            msg = (
                f"{self.path / stored.path} opens, but its chunk in row {row}, column {column} cannot be read "
                f"({exc}). The image is damaged: copy or write it again."
            )
            raise ImageFormatError(msg) from exc
        if "c" not in stored.axes:
            pixels = pixels[..., None]
        order = [stored.axes.index(axis) for axis in "yxc" if axis in stored.axes]
        pixels = pixels.transpose(order if len(order) == 3 else [*order, 2])
        return _rgb(np.ascontiguousarray(pixels))

    def _opened(self) -> list[Any]:
        with self._lock:
            if self._arrays is None:
                import zarr

                self._arrays = [
                    zarr.open_array(self.path / stored.path, mode="r") for stored in self._stored
                ]
            return self._arrays


@dataclass(frozen=True)
class Multiscales:
    """What an image's metadata say.

    Attributes
    ----------
    axes : str
        One letter each, in the order of the arrays' axes.
    paths : tuple of str
        Where the levels lie below the image, level 0 first.
    mpp : (float or None, float or None)
        Microns per level-0 pixel across and down; None where the axes have no unit of length.
    transformations : tuple of dict
        From level-0 pixels to coordinate systems, as stored.
    """

    axes: str
    paths: tuple[str, ...]
    mpp: tuple[float | None, float | None]
    transformations: tuple[dict[str, Any], ...]


def multiscales(path: Path) -> Multiscales:
    """Read an image's metadata (OME-NGFF 0.4: at the top; 0.5: below ``ome``).

    Raises
    ------
    SlideError
        If they are missing or damaged.
    """
    said = attributes(path)
    try:
        held = said.get("ome", said)["multiscales"][0]
        axes = [axis if isinstance(axis, str) else axis["name"] for axis in held["axes"]]
        units = [None if isinstance(axis, str) else axis.get("unit") for axis in held["axes"]]
        paths = tuple(str(level["path"]) for level in held["datasets"])
        if not paths:
            msg = "it has no datasets"
            raise ValueError(msg)
        scale = _dataset_scale(held["datasets"][0], len(axes))
        um = [UNIT_UM.get(unit or "") for unit in units]
        mpp = {a: s * u if u else None for a, s, u in zip(axes, scale, um, strict=True)}
        transformations = tuple(dict(one) for one in held.get("coordinateTransformations", ()))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        msg = f"{path} is no OME-Zarr image: its `multiscales` are missing or damaged ({exc!r}). Write the image again."
        raise SlideError(msg) from exc
    return Multiscales("".join(axes), paths, (mpp.get("x"), mpp.get("y")), transformations)


def _dataset_scale(dataset: dict[str, Any], n_axes: int) -> list[float]:
    for one in dataset.get("coordinateTransformations", ()):
        if one["type"] == "scale":
            return [float(value) for value in one["scale"]]
    return [1.0] * n_axes


def _level(group: Any, name: str, axes: str, path: Path) -> _Stored:  # noqa: ANN401
    try:
        array = group[name]
        shape, dtype = tuple(int(n) for n in array.shape), np.dtype(array.dtype)
        chunks = tuple(int(n) for n in array.chunks)
    except zarr_errors() as exc:
        msg = f"{path / name}, a size of the image, cannot be opened ({exc!r}). Copy or write the image again."
        raise ImageFormatError(msg) from exc
    channels = shape[axes.index("c")] if "c" in axes and len(shape) == len(axes) else 1
    if (
        sorted(axes) not in (["x", "y"], ["c", "x", "y"])
        or len(shape) != len(axes)
        or channels not in (1, 3, 4)
    ):
        msg = f"{path} has axes {axes} of shape {shape}; expected one RGB or grey plane. Export the H&E image alone."
        raise ImageFormatError(msg)
    if dtype != np.uint8:
        msg = f"{path} holds {dtype} pixels; expected 8 bits per channel (uint8). Convert it to 8-bit RGB."
        raise ImageFormatError(msg)
    chunk = chunks[axes.index("y")], chunks[axes.index("x")]
    if min(*shape, *chunk) < 1 or chunk[0] * chunk[1] > MAX_PLAIN_PX:
        msg = f"{path / name} has shape {shape} in chunks of {chunks}; expected chunks of 1 to {MAX_PLAIN_PX:,} px."
        raise ImageFormatError(msg)
    return _Stored(name, axes, shape, chunk)


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        return to_rgb(Image.fromarray(pixels, "RGBA"))
    return pixels


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    try:
        for file in walk(folder):
            digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
            with file.open("rb") as stream:
                while part := stream.read(_HASH_BYTES):
                    digest.update(part)
    except OSError as exc:
        msg = f"{folder} cannot be read ({exc.strerror}). Check that it is there."
        raise ImageFormatError(msg) from exc
    return digest.hexdigest()
