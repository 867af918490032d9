"""Legacy Spatial Transcriptomics with expert layers, in the layout of Splotch: images, annotations, counts.

Three folders side by side: ``images/04.jpg``, ``annotations/04_01.tsv`` and, for replicates that have them,
``counts/MOB_REP4_stdata.tsv.gz``. A slide is named by its counts file; where there is none, by its annotation.
Source: Aijo et al., Splotch, tutorials/olfactory_bulb_st; data of Stahl et al., Science 353:78 (2016).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.errors import SlideError
from stamp_index.genes.reference import species_of
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.ensembl_names import name_genes
from stamp_index.readers.common.image_scale import same_shape_scale
from stamp_index.readers.common.images_beside import image_files
from stamp_index.readers.common.joining import Joined, join_most
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.legacy.arrays import SQUARE
from stamp_index.readers.legacy.layers import read_layers
from stamp_index.readers.legacy.tables import place_names, read_counts, spot_xy
from stamp_index.slides import Slide, open_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage

_COUNTS_NAME: Final = re.compile(
    r"(?:.*?(?:replicate|rep)[_-]?)?0*(\d+)(?:\D.*)?\.tsv(?:\.gz)?", re.I
)
_ANNOTATION_NAME: Final = re.compile(r"0*(\d+)_\d+\.tsv")


class AnnotatedStReader:
    """Reads one replicate of a study with images, annotations and counts."""

    name = "Annotated ST"
    version = 1
    expects = "a table counts/<...rep4...>.tsv.gz, or annotations/04_01.tsv where there are no counts, beside images/04.jpg"

    def detect(self, path: Path) -> bool:
        """Say whether `path` is a counts file with images and annotations beside, or an annotation without counts."""
        files = _Files.of(path)
        if files is None or not path.is_file():
            return False
        if files.counts:
            return path in files.counts
        return path in files.annotations and bool(files.images)

    def sidecar(self, path: Path) -> Path:
        """Return ``<file without its endings>.slide.toml`` beside the file that names the slide."""
        return path.with_name(f"{path.name.split('.', 1)[0]}.slide.toml")

    def owns(self, path: Path) -> tuple[Path, ...]:
        """Return the replicate's images, which are no slides of their own."""
        files = _Files.of(path)
        return files.images if files else ()

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read image, layers and, where they were measured, counts.

        Raises
        ------
        SlideError
            If a file is missing or damaged, or they do not belong together.
        """
        files = _Files.of(path)
        if files is None:
            msg = f"{path} is not in a folder `counts` or `annotations`."
            raise SlideError(msg)
        annotation = files.one("annotations") if files.annotations else None
        layers = read_layers(annotation) if annotation else None
        spots, counts, genes, notes = _spots(files, layers, path)
        image, note = _image(files, options)
        notes.append(note)
        per_step, mpp, note = _frame(image, options)
        notes.append(note)
        spots[[Keys.X_PX, Keys.Y_PX]] = (spots[["array_x", "array_y"]].to_numpy() - 1) * per_step
        names, gene_ids = name_genes(genes)
        counts, names, gene_ids, summed = sum_duplicate_genes(counts, names, gene_ids)
        notes += [summed] if summed else []
        tables = [path, annotation] if files.counts else [path]
        slide = Slide(
            slide_id=f"{files.root.resolve().name}_{files.number:02d}",
            spots=spots,
            counts=counts,
            genes=names,
            gene_ids=gene_ids,
            image=image,
            mpp=mpp,
            spot_diameter_um=Nums.LEGACY_ST_SPOT_UM,
            species=species_of((), gene_ids),
            platform="Legacy ST",
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            parameters={"array": SQUARE.name},
            files=tuple(table for table in tables if table is not None),
            notes=tuple(notes),
        )
        return make_slide(slide, options)


@dataclass(frozen=True)
class _Files:
    """The files of one replicate."""

    root: Path
    number: int
    counts: tuple[Path, ...]
    annotations: tuple[Path, ...]
    images: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path) -> _Files | None:
        """Find them from a counts or annotation file; None where the layout is another."""
        root, kind = path.parent.parent, path.parent.name
        pattern = {"counts": _COUNTS_NAME, "annotations": _ANNOTATION_NAME}.get(kind)
        match = pattern.fullmatch(path.name) if pattern else None
        if match is None or not all((root / name).is_dir() for name in ("images", "annotations")):
            return None
        number = int(match.group(1))
        images = [p for p in image_files(root / "images") if p.stem.isdigit()]
        return cls(
            root=root,
            number=number,
            counts=_numbered(root / "counts", _COUNTS_NAME, number),
            annotations=_numbered(root / "annotations", _ANNOTATION_NAME, number),
            images=tuple(p for p in images if int(p.stem) == number),
        )

    def one(self, kind: str) -> Path:
        """Return the only file of a kind; refuse several."""
        found: tuple[Path, ...] = getattr(self, kind)
        if len(found) != 1:
            names = ", ".join(p.name for p in found)
            msg = f"Replicate {self.number} in {self.root} has {len(found)} {kind} ({names}). Keep one."
            raise SlideError(msg)
        return confined(found[0], self.root)


def _numbered(folder: Path, pattern: re.Pattern[str], number: int) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    matches = ((path, pattern.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return tuple(path for path, match in matches if match and int(match.group(1)) == number)


def _spots(
    files: _Files, layers: pd.Series[str] | None, path: Path
) -> tuple[pd.DataFrame, csr_matrix, tuple[str, ...], list[str]]:
    """Return spots with array coordinates and layer, their counts, the genes, and notes."""
    if not files.counts:
        if layers is None:
            msg = f"Replicate {files.number} in {files.root} has neither counts nor annotation."
            raise SlideError(msg)
        note = "Nothing was measured on this replicate here: its annotated spots are places without counts."
        empty = csr_matrix(np.empty((len(layers), 0), dtype=np.float32))
        return _table(list(layers.index), layers.to_numpy(dtype=object), path), empty, (), [note]
    barcodes, genes, counts = read_counts(files.one("counts"))
    if layers is None:
        note = (
            "There is no annotation: spots off tissue are not told from those on it, and all stay."
        )
        return _table(barcodes, None, path), counts, genes, [note]
    joined, notes = _join(barcodes, layers, files)
    names = [barcodes[row] for row in joined.rows]
    spots = _table(names, layers.to_numpy(dtype=object)[joined.at], path)
    return spots, counts[joined.rows], genes, notes


def _table(barcodes: list[str], layers: NDArray[np.object_] | None, path: Path) -> pd.DataFrame:
    xy = spot_xy(barcodes, str(path))
    columns = {"array_x": xy[:, 0], "array_y": xy[:, 1]}
    table = pd.DataFrame(columns, index=pd.Index(barcodes, name=Keys.BARCODE))
    return table if layers is None else table.assign(layer=layers)


def _join(barcodes: list[str], layers: pd.Series[str], files: _Files) -> tuple[Joined, list[str]]:
    """Join annotated spots with those of the counts, by their place; and notes.

    Counts may name a spot with its measured offset, ``16.92x9.015``: rounded it is the place that the annotation
    names, ``17_9``.
    """
    where = f"Replicate {files.number}"
    known = place_names(list(layers.index), where)
    joined = join_most(place_names(barcodes, where), known, where=where, place="annotation")
    notes = joined.notes("are not annotated, so off tissue", "annotated spots")
    exact = spot_xy([barcodes[row] for row in joined.rows], where)
    offset = float(np.abs(exact - np.round(exact)).max())
    if offset:
        notes.append(
            f"Spots are named by their measured place, up to {offset:.2f} of the pitch off the array's: joined with "
            "the annotation by rounding, and put on the image where they were measured."
        )
    return joined, notes


def _image(files: _Files, options: SlideOptions) -> tuple[SlideImage | None, str]:
    if options.image is not None:
        return open_image(options.image), f"Image: {options.image}, as given."
    if not files.images:
        return None, "No image was found: counts only, so this replicate has no patches."
    path = files.one("images")
    return open_image(path), f"Image: {path.name}, cropped to the array's frame."


def _frame(
    image: SlideImage | None, options: SlideOptions
) -> tuple[tuple[float, float], float, str]:
    """Return pixels per column and per row of the array, the pixel size, and a note.

    The images are cropped to the array's frame: the first of 33 columns lies on the left edge, the last on the
    right one; likewise the 35 rows.
    """
    if image is None:
        pitch = SQUARE.across_um
        return (pitch, SQUARE.down_um), 1.0, "Positions are in microns on the array, 1 um/px."
    frame = (SQUARE.columns - 1, SQUARE.rows - 1)
    if same_shape_scale(image.size_px, frame) is None:
        msg = (
            f"{image.uri} is {image.size_px[0]} x {image.size_px[1]} px, but the array's frame is "
            f"{frame[0]} columns wide and {frame[1]} rows high. Give the replicate's image, cropped "
            "to the frame."
        )
        raise SlideError(msg)
    per_step = (image.size_px[0] / frame[0], image.size_px[1] / frame[1])
    derived = {SQUARE.what: SQUARE.across_um / (sum(per_step) / 2)}
    mpp, note = choose_mpp(derived=derived, image=image, given=options.mpp)
    return per_step, mpp, note
