"""Every reader there is, and the two ways in: read one slide, find all slides of a folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stamp_index.errors import SlideError
from stamp_index.keys import Nums
from stamp_index.readers.base import OwnsFiles, SlideOptions
from stamp_index.readers.h5ad.reader import AnnDataReader
from stamp_index.readers.hest_1k.reader import HestReader
from stamp_index.readers.legacy.annotated_st import AnnotatedStReader
from stamp_index.readers.legacy.her2st import Her2stReader
from stamp_index.readers.legacy.legacy_st import LegacyStReader
from stamp_index.readers.plain import PlainReader
from stamp_index.readers.sidecar import read_sidecar
from stamp_index.readers.spatialdata_zarr.reader import SpatialDataReader
from stamp_index.readers.stimage_1k4m.reader import STimageReader
from stamp_index.readers.tenx.space_ranger import SpaceRangerReader
from stamp_index.readers.tenx.visium_hd import VisiumHdReader
from stamp_index.readers.tenx.xenium import XeniumReader
from stamp_index.readers.trident import TridentReader

if TYPE_CHECKING:
    from stamp_index.readers.base import Reader
    from stamp_index.slides import Slide

# The first that knows a path reads it: special formats stand before general ones, and any image comes last.
_PLAIN: Final = PlainReader()
READERS: Final[tuple[Reader, ...]] = (
    XeniumReader(),
    VisiumHdReader(),  # before Space Ranger, whose folders a lone folder of squares resembles
    SpaceRangerReader(),
    SpatialDataReader(),
    Her2stReader(),
    HestReader(),  # before the reader of any h5ad
    STimageReader(),
    TridentReader(),
    AnnotatedStReader(),
    LegacyStReader(),
    AnnDataReader(),
    _PLAIN,
)


def read(
    path: Path | str,
    options: SlideOptions | None = None,
    *,
    grid_um: float = Nums.PATCH_UM,
) -> Slide:
    """Read one slide; the format is found by what lies at `path`.

    Parameters
    ----------
    path : Path or str
        What names a slide differs by format: an output folder (Space Ranger, Visium HD, Xenium), a SpatialData
        folder (``*.zarr``), a file (the counts of a legacy section, an ``.h5ad``, embeddings of TRIDENT), or
        an H&E image, which becomes a slide without genes. `expects` of each of `READERS` says it.
    options : SlideOptions, optional
        What the user says about the slide; wins over its ``slide.toml``.
    grid_um : float
        Distance of neighbouring places on a slide without spots, where neither says one: the width of the
        patch that will be cut there.

    Returns
    -------
    Slide
        Checked: positions lie on the image, names are unique, no spot is empty. Its `notes` say
        what was dropped, derived or replaced.

    Raises
    ------
    SlideError
        If no reader knows what is at `path` (the formats are listed), or files are missing or
        damaged. Its subclasses say what is wrong with pixel size, positions, barcodes or image.
    DuplicateGenesError
        If gene names repeat where they must not.
    """
    path = Path(path).absolute()
    if not path.exists():
        msg = f"There is nothing at {path}. Check the path."
        raise SlideError(msg)
    if not _can_be_opened(path):
        msg = f"{path} is a pipe or a device. Expected a file or a folder."
        raise SlideError(msg)
    for reader in READERS:
        if reader.detect(path):
            said = (options or SlideOptions()).over(read_sidecar(reader.sidecar(path)))
            if said.image is not None:
                said = replace(said, image=Path(said.image).absolute())
            if said.grid_um is None:
                said = replace(said, grid_um=grid_um)
            slide = reader.read(path, said)
            sidecar = reader.sidecar(path)
            return replace(slide, files=(*slide.files, sidecar)) if sidecar.exists() else slide
    around = next((folder for folder in path.parents if _is_measured(folder)), None)
    if around is not None:
        msg = f"{path} is part of the slide {around}. Name that."
        raise SlideError(msg)
    tried = "; ".join(f"{reader.name}: {reader.expects}" for reader in READERS)
    inside = find_slides(path)[:3] if path.is_dir() else []
    hint = (
        f" Slides lie below it: {', '.join(str(p.relative_to(path)) for p in inside)}. Name one."
        if inside
        else ""
    )
    msg = f"{path} is not a slide that can be read. Formats tried: {tried}.{hint}"
    raise SlideError(msg)


def sidecar_of(path: Path) -> Path | None:
    """Return the ``slide.toml`` of a slide, where there is one."""
    reader = next((reader for reader in READERS if reader.detect(path)), None)
    sidecar = None if reader is None else reader.sidecar(path)
    return sidecar if sidecar is not None and sidecar.exists() else None


def find_slides(path: Path | str) -> list[Path]:
    """Find every slide below a folder.

    Parameters
    ----------
    path : Path or str
        A folder, or one slide.

    Returns
    -------
    list of Path
        Sorted; each can be given to `read`. Empty where there is none. Hidden folders are skipped,
        and nothing is looked for inside a slide's own folder.

    Notes
    -----
    An image counts as a slide of its own where it is a whole slide (a scanner's format, a tiled TIFF, a
    folder of DICOM files) that no other slide uses: neither as the ``image`` of its ``slide.toml`` nor as a
    file that its reader owns. Photographs (JPEG, PNG, TIFF in strips) are slides only where they are named.
    """
    path = Path(path)
    if _is_slide(path.absolute()):
        return [path]
    found: list[Path] = []
    images: list[Path] = []
    for folder, folders, files in os.walk(path):
        here = Path(folder)
        slides = [name for name in folders if _is_measured(here / name)]
        stacks = [n for n in folders if n not in slides and _PLAIN.detect_in_folder(here / n)]
        found += [here / name for name in slides]
        images += [here / name for name in stacks]
        left = set(folders).difference(slides, stacks)
        folders[:] = sorted(name for name in left if not name.startswith("."))
        measured = [name for name in files if _is_measured(here / name)]
        found += [here / name for name in measured]
        left = set(files).difference(measured)
        images += [
            here / n for n in left if not n.startswith(".") and _PLAIN.detect_in_folder(here / n)
        ]
    if images:
        used = {file for slide in found for file in _used_by(slide.absolute())}
        found += [image for image in images if image.resolve() not in used]
    return sorted(found)


def _can_be_opened(path: Path) -> bool:
    """Say whether a path is a file or folder: pipes and devices are never opened."""
    return path.is_file() or path.is_dir()


def _is_slide(path: Path) -> bool:
    return _can_be_opened(path) and any(reader.detect(path) for reader in READERS)


def _is_measured(path: Path) -> bool:
    return _can_be_opened(path) and any(
        reader.detect(path) for reader in READERS if reader is not _PLAIN
    )


def _used_by(slide: Path) -> list[Path]:
    """Return the files outside a slide's own folder that belong to it, resolved."""
    reader = next(reader for reader in READERS if reader.detect(slide))
    files = list(reader.owns(slide)) if isinstance(reader, OwnsFiles) else []
    try:
        image = read_sidecar(reader.sidecar(slide)).image
    except SlideError:  # said when the slide is read
        image = None
    return [Path(file).resolve() for file in (*files, image) if file is not None]
