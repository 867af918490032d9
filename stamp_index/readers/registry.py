"""Every reader there is, and the two ways in: read one slide, find all slides of a folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stamp_index.errors import SlideError
from stamp_index.keys import Nums
from stamp_index.readers.base import SlideOptions
from stamp_index.readers.her2st import Her2stReader
from stamp_index.readers.sidecar import read_sidecar
from stamp_index.readers.space_ranger import SpaceRangerReader

if TYPE_CHECKING:
    from stamp_index.readers.base import Reader
    from stamp_index.slides import Slide

READERS: Final[tuple[Reader, ...]] = (SpaceRangerReader(), Her2stReader())


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
        A Space Ranger output folder, or the counts file of a HER2ST section
        (``her2st/ST-cnts/C2.tsv.gz``).
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
    tried = "; ".join(f"{reader.name}: {reader.expects}" for reader in READERS)
    inside = find_slides(path)[:3] if path.is_dir() else []
    hint = (
        f" Slides lie below it: {', '.join(str(p.relative_to(path)) for p in inside)}. Name one."
        if inside
        else ""
    )
    msg = f"{path} is not a slide that can be read. Formats tried: {tried}.{hint}"
    raise SlideError(msg)


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
    """
    path = Path(path)
    if _is_slide(path.absolute()):
        return [path]
    found: list[Path] = []
    for folder, folders, files in os.walk(path):
        here = Path(folder)
        slides = [name for name in folders if _is_slide(here / name)]
        found += [here / name for name in slides]
        folders[:] = sorted(n for n in folders if n not in slides and not n.startswith("."))
        found += [here / name for name in files if _is_slide(here / name)]
    return sorted(found)


def _is_slide(path: Path) -> bool:
    return any(reader.detect(path) for reader in READERS)
