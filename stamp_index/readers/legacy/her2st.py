"""HER2ST: sections on legacy Spatial Transcriptomics arrays, in the layout of almaan/her2st.

A slide is named by its counts file, ``her2st/ST-cnts/C2.tsv.gz``. Beside ``ST-cnts`` lie
``ST-spotfiles`` (positions), ``ST-imgs`` (full images) and ``app-imgs`` (smaller ones).
Source: Andersson et al., Nature Communications 12:6012 (2021).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import MissingPixelSizeError, SlideError
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.image_scale import scale_by_size
from stamp_index.readers.common.joining import join_most
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.legacy.dark_image import SUFFIX, open_section_image, tissue_note
from stamp_index.readers.legacy.tables import read_counts, read_spotfile
from stamp_index.slides import Slide

if TYPE_CHECKING:
    import pandas as pd

    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage

_COUNTS_NAME: Final = re.compile(r"(?P<section>[A-Z]\d+)\.tsv(?:\.gz)?")
_ARRAY_SPAN: Final = (32, 34)  # pitches between the first and last of 33 columns and 35 rows


class Her2stReader:
    """Reads one section of the HER2ST layout."""

    name = "HER2ST"
    version = 1
    expects = "a counts file ST-cnts/<section>.tsv.gz beside ST-spotfiles/<section>_selection.tsv"

    def detect(self, path: Path) -> bool:
        """Say whether `path` is a counts file below a folder ``ST-cnts``."""
        return path.parent.name == "ST-cnts" and _COUNTS_NAME.fullmatch(path.name) is not None

    def sidecar(self, path: Path) -> Path:
        """Return ``ST-cnts/<section>.slide.toml``."""
        return path.with_name(f"{_section(path)}.slide.toml")

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read counts, positions and, where there is one, the image.

        Raises
        ------
        SlideError
            If a file is missing or damaged, or the image does not fit the positions.
        """
        section, root = _section(path), path.parent.parent
        barcodes, genes, counts = read_counts(path)
        spotfile = confined(root / "ST-spotfiles" / f"{section}_selection.tsv", root)
        positions = read_spotfile(spotfile)
        joined = join_most(barcodes, positions.index, where=f"Section {section}")
        spots, notes = positions.iloc[joined.at].copy(), joined.notes(uncounted="selected spots")
        grid = _fit_array(positions, section)
        image, note = _find_image(root, section, options)
        notes.append(note)
        scale = _image_scale(image, grid, options)
        mpp, note = choose_mpp(
            derived={"the array's pitch of 200 um": grid.mpp / scale},
            image=image,
            given=options.mpp,
        )
        notes.append(note)
        spots[[Keys.X_PX, Keys.Y_PX]] *= scale
        notes += tissue_note(image, spots)
        slide = Slide(
            slide_id=section,
            spots=spots,
            counts=counts[joined.rows],
            genes=genes,
            image=image,
            mpp=mpp,
            spot_diameter_um=Nums.LEGACY_ST_SPOT_UM,
            patient_id=section[0],
            organ="breast",
            disease="HER2-positive breast cancer",
            species="human",
            platform="Legacy ST",
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=(path, spotfile),
            notes=tuple(notes),
        )
        return make_slide(slide, options)


@dataclass(frozen=True)
class _Array:
    """The array as it lies on the full image."""

    mpp: float
    full_px: tuple[float, float] | None  # size of an image cropped to the array's frame, if it is


def _section(path: Path) -> str:
    return path.name.split(".", 1)[0]


def _fit_array(positions: pd.DataFrame, section: str) -> _Array:
    """Fit pixels against array coordinates: the pitch gives the pixel size in both axes."""
    positions = positions.dropna()  # `validate` names spots without position
    pitch, offset = [], []
    for array, pixel in (("array_x", Keys.X_PX), ("array_y", Keys.Y_PX)):
        if positions[array].nunique() < 2:
            msg = (
                f"Section {section}: all spots have the same {array}, so the distance between spots "
                "gives no pixel size. Give the whole positions file."
            )
            raise MissingPixelSizeError(msg)
        slope, start = np.polyfit(positions[array], positions[pixel], 1)
        pitch.append(float(slope))
        offset.append(float(slope + start))  # pixel of the first array column or row
    across, down = (Nums.LEGACY_ST_PITCH_UM / p for p in pitch)
    if min(pitch) <= 0 or abs(across - down) > Nums.MPP_TOLERANCE * min(across, down):
        msg = (
            f"Section {section}: the array's pitch of 200 um gives {across:.4g} um/px across but "
            f"{down:.4g} um/px down; the two may differ by {Nums.MPP_TOLERANCE:.0%} at most. "
            "Correct the positions file."
        )
        raise MissingPixelSizeError(msg)
    # Most images are cropped to the array's frame, so that the first column lies at pixel 0.
    framed = all(abs(start) < 0.05 * p for start, p in zip(offset, pitch, strict=True))
    full = (pitch[0] * _ARRAY_SPAN[0], pitch[1] * _ARRAY_SPAN[1]) if framed else None
    return _Array((across + down) / 2, full)


def _find_image(root: Path, section: str, options: SlideOptions) -> tuple[SlideImage | None, str]:
    """Return the section's image and a note on which it is."""
    if options.image is not None:
        path = Path(options.image)
        return open_section_image(path), f"Image: {path.name}, as given."
    full = sorted((root / "ST-imgs" / section[0] / section).glob("*.jpg"))
    if len(full) > 1:
        names = ", ".join(path.name for path in full)
        msg = f"Section {section} has {len(full)} images ({names}). Name one: SlideOptions(image=...)."
        raise SlideError(msg)
    if full:
        image = open_section_image(confined(full[0], root))
        return image, f"Image: {full[0].name}, full resolution."
    small = confined(root / "app-imgs" / f"{section}{SUFFIX}", root)
    if small.exists():
        return open_section_image(small), (
            f"Image: {small.name}, the small app image; its black background and its annotated corner "
            "were painted white."
        )
    return None, "No image was found: counts only, so this section has no patches."


def _image_scale(image: SlideImage | None, grid: _Array, options: SlideOptions) -> float:
    """Return pixels of the image per pixel of the full image that the positions refer to."""
    if image is None:
        return 1.0
    if grid.full_px is None:
        given = options.mpp or image.mpp
        return grid.mpp / given if given else 1.0
    return scale_by_size(
        image,
        grid.full_px,
        full="the image of the positions",
        remedy="Give the section's own image, cropped to the array's frame.",
    )
