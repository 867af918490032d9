"""Visium HD: squares of 2, 8 and 16 um as Space Ranger 3 and 4 write them, pooled into larger bins.

``outs/binned_outputs`` holds one folder per width, ``square_008um`` and the like, each with a matrix and
``spatial/``. Images also lie in ``outs/spatial``. A lone ``square_008um`` is understood too.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stamp_index.errors import SlideError
from stamp_index.genes.reference import species_of
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.common.binning import bin_barcodes
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.tenx.hd_counts import pool_counts
from stamp_index.readers.tenx.hd_grid import MAX_ARRAY_UM, POSITIONS, HdGrid
from stamp_index.readers.tenx.run import find_matrices, matrix_files, one_matrix, run_name
from stamp_index.readers.tenx.spatial_images import SCALE_FACTORS, SpatialImages, read_scale_factors
from stamp_index.slides import Slide

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage

_BINNED: Final = "binned_outputs"
_SEGMENTED: Final = "segmented_outputs"
_SQUARE: Final = re.compile(r"square_(\d{3})um")


class VisiumHdReader:
    """Reads a Visium HD slide, pooled into square bins on the array's own grid."""

    name = "Visium HD"
    version = 1
    expects = "a folder with binned_outputs/square_008um (or that folder alone), each with a matrix and spatial/"

    def detect(self, path: Path) -> bool:
        """Say whether `path` holds folders of squares, or is one."""
        return path.is_dir() and (bool(_square_folders(path)) or _is_square(path))

    def sidecar(self, path: Path) -> Path:
        """Return ``slide.toml`` in the folder."""
        return path / "slide.toml"

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read positions, counts and an image, and pool the squares under tissue.

        Raises
        ------
        SlideError
            If a file is missing or damaged, they do not belong together, or no square's width divides
            `options.bin_um`.
        """
        bin_um = float(options.bin_um or Nums.BIN_UM)
        if bin_um > MAX_ARRAY_UM:
            msg = f"bin_um is {bin_um:g}; expected {MAX_ARRAY_UM / 1000:g} mm at most, the width of an array."
            raise SlideError(msg)
        square = _choose_square(path, bin_um)
        grid = HdGrid.read(square.positions, square.width_um)
        spots, index = _bins(grid, bin_um)
        squares = round(bin_um / square.width_um)
        pooled = pool_counts(square.matrix, grid, index, squares=squares)
        counts, genes, gene_ids, note = sum_duplicate_genes(
            pooled.counts, pooled.features.genes, pooled.features.gene_ids
        )
        notes = [*_pooling_notes(spots, square, bin_um), *pooled.features.notes]
        notes += [note] if note else []
        if pooled.n_off_tissue:
            notes.append(
                f"{pooled.n_off_tissue} squares with counts are not under tissue: left out."
            )
        notes += _notes_on_what_is_not_read(square.root, options)
        image, mpp, found = _place(square, grid, spots, options)
        slide = Slide(
            slide_id=run_name(path),
            spots=spots,
            counts=counts,
            genes=genes,
            gene_ids=gene_ids,
            image=image,
            mpp=mpp,
            spot_diameter_um=float(bin_um),
            species=species_of((), gene_ids),
            platform="Visium HD",
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=square.files,
            parameters={"bin_um": float(bin_um), "square_um": square.width_um},
            notes=(*notes, *found),
        )
        return make_slide(slide, options)


@dataclass(frozen=True)
class _Square:
    """The files of one width of squares; `root` is the folder that all of a slide's files lie in."""

    width_um: int
    folder: Path
    root: Path

    @property
    def positions(self) -> Path:
        return confined(self.folder / "spatial" / POSITIONS, self.root)

    @property
    def matrix(self) -> Path:
        return confined(one_matrix(self.folder), self.root)

    @property
    def files(self) -> tuple[Path, ...]:
        scale_factors = confined(self.folder / "spatial" / SCALE_FACTORS, self.root)
        return (*matrix_files(self.matrix, self.root), self.positions, scale_factors)

    def scale_factors(self) -> dict[str, float]:
        factors = read_scale_factors(self.folder / "spatial", self.root)
        said = factors.get("bin_size_um", self.width_um)
        if said != self.width_um:
            msg = (
                f"{self.folder / 'spatial' / SCALE_FACTORS} says bin_size_um = {said:g}, but the squares of "
                f"{self.folder.name} are {self.width_um} um wide. Give the files of one run."
            )
            raise SlideError(msg)
        return factors

    def images(self, scale_factors: dict[str, float]) -> SpatialImages:
        """Return the images beside the positions, or else those of the whole run."""
        folders = (self.folder / "spatial", self.root / "spatial")
        return SpatialImages(folders, self.root, scale_factors)


def _square_folders(path: Path) -> dict[int, Path]:
    """Return the folders of squares in a run by their width; empty where there are none."""
    for parent in (path / _BINNED, path):
        folders = {
            int(match[1]): folder
            for folder in sorted(parent.glob("square_*um"))
            if (match := _SQUARE.fullmatch(folder.name)) and (folder / "spatial").is_dir()
        }
        if folders:
            return folders
    return {}


def _is_square(path: Path) -> bool:
    return (path / "spatial" / POSITIONS).exists() and bool(find_matrices(path))


def _root(path: Path) -> Path:
    """Return the run's folder, where `path` is one of the folders that Space Ranger makes in it."""
    path = path.absolute()
    if _SQUARE.fullmatch(path.name) and path.parent.name == _BINNED:
        path = path.parent
    return path.parent if path.name == _BINNED else path


def _choose_square(path: Path, bin_um: float) -> _Square:
    """Choose the widest squares that fill a bin: their matrix is the smallest, and the sums are the same."""
    root, folders = _root(path), _square_folders(path)
    whole = {width: folder for width, folder in folders.items() if _is_square(folder)}
    if not folders:
        whole = {_lone_width(path): path}
    if not whole:
        missing = ", ".join(str(folder.relative_to(path)) for folder in folders.values())
        msg = (
            f"{path}: none of {missing} has both a matrix (filtered_feature_bc_matrix.h5) and spatial/{POSITIONS}. "
            "Copy the whole folder."
        )
        raise SlideError(msg)
    fitting = [width for width in whole if _divides(width, bin_um)]
    if not fitting:
        widths = ", ".join(f"{width}" for width in sorted(whole))
        smallest = min(whole)
        possible = ", ".join(str(smallest * times) for times in _examples(bin_um, smallest))
        msg = (
            f"Bins of {bin_um:g} um cannot be made: {path} has squares of {widths} um, and a bin is a whole number "
            f"of squares wide. Give a bin_um that is a multiple of one of these, such as {possible}."
        )
        raise SlideError(msg)
    return _Square(max(fitting), whole[max(fitting)], root)


def _divides(width_um: int, bin_um: float) -> bool:
    times = round(bin_um / width_um)
    return times >= 1 and math.isclose(times * width_um, bin_um, rel_tol=1e-9)


def _examples(bin_um: float, width_um: int) -> list[int]:
    """Return the multiples of a square that lie next to the width asked for."""
    below = int(bin_um // width_um)
    return [times for times in (below, below + 1) if times >= 1]


def _lone_width(path: Path) -> int:
    """Return the width of a lone folder's squares, from its name or else its scale factors."""
    match = _SQUARE.fullmatch(path.resolve().name)
    if match:
        return int(match[1])
    said = read_scale_factors(path / "spatial", path).get("bin_size_um")
    if said is None or said < 1 or said != round(said):
        msg = (
            f"{path} does not say how wide its squares are: bin_size_um in {SCALE_FACTORS} is {said}, and the folder's "
            "name is not of the form square_008um. Give the folder its own name back."
        )
        raise SlideError(msg)
    return int(said)


def _bins(grid: HdGrid, bin_um: float) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return a row per bin with a square under tissue, and the bins' rows by place in the grid."""
    squares = round(bin_um / grid.square_um)
    n_squares = grid.squares_per_bin(squares)
    row, col = np.nonzero(n_squares)
    index = np.full(n_squares.shape, -1, dtype=np.int64)
    index[row, col] = np.arange(len(row))
    centres = grid.centres_px(row, col, squares)
    spots = pd.DataFrame(
        {
            "array_row": row,
            "array_col": col,
            "n_squares": n_squares[row, col],
            Keys.X_PX: centres[:, 0],
            Keys.Y_PX: centres[:, 1],
        },
        index=pd.Index(bin_barcodes(row, col, bin_um), name=Keys.BARCODE),
    )
    return spots, index


def _pooling_notes(spots: pd.DataFrame, square: _Square, bin_um: float) -> list[str]:
    full = round(bin_um / square.width_um) ** 2
    sparse = int((2 * spots["n_squares"] < full).sum())
    notes = [
        f"Squares of {square.width_um} um under tissue were pooled into {len(spots)} bins of {bin_um:g} um, "
        f"{full} squares each."
    ]
    if sparse:
        notes.append(
            f"{sparse} bins have less than half of their squares under tissue and were kept: n_squares says how many."
        )
    return notes


def _notes_on_what_is_not_read(root: Path, options: SlideOptions) -> list[str]:
    notes = []
    if (root / _SEGMENTED).is_dir():
        notes.append(f"{_SEGMENTED} (cells found on the image) was not read.")
    if options.spots == "cells":
        notes.append("spots = 'cells' does not apply to Visium HD, which is read in bins.")
    return notes


def _place(
    square: _Square, grid: HdGrid, spots: pd.DataFrame, options: SlideOptions
) -> tuple[SlideImage | None, float, list[str]]:
    """Choose image and pixel size, and move the spots, in place, to the image's pixels."""
    factors = square.scale_factors()
    said = factors.get("microns_per_pixel")
    if said is not None and not said > 0:
        msg = (
            f"{square.folder / 'spatial' / SCALE_FACTORS} says microns_per_pixel = {said:g}; expected microns above 0. "
            "Copy the file again."
        )
        raise SlideError(msg)
    image, scale, note = square.images(factors).choose(options, said or grid.mpp)
    mpp, how = choose_mpp(
        derived={
            "microns_per_pixel of the scale factors": said / scale if said else None,
            f"the squares' pitch of {square.width_um} um": grid.mpp / scale,
        },
        image=image,
        given=options.mpp,
    )
    spots[[Keys.X_PX, Keys.Y_PX]] *= scale
    return image, mpp, [note, how]
