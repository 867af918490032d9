"""Space Ranger: the output folder of 10x Genomics' Visium pipeline.

The folder holds ``filtered_feature_bc_matrix.h5`` (or the folder of the same name) and ``spatial/``.
A prefix before these names, as files from repositories often have, is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.pixel_size import choose_mpp
from stamp_index.readers.spatial_folder import SpatialFolder
from stamp_index.readers.tenx_counts import TenxCounts, read_h5, read_mtx
from stamp_index.slides import Slide

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from stamp_index.readers.base import SlideOptions

_MATRIX: Final = "filtered_feature_bc_matrix"
_SPECIES: Final = (("ENSG", "human"), ("ENSMUSG", "mouse"))


class SpaceRangerReader:
    """Reads a Visium output folder."""

    name = "Space Ranger"
    version = 1
    expects = (
        "a folder with filtered_feature_bc_matrix.h5 (or the folder of that name) and spatial/"
    )

    def detect(self, path: Path) -> bool:
        """Say whether `path` is a folder with a matrix and ``spatial``."""
        return path.is_dir() and (path / "spatial").is_dir() and bool(_matrices(path))

    def sidecar(self, path: Path) -> Path:
        """Return ``slide.toml`` in the folder."""
        return path / "slide.toml"

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read counts, positions and an image.

        Raises
        ------
        SlideError
            If a file is missing or damaged, or they do not belong together.
        """
        matrix = _matrix(path)
        source = read_mtx(matrix) if matrix.is_dir() else read_h5(matrix)
        folder = SpatialFolder.open(path / "spatial")
        spots, rows, notes = _join(source, folder.positions)
        counts, genes, gene_ids, note = sum_duplicate_genes(
            source.counts[rows], source.genes, source.gene_ids
        )
        notes += [note] if note else []
        if source.n_dropped:
            notes.append(f"{source.n_dropped} features that are not genes were left out.")
        image, scale, note = folder.choose_image(options)
        notes.append(note)
        mpp_full, how = folder.full_mpp()
        mpp, note = choose_mpp(
            derived={how: mpp_full / scale if mpp_full else None}, image=image, given=options.mpp
        )
        notes.append(note)
        spots[[Keys.X_PX, Keys.Y_PX]] *= scale
        slide = Slide(
            slide_id=path.resolve().parent.name if path.name == "outs" else path.resolve().name,
            spots=spots,
            counts=counts,
            genes=genes,
            gene_ids=gene_ids,
            image=image,
            mpp=mpp,
            spot_diameter_um=Nums.VISIUM_SPOT_UM,
            species=_species(gene_ids),
            platform="Visium",
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=(*_files_of(matrix), *folder.files),
            notes=tuple(notes),
        )
        return make_slide(slide, options)


def _files_of(matrix: Path) -> list[Path]:
    return sorted(matrix.iterdir()) if matrix.is_dir() else [matrix]


def _matrices(path: Path) -> list[Path]:
    folders = [p for p in path.glob(f"*{_MATRIX}") if p.is_dir()]
    return sorted(path.glob(f"*{_MATRIX}.h5")) + sorted(folders)


def _matrix(path: Path) -> Path:
    """Return the matrix; the h5 file wins over the folder, which holds the same numbers."""
    files = [p for p in _matrices(path) if p.suffix == ".h5"] or _matrices(path)
    if len(files) > 1:
        msg = f"{path} has {len(files)} matrices ({', '.join(p.name for p in files)}). Keep one."
        raise SlideError(msg)
    return files[0]


def _join(source: TenxCounts, positions: pd.DataFrame) -> tuple[pd.DataFrame, list[int], list[str]]:
    """Return the spots under tissue that have counts, their rows in the counts, and notes."""
    known = set(positions.index)
    lost = [barcode for barcode in source.barcodes if barcode not in known]
    if lost:
        msg = (
            f"{len(lost)} of the {len(source.barcodes)} barcodes with counts have no position (such "
            f"as {', '.join(lost[:3])}); the positions name {', '.join(positions.index[:3])}. Counts "
            "and positions are of different slides: give both files of one run."
        )
        raise BarcodeMismatchError(msg)
    spots = positions.loc[source.barcodes]
    under = spots["in_tissue"].to_numpy() == 1
    notes = []
    if not under.all():
        notes.append(f"{(~under).sum()} spots with counts are not under tissue: dropped.")
    without = positions.index[positions["in_tissue"] == 1].difference(spots.index)
    if len(without):
        notes.append(
            f"{len(without)} spots under tissue have no counts and were dropped "
            f"({', '.join(without[:3])})."
        )
    return spots[under].drop(columns="in_tissue"), np.flatnonzero(under).tolist(), notes


def _species(gene_ids: tuple[str, ...]) -> str:
    """Return the species that the Ensembl ids name, or nothing where they are mixed or absent."""
    found = {name for prefix, name in _SPECIES if any(g.startswith(prefix) for g in gene_ids)}
    return found.pop() if len(found) == 1 else ""
