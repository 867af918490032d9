"""Plain H&E: any slide image without measured genes, as a grid of places over its tissue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.errors import SlideError
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.plain_files import is_image, is_whole_slide, open_slide_file
from stamp_index.slides import Slide
from stamp_index.slides.tissue import TissueSettings, tissue_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage
    from stamp_index.slides.tissue import TissueMask

MAX_PLACES: Final = 5_000_000  # a slide of 25 x 50 mm at 16 um


class PlainReader:
    """Reads an image as a slide without genes; the last reader to be asked.

    Parameters
    ----------
    settings : TissueSettings, optional
        Thresholds of the tissue mask, and of what is dropped.
    """

    name = "H&E image"
    version = 1
    expects = "an H&E image (a scanner's format, OME-TIFF, TIFF, JPEG, PNG), or a folder of one DICOM series"

    def __init__(self, settings: TissueSettings | None = None) -> None:
        self.settings = settings or TissueSettings()

    def detect(self, path: Path) -> bool:
        """Say whether a path that a user names is an image, by its suffix and first bytes."""
        return is_image(path)

    def detect_in_folder(self, path: Path) -> bool:
        """Say whether a path met in a folder is a whole slide; photographs must be named."""
        return is_whole_slide(path)

    def sidecar(self, path: Path) -> Path:
        """Return ``<image's name>.slide.toml`` beside the file, or ``slide.toml`` in a DICOM folder."""
        return path / "slide.toml" if path.is_dir() else path.with_name(f"{_stem(path)}.slide.toml")

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Find tissue and lay a grid over it.

        Raises
        ------
        ImageFormatError
            If the image cannot be opened or decoded.
        MissingPixelSizeError
            If neither the image nor the user gives microns per pixel.
        SlideError
            If there is no tissue, or the grid is too fine.
        """
        notes: list[str] = []
        named = path if options.image is None else Path(options.image)
        if options.image is not None:
            notes.append(f"Image: {named.name}, as given.")
        image, files = open_slide_file(named)
        mpp, note = choose_mpp(derived={}, image=image, given=options.mpp)
        notes.append(note)
        grid_um = options.grid_um or Nums.PATCH_UM
        _check_grid(image, mpp, grid_um)
        mask = tissue_mask(image, mpp, settings=self.settings)
        spots, quality, more = _places(mask, (mpp, grid_um), self.settings, image.uri)
        slide = Slide(
            slide_id=path.resolve().name if path.is_dir() else _stem(path),
            spots=spots,
            counts=csr_matrix(np.zeros((len(spots), 0), dtype=np.float32)),
            genes=(),
            image=image,
            mpp=mpp,
            spot_diameter_um=grid_um,
            platform="H&E",
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=files,
            quality=quality,
            parameters={"grid_um": grid_um, **self.settings.as_parameters()},
            notes=(*notes, *more),
        )
        return make_slide(slide, options)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".ome.tif", ".ome.tiff"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def _check_grid(image: SlideImage, mpp: float, grid_um: float) -> None:
    across, down = (size * mpp / grid_um for size in image.size_px)
    if across * down > MAX_PLACES:
        msg = (
            f"A grid of {grid_um:g} um has {across * down:,.0f} places on {image.uri}; at most {MAX_PLACES:,} are "
            "laid out. Give a wider grid_um, or correct mpp."
        )
        raise SlideError(msg)


def _places(
    mask: TissueMask, scale: tuple[float, float], settings: TissueSettings, uri: str
) -> tuple[pd.DataFrame, dict[str, NDArray[np.float32]], list[str]]:
    """Return the places that show tissue, what each shows, and notes on those that do not.

    Raises
    ------
    SlideError
        If none does.
    """
    mpp, grid_um = scale
    width_px = grid_um / mpp
    across, down = (max(1, int(np.ceil(size / width_px))) for size in mask.size_px)
    row, column = (index.ravel() for index in np.indices((down, across)))
    x_px, y_px = (column + 0.5) * width_px, (row + 0.5) * width_px
    tissue, pen, blur, fold = (
        mask.share(x_px, y_px, width_px, of=what) for what in ("tissue", "pen", "blur", "fold")
    )
    inked = (pen > settings.max_pen) & (tissue + pen >= settings.min_tissue)
    glass = ~inked & (tissue < settings.min_tissue)
    dull = ~inked & ~glass & (blur > settings.max_blur * tissue)
    kept = np.flatnonzero(~(inked | glass | dull))
    counts = (
        f"{len(x_px):,} places of {grid_um:g} um: {glass.sum():,} on glass, {inked.sum():,} under pen, "
        f"{dull.sum():,} out of focus; {len(kept):,} kept."
    )
    if not len(kept):
        msg = f"No place of {uri} shows tissue. {counts} {_why_none(mask, mpp, grid_um)}"
        raise SlideError(msg)
    seen = {
        "tissue_fraction": tissue[kept],
        "pen_fraction": pen[kept],
        "fold_fraction": fold[kept],
        "blur_fraction": blur[kept],
    }
    barcodes = [f"x{c:05d}_y{r:05d}" for c, r in zip(column[kept], row[kept], strict=True)]
    index = pd.Index(barcodes, name=Keys.BARCODE)
    spots = pd.DataFrame({Keys.X_PX: x_px[kept], Keys.Y_PX: y_px[kept]}, index=index)
    notes = [f"Tissue: {mask.tissue_mm2:.3g} mm2 at {mask.mpp:.3g} um/px.", counts]
    return spots, seen, [*notes, f"Of note: {', '.join(mask.flags)}."] if mask.flags else notes


def _why_none(mask: TissueMask, mpp: float, grid_um: float) -> str:
    width, height = (size * mpp for size in mask.size_px)
    if min(width, height) < grid_um:
        return (
            f"The image is {width:.4g} x {height:.4g} um, less than one place: check mpp, or give a smaller "
            "grid_um."
        )
    return (
        f"The image has {mask.tissue_mm2:.2g} mm2 of stained tissue in pieces of at least "
        f"{TissueSettings().min_object_um2:,.0f} um2. Expected an H&E slide in colour: check the image and mpp."
    )
