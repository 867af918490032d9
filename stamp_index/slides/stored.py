"""Images that a store names: opened where they are what the store says they are.

Whoever made a store wrote these names, and may have written the name of somebody else's slide. So nothing is opened
over a network or among the system's own files, and a picture is shown only where it looks like the overview that the
store keeps of it: a stranger can show us only what they have seen. `STAMP_INDEX_IMAGES` confines it further.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

from stamp_index.errors import ImageFormatError
from stamp_index.remote.addresses import is_address
from stamp_index.remote.slide_copies import SlideCopy
from stamp_index.slides.opening import open_image
from stamp_index.slides.safe import safe_open

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.slides.images import SlideImage

FOLDERS: Final = "STAMP_INDEX_IMAGES"  # folders, as PATH has them, that images of stores may lie in
ADDRESSES: Final = (
    "STAMP_INDEX_IMAGE_ADDRESSES"  # of object storage, that images of stores may lie below
)
# Held as long as their images: a copy that nobody holds may go.
_COPIES: WeakKeyDictionary[SlideImage, SlideCopy] = WeakKeyDictionary()
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # of two letters or more: C: is a disk
_SHARES: Final = ("\\\\", "//")  # another machine's files, on Windows
_SYSTEM: Final = tuple(map(Path, ("/proc", "/sys", "/dev")))
_SIDE: Final = 4  # cells across and down that a picture is compared in
_CELL_PX: Final = 16
_LEAST_OTHER: Final = 6.0  # grey levels; compression and scaling take less than 3
_SHARE_OTHER: Final = 0.35  # of the deviation: unlike tissue differs by 0.8 of it or more


def open_stored(
    uri: str, size_px: tuple[float, float], overview: bytes | None, store: Path | str
) -> SlideImage:
    """Open the image of a slide of a store.

    Parameters
    ----------
    uri : str
        What the store says of where it lies.
    size_px : (float, float)
        Width and height that the store says it has.
    overview : bytes or None
        JPEG of it that the store keeps. Without one, only images in the store's folder or in those of the environment
        variable ``STAMP_INDEX_IMAGES`` are opened.
    store : Path or str
        The store's folder, or its address: images of its own bucket are then opened too, and those below the addresses
        of the environment variable ``STAMP_INDEX_IMAGE_ADDRESSES``, with an overview or without. They are copied whole
        first, into a cache of bounded size: see `SlideCopy`.

    Returns
    -------
    SlideImage

    Raises
    ------
    ImageFormatError
        If it lies where no image is opened from, cannot be read, has another size, or looks otherwise.
    """
    if is_address(uri):
        image = _fetched(uri, str(store))
    else:
        image = open_image(_vouched(uri, overview, store))
    if image.size_px != size_px:
        msg = f"The image {uri} is {image.size_px[0]} x {image.size_px[1]} px; the store says {size_px[0]:g} x {size_px[1]:g}. Put the slide's own image back."
        raise ImageFormatError(msg)
    if overview is not None and not looks_like(image, overview):
        msg = f"The image {uri} is another picture than the store's overview of the slide. Put the slide's own image back."
        raise ImageFormatError(msg)
    return image


def _fetched(uri: str, store: str) -> SlideImage:
    """Open the copy of an image in object storage, which stays as long as the image."""
    given = re.split(r"[\s,]+", os.environ.get(ADDRESSES, ""))
    allowed = [one.rstrip("/") + "/" for one in given if one]
    if is_address(store):
        allowed.append("/".join(store.split("/")[:3]) + "/")
    if not any(uri.startswith(one) for one in allowed) or ".." in uri.split("/"):
        msg = (
            f"The store says that an image lies at {uri[:200]!r}, which is neither in the store's own bucket nor below an address "
            f"of {ADDRESSES}. Name it there to have it opened."
        )
        raise ImageFormatError(msg)
    copy = SlideCopy.of(uri)
    image = open_image(copy.path)
    _COPIES[image] = copy
    return image


def _vouched(uri: str, overview: bytes | None, store: Path | str) -> Path:
    """Path of an image that is not read where the store alone says that it is the slide's."""
    path = Path(require_local(uri))
    near = [] if is_address(store) else [Path(store)]
    is_near = _lies_in(path, [*near, *_named_folders()])
    if not is_near and (_named_folders() or overview is None):
        where = f"the folders of {FOLDERS}" if _named_folders() else "the store's folder"
        msg = f"The image {uri} does not lie in {where}, and the store alone vouches for it. Move it there, or name its folder in {FOLDERS}."
        raise ImageFormatError(msg)
    return path


def require_local(uri: str) -> str:
    """Return what a store says of where an image lies, if it is a path on this machine.

    Raises
    ------
    ImageFormatError
        If it is an address of a network, or lies among the system's own files.
    """
    if _SCHEME.match(uri) or uri.startswith(_SHARES) or "\0" in uri:
        msg = f"The store says that an image lies at {uri[:200]!r}; only files of this machine are opened."
        raise ImageFormatError(msg)
    try:
        target = Path(uri).resolve()
    except (OSError, RuntimeError, ValueError) as exc:  # links that lead to each other
        msg = f"The image {uri[:200]!r} cannot be found ({exc}). Put it back."
        raise ImageFormatError(msg) from exc
    if any(target.is_relative_to(folder) for folder in _SYSTEM):
        msg = f"The store says that an image lies at {uri[:200]!r}, which is part of the system."
        raise ImageFormatError(msg)
    return uri


def _named_folders() -> list[Path]:
    return [Path(name) for name in os.environ.get(FOLDERS, "").split(os.pathsep) if name]


def _lies_in(path: Path, folders: Sequence[Path]) -> bool:
    target = path.resolve()
    return any(target.is_relative_to(folder.resolve()) for folder in folders)


# ---- likeness ------------------------------------------------------------------------------------


def looks_like(image: SlideImage, overview: bytes) -> bool:
    """Whether an image shows what an overview of it shows, in sixteen places all over it.

    Reads 256 px of the level that fits, not the whole image.

    Raises
    ------
    ImageFormatError
        If the overview is no image, or the image cannot be read.
    """
    kept = Image.fromarray(safe_open(overview)).convert("L")
    seen = np.concatenate([np.asarray(kept.crop(box)).ravel() for box in _cells(kept.size)])
    scale = image.size_px[0] / kept.width, image.size_px[1] / kept.height
    there = np.concatenate([_read(image, box, scale) for box in _cells(kept.size)])
    difference = np.abs(seen.astype(np.float64) - there).mean()
    return bool(difference <= max(_LEAST_OTHER, _SHARE_OTHER * seen.std()))


def _cells(size_px: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) spread evenly over a picture, each at most 16 px wide."""
    width, height = (max(1, min(_CELL_PX, length // _SIDE)) for length in size_px)
    return [
        (x, y, x + width, y + height)
        for y in _starts(size_px[1], height)
        for x in _starts(size_px[0], width)
    ]


def _starts(length: int, width: int) -> list[int]:
    middles = (np.arange(_SIDE) + 0.5) * length / _SIDE
    starts: list[int] = np.clip(middles - width / 2, 0, length - width).astype(int).tolist()
    return starts


def _read(
    image: SlideImage, box: tuple[int, int, int, int], scale: tuple[float, float]
) -> NDArray[np.float64]:
    left, top, right, bottom = box
    size = ((right - left) * scale[0], (bottom - top) * scale[1])
    pixels = image.read_box(left * scale[0], top * scale[1], size, (right - left, bottom - top))
    return np.asarray(Image.fromarray(pixels).convert("L"), np.float64).ravel()
