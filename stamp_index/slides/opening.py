"""One door for every image a slide can have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stamp_index.errors import ImageFormatError
from stamp_index.slides.array_image import PlainImage
from stamp_index.slides.openslide_image import OpenSlideImage
from stamp_index.slides.plain import sniff
from stamp_index.slides.tiff_image import TiffImage, open_tiff, tiff_errors
from stamp_index.slides.zarr_image import ZarrImage

if TYPE_CHECKING:
    from stamp_index.slides.images import SlideImage

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_image(path: Path | str) -> SlideImage:
    """Open a slide's image, by what the file holds and not by its name.

    Vendors' formats are read by OpenSlide, tiled TIFFs of no vendor (OME-TIFF too) tile by tile, and
    plain JPEG, PNG and TIFF files are decoded whole when first read. A folder is an OME-Zarr image.

    Parameters
    ----------
    path : Path or str
        A file or zarr folder of the user's own; uploads go through `safe_open`.

    Returns
    -------
    SlideImage
        Its `mpp` is None where the file says nothing about its pixel size.

    Raises
    ------
    ImageFormatError
        If the file is missing, damaged, of an unknown format, or too large to be read without tiles.
    MissingPixelSizeError
        If its pixel sizes across and down contradict each other.
    """
    path = Path(path)
    try:
        is_folder, is_special = path.is_dir(), path.exists() and not path.is_file()
    except OSError as exc:  # a name that is too long
        msg = f"The image {str(path)[:200]} cannot be read ({exc.strerror}). Check the path."
        raise ImageFormatError(msg) from exc
    if is_folder:
        return ZarrImage(path)
    if is_special:
        msg = f"The image {path} is a pipe or a device. Expected a file."
        raise ImageFormatError(msg)
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except (OSError, ValueError) as exc:  # a path with a NUL is a ValueError
        msg = f"The image {path} cannot be read ({getattr(exc, 'strerror', exc)}). Check the path."
        raise ImageFormatError(msg) from exc
    if path.suffix.lower() == ".mrxs":
        return _mirax(path)
    if head[:4] not in _TIFF_MAGIC and sniff(head) is not None:
        return PlainImage(path)  # JPEG or PNG, which OpenSlide never opens
    if _openslide_knows(path):
        try:
            slide = OpenSlideImage(path)
        except ImageFormatError:
            # tifffile knows compressions that OpenSlide does not, such as zstd and JPEG XL.
            tiff = _tiled_tiff(path) if head[:4] in _TIFF_MAGIC else None
            if tiff is None:
                raise
            return tiff
        if slide.vendor != "generic-tiff":
            return slide
        # For a TIFF of no vendor, TiffImage sees what OpenSlide does not (sub-levels below the first
        # page, as in OME-TIFF) and is faster, above all where levels are not exact halves.
        tiff = _tiled_tiff(path)
        if tiff is None:
            _refuse_channels(path)
        return tiff if tiff is not None and len(tiff.levels) >= len(slide.levels) else slide
    if head[:4] in _TIFF_MAGIC:
        return _tiled_tiff(path) or PlainImage(path)
    return PlainImage(path)  # raises: says what the first bytes are


def _mirax(path: Path) -> OpenSlideImage:
    """Open a MIRAX slide, whose named file is a small JPEG and whose pixels lie in a folder beside it."""
    if not _openslide_knows(path):
        msg = (
            f"{path} is not a MIRAX slide that can be read. Expected the folder {path.stem} with Slidedat.ini and "
            "Data*.dat beside it: copy both."
        )
        raise ImageFormatError(msg)
    return OpenSlideImage(path)


def _openslide_knows(path: Path) -> bool:
    import openslide

    return openslide.OpenSlide.detect_format(path) is not None


def _refuse_channels(path: Path) -> None:
    """Refuse a stack of stains, of which OpenSlide would show the first in grey.

    Raises
    ------
    ImageFormatError
        If the first picture has two, or more than four, channels of their own.
    """
    try:
        with open_tiff(path) as tiff:
            axes, shape = tiff.series[0].axes, tiff.series[0].shape
    except ImageFormatError:
        return  # OpenSlide sees this file alone
    except tiff_errors():
        return
    channels = shape[axes.index("C")] if "C" in axes else 1
    if channels not in (1, 3, 4):
        msg = (
            f"{path} has {channels} channels, as fluorescence has; expected an RGB image of H&E. Export the H&E "
            "image alone."
        )
        raise ImageFormatError(msg)


def _tiled_tiff(path: Path) -> TiffImage | None:
    """Return the file as a tiled TIFF, or None where it is in strips or cannot be read that way."""
    try:
        with TiffImage(path) as tiff:
            if tiff.is_tiled:
                tiff.read(0, 0, 1, 1)  # an unknown compression shows only when pixels are decoded
                return tiff
    except ImageFormatError:
        pass
    return None
