"""Opening images that come from strangers: uploads and anything else that may be hostile.

Pillow alone is not enough: a 20 kB PNG of 13,000 x 13,000 px decodes into 786 MB with only a warning.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stamp_index.errors import ImageFormatError
from stamp_index.keys import Nums
from stamp_index.slides.plain import DECODE_ERRORS, sniff, to_rgb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

MAX_UPLOAD_BYTES: Final = (
    64 * 1024 * 1024
)  # an uncompressed TIFF of the largest size, and some more
_FORMATS: Final = ("JPEG", "PNG", "TIFF")


def safe_open(source: bytes | Path | str) -> NDArray[np.uint8]:
    """Decode an image that nobody vouches for, or refuse it with one plain sentence.

    Parameters
    ----------
    source : bytes, Path or str
        The file's bytes, or its path.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB; transparent pixels lie on white.

    Raises
    ------
    ImageFormatError
        If it is not PNG, JPEG or TIFF by its content, holds several pictures, has more than
        4096 x 4096 px or 64 MB, or cannot be decoded. Nothing is decoded before the size in the
        header has been checked.
    """
    data = source if isinstance(source, bytes) else _bytes_of(Path(source))
    if len(data) > MAX_UPLOAD_BYTES:
        msg = (
            f"The file has {len(data) / 1e6:.0f} MB; at most {MAX_UPLOAD_BYTES / 1e6:.0f} MB are "
            "opened here. Crop the picture."
        )
        raise ImageFormatError(msg)
    with _header(data) as image:
        _check_header(image)
        try:
            image.load()
        except DECODE_ERRORS as exc:
            msg = (
                f"The {image.format} file is damaged or cut short: its {image.size[0]} x "
                f"{image.size[1]} px cannot be decoded. Save the picture again."
            )
            raise ImageFormatError(msg) from exc
        try:
            return to_rgb(image)
        except ValueError as exc:
            msg = f"The {image.format} file cannot be used: {exc}."
            raise ImageFormatError(msg) from exc


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_UPLOAD_BYTES + 1)
    except OSError as exc:
        msg = f"The image {path} cannot be read ({exc.strerror}). Check the path."
        raise ImageFormatError(msg) from exc


def _header(data: bytes) -> ImageFile:
    factory = sniff(data[:16])
    if factory is None:
        msg = "The file is not a PNG, JPEG or TIFF image. Save the picture in one of these formats."
        raise ImageFormatError(msg)
    try:
        return factory(BytesIO(data))
    except DECODE_ERRORS as exc:
        msg = "The file begins like an image, but its header is damaged. Save the picture again."
        raise ImageFormatError(msg) from exc


def _check_header(image: ImageFile) -> None:
    width, height = image.size
    if image.format not in _FORMATS:
        msg = f"The file is a {image.format} image; expected PNG, JPEG or TIFF."
        raise ImageFormatError(msg)
    if width * height > Nums.MAX_UPLOAD_PX:
        msg = (
            f"The image is {width} x {height} px; at most {Nums.MAX_UPLOAD_PX:,} px (such as 4096 x "
            "4096) are opened here. Crop or shrink it."
        )
        raise ImageFormatError(msg)
    try:
        n_frames = getattr(image, "n_frames", 1)
    except DECODE_ERRORS as exc:
        msg = "The file begins like an image, but its header is damaged. Save the picture again."
        raise ImageFormatError(msg) from exc
    if n_frames != 1:
        msg = f"The file holds {n_frames} pictures; expected one. Save the one picture you mean."
        raise ImageFormatError(msg)
