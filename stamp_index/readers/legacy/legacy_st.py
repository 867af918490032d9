"""Legacy Spatial Transcriptomics as ST Pipeline and ST spot detector write it: counts, spots and an image.

A slide is named by its counts file. Beside it lies a table of spots whose name holds the section's
(``alignment_table_MOB1.tsv`` beside ``MOB1.tsv.gz``), and the image on which the spots were found.
Source of the columns: ST spot detector (Wong et al., Bioinformatics 34:1966, 2018), STUtility.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stamp_index.errors import SlideError
from stamp_index.genes.reference import species_of
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.ensembl_names import name_genes
from stamp_index.readers.common.images_beside import image_files, names_section
from stamp_index.readers.common.joining import join_most
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.legacy.arrays import fitted_mpp, which_array
from stamp_index.readers.legacy.gene_table import GeneTable, find_gene_table
from stamp_index.readers.legacy.tables import (
    is_counts_table,
    is_spotfile,
    place_names,
    read_counts,
    read_spotfile,
    spot_xy,
)
from stamp_index.slides import Slide, open_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.readers.legacy.arrays import Array
    from stamp_index.slides import SlideImage

_SUFFIXES: Final = (".tsv.gz", ".tsv", ".txt.gz", ".txt")
_COUNT_WORDS: Final = (
    "_stdata",
    "_counts",
    "_count_matrix",
)  # ST Pipeline writes <name>_stdata.tsv
_MANY_TABLES: Final = 8  # in a folder of more, a table of spots must carry the section's name


class LegacyStReader:
    """Reads one section of counts, spots and an image that lie in one folder."""

    name = "Legacy ST"
    version = 1
    expects = (
        "a table of counts (<section>.tsv or .tsv.gz, rows named 12x7) beside a table of spots with columns "
        "x, y, new_x, new_y, pixel_x, pixel_y"
    )

    def detect(self, path: Path) -> bool:
        """Say whether `path` is a table of counts with a table of spots beside it."""
        return (
            path.name.endswith(_SUFFIXES)
            and path.is_file()
            and is_counts_table(path)
            and bool(_spotfiles(path))
        )

    def sidecar(self, path: Path) -> Path:
        """Return ``<section>.slide.toml`` beside the counts."""
        return path.with_name(f"{_section(path)}.slide.toml")

    def owns(self, path: Path) -> list[Path]:
        """Return the images beside the counts that may be the section's, which are no slides of their own."""
        return _images_of(path, _section(path))

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read counts, positions and, where there is one, the image.

        Raises
        ------
        SlideError
            If a file is missing or damaged, or they do not belong together.
        """
        section = _section(path)
        spotfile = _one_spotfile(path)
        barcodes, names, counts = read_counts(path)
        positions = read_spotfile(spotfile)
        rows, spots, notes = _join(barcodes, positions, section)
        image, note = _find_image(path, section, options)
        notes.append(note)
        array = which_array(spot_xy(list(positions.index), f"Section {section}"))
        derived = _array_mpp(array, positions, section)
        mpp, note = choose_mpp(derived=derived, image=image, given=options.mpp)
        notes.append(note)
        gene_table = find_gene_table(path.parent)
        genes, gene_ids = name_genes(names)
        if gene_table is not None:
            genes, note = GeneTable.read(gene_table).symbols(names)
            notes.append(note)
        matrix, genes, gene_ids, summed = sum_duplicate_genes(counts[rows], genes, gene_ids)
        notes += [summed] if summed else []
        slide = Slide(
            slide_id=section,
            spots=spots,
            counts=matrix,
            genes=genes,
            gene_ids=gene_ids,
            image=image,
            mpp=mpp,
            spot_diameter_um=Nums.LEGACY_ST_SPOT_UM,
            species=species_of((), gene_ids),
            platform="Legacy ST",
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            parameters={"array": array.name if array else ""},
            files=(path, spotfile, *([gene_table] if gene_table else [])),
            notes=tuple(notes),
        )
        return make_slide(slide, options)


def _section(path: Path) -> str:
    suffix = next(suffix for suffix in _SUFFIXES if path.name.endswith(suffix))
    name = path.name.removesuffix(suffix)
    for word in _COUNT_WORDS:
        name = name.removesuffix(word)
    return name


def _spotfiles(path: Path) -> list[Path]:
    """Return the tables of spots that may belong to these counts."""
    tables = [
        other
        for other in sorted(path.parent.iterdir())
        if other.name.endswith((".tsv", ".txt")) and other != path and other.is_file()
    ]
    named = [other for other in tables if names_section(other, _section(path))]
    found = [other for other in named if is_spotfile(other)]
    if found or len(tables) > _MANY_TABLES:
        return found
    # Without a common name, one table of spots belongs to the one table of counts.
    others = [p for p in path.parent.iterdir() if p.name.endswith(_SUFFIXES) and p != path]
    spots = [other for other in tables if is_spotfile(other)]
    alone = not any(is_counts_table(other) for other in others)
    return spots if len(spots) == 1 and alone else []


def _one_spotfile(path: Path) -> Path:
    found = _spotfiles(path)
    if len(found) != 1:
        names = ", ".join(p.name for p in found)
        msg = f"{len(found)} tables of spots may belong to {path} ({names}). Keep one beside it."
        raise SlideError(msg)
    return confined(found[0], path.parent)


def _join(
    barcodes: Sequence[str], positions: pd.DataFrame, section: str
) -> tuple[NDArray[np.int64], pd.DataFrame, list[str]]:
    """Return the rows of the counts that have a position, their spots, and notes on the rest.

    Spots are joined by their place on the array: some tables name it with its measured offset
    (``16.92x9.015`` for ``17x9``).
    """
    where = f"Section {section}"
    known = place_names(list(positions.index), where)
    joined = join_most(place_names(barcodes, where), known, where=where)
    spots = positions.iloc[joined.at].copy()
    spots.index = pd.Index([barcodes[row] for row in joined.rows], name=Keys.BARCODE)
    notes = joined.notes("are not selected as under tissue", "selected spots")
    return joined.rows, spots, notes


def _array_mpp(
    array: Array | None, positions: pd.DataFrame, section: str
) -> dict[str, float | None]:
    if array is None:
        return {}
    places: NDArray[np.float64] = positions[["array_x", "array_y"]].to_numpy(np.float64)
    pixels: NDArray[np.float64] = positions[[Keys.X_PX, Keys.Y_PX]].to_numpy(np.float64)
    return {array.what: fitted_mpp(array, places, pixels, section)}


def _images_of(path: Path, section: str) -> list[Path]:
    """Return the images that have the section in their name, else all that lie there."""
    images = image_files(path.parent)
    return [image for image in images if names_section(image, section)] or images


def _find_image(path: Path, section: str, options: SlideOptions) -> tuple[SlideImage | None, str]:
    """Return the section's image and a note on which it is."""
    if options.image is not None:
        return open_image(options.image), f"Image: {options.image}, as given."
    named = _images_of(path, section)
    if len(named) > 1:
        names = ", ".join(image.name for image in named[:5])
        msg = (
            f"Section {section} has {len(named)} images ({names}). Name one: SlideOptions(image=...) or `image` in "
            f"{section}.slide.toml."
        )
        raise SlideError(msg)
    if not named:
        return None, "No image was found: counts only, so this section has no patches."
    return open_image(
        confined(named[0], path.parent)
    ), f"Image: {named[0].name}, beside the counts."
