"""Which files are slides of H&E by themselves, and which files belong to one slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stamp_index.errors import ImageFormatError, SlideError
from stamp_index.readers.common.images_beside import PHOTOGRAPHS, SCANNERS, TIFFS
from stamp_index.readers.common.regular import regular
from stamp_index.slides import open_image
from stamp_index.slides.tiff_image import tiff_errors

if TYPE_CHECKING:
    from pathlib import Path

    from stamp_index.slides import SlideImage

# Formats of photographs, and JPEG 2000, which is refused with what to do: slides where a user names them, but in a
# folder they are as often figures, masks or another slide's image.
_PICTURES: Final = PHOTOGRAPHS | {".jp2", ".j2k"}
_TIFF_MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURE_MAGIC: Final = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_DICOM_MAGIC: Final = b"DICM"  # after a preamble of 128 bytes
_SERIES: Final = "dicom.SeriesInstanceUID"


def is_image(path: Path) -> bool:
    """Say whether a path that a user names is an image file, or a folder of DICOM files."""
    if path.is_dir():
        return is_dicom_folder(path)
    suffix = path.suffix.lower()
    if suffix in SCANNERS:
        return path.is_file()
    if suffix in TIFFS:
        return _head(path).startswith(_TIFF_MAGIC)
    if suffix in _PICTURES:
        return _head(path).startswith(_PICTURE_MAGIC)
    return suffix == ".dcm" and _is_dicom(path)


def is_whole_slide(path: Path) -> bool:
    """Say whether a path that was met in a folder is a slide: a scanner's format, a tiled TIFF or DICOM."""
    if path.is_dir():
        return is_dicom_folder(path)
    suffix = path.suffix.lower()
    if suffix in SCANNERS:
        return path.is_file()
    return suffix in TIFFS and _head(path).startswith(_TIFF_MAGIC) and _is_tiled(path)


def is_dicom_folder(path: Path) -> bool:
    """Say whether a folder holds DICOM files and nothing else that could be a slide."""
    if path.name.startswith("."):
        return False
    try:
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return False
    files = [entry for entry in entries if entry.suffix.lower() == ".dcm"]
    others = (entry for entry in entries if entry.suffix.lower() != ".dcm")
    return (
        bool(files) and not any(e.is_dir() or is_image(e) for e in others) and _is_dicom(files[0])
    )


def open_slide_file(path: Path) -> tuple[SlideImage, tuple[Path, ...]]:
    """Open a slide's image, and name the further files that its pixels lie in.

    Parameters
    ----------
    path : Path
        An image file, or a folder of one DICOM series.

    Returns
    -------
    image : SlideImage
    files : tuple of Path
        Of a DICOM series or a MIRAX slide, the files beside the one that was opened.

    Raises
    ------
    ImageFormatError
        If the image cannot be opened.
    SlideError
        If a folder holds several DICOM series.
    """
    if path.is_dir():
        return _open_series(path)
    files: list[Path] = []
    if path.suffix.lower() == ".mrxs":
        files = sorted(entry for entry in path.with_suffix("").glob("*") if entry.is_file())
    elif path.suffix.lower() == ".dcm":
        wanted = _series(path)
        beside = sorted(path.parent.glob("*.dcm"))
        files = [entry for entry in beside if entry != path and _series(entry) == wanted]
    return open_image(path), tuple(files)


def _open_series(folder: Path) -> tuple[SlideImage, tuple[Path, ...]]:
    files = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() == ".dcm")
    series = {entry: _series(entry) for entry in files}
    known = sorted({uid for uid in series.values() if uid is not None})
    if not known:
        msg = (
            f"None of the {len(files)} DICOM files in {folder} is a whole-slide image that OpenSlide opens. "
            "Copy the whole series again."
        )
        raise ImageFormatError(msg)
    if len(known) > 1:
        firsts = [next(e.name for e, uid in series.items() if uid == wanted) for wanted in known]
        msg = (
            f"{folder} holds {len(known)} DICOM series; a folder is one slide. Name one file of the slide "
            f"({', '.join(firsts[:3])}), or give each series a folder."
        )
        raise SlideError(msg)
    first = next(entry for entry, uid in series.items() if uid is not None)
    return open_image(first), tuple(entry for entry in files if entry != first)


def _series(path: Path) -> str | None:
    """Series of a DICOM file; None where OpenSlide does not open it by itself, as a label's."""
    import openslide

    if not path.is_file():
        return None
    try:
        with openslide.OpenSlide(path) as slide:
            found: str | None = slide.properties.get(_SERIES)
            return found
    except openslide.OpenSlideError:
        return None


def _is_dicom(path: Path) -> bool:
    return _head(path)[128:] == _DICOM_MAGIC


def _head(path: Path) -> bytes:
    try:
        with regular(path).open("rb") as stream:
            return stream.read(132)
    except OSError:
        return b""


def _is_tiled(path: Path) -> bool:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            return bool(tiff.pages.first.is_tiled)
    except tiff_errors():
        return False
