"""One door for every image a slide can have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stamp_index.errors import ImageFormatError
from stamp_index.slides.array_image import PlainImage
from stamp_index.slides.openslide_image import OpenSlideImage
from stamp_index.slides.plain import sniff
from stamp_index.slides.tiff_image import TiffImage

if TYPE_CHECKING:
    from stamp_index.slides.images import SlideImage

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_image(path: Path | str) -> SlideImage:
    """Open a slide's image, by what the file holds and not by its name.

    Vendors' formats are read by OpenSlide, tiled TIFFs of no vendor (OME-TIFF too) tile by tile, and
    plain JPEG, PNG and TIFF files are decoded whole when first read.

    Parameters
    ----------
    path : Path or str
        A file of the user's own; uploads go through `safe_open`.

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
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as exc:
        msg = f"The image {path} cannot be read ({exc.strerror}). Check the path."
        raise ImageFormatError(msg) from exc
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
        return tiff if tiff is not None and len(tiff.levels) >= len(slide.levels) else slide
    if head[:4] in _TIFF_MAGIC:
        return _tiled_tiff(path) or PlainImage(path)
    return PlainImage(path)  # raises: says what the first bytes are


def _openslide_knows(path: Path) -> bool:
    import openslide

    return openslide.OpenSlide.detect_format(path) is not None


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
