"""Space Ranger: the output folder of 10x Genomics' Visium pipeline.

The folder holds ``filtered_feature_bc_matrix.h5`` (or the folder of the same name) and ``spatial/``.
A prefix before these names, as files from repositories often have, is allowed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stamp_index.genes.reference import species_of
from stamp_index.keys import Keys, Nums
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.common.joining import join_all, under_tissue
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.tenx.counts import TenxCounts, read_counts
from stamp_index.readers.tenx.run import find_matrices, matrix_files, one_matrix, run_name
from stamp_index.readers.tenx.spatial_folder import SpatialFolder
from stamp_index.slides import Slide

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions


class SpaceRangerReader:
    """Reads a Visium output folder."""

    name = "Space Ranger"
    version = 1
    expects = (
        "a folder with filtered_feature_bc_matrix.h5 (or the folder of that name) and spatial/"
    )

    def detect(self, path: Path) -> bool:
        """Say whether `path` is a folder with a matrix and ``spatial``."""
        return path.is_dir() and (path / "spatial").is_dir() and bool(find_matrices(path))

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
        matrix = one_matrix(path)
        files = matrix_files(matrix, path)
        source = read_counts(matrix)
        folder = SpatialFolder.open(path)
        spots, rows, notes = _join(source, folder.positions, run_name(path))
        counts, genes, gene_ids, note = sum_duplicate_genes(
            source.counts[rows], source.genes, source.gene_ids
        )
        notes += [note] if note else []
        notes += source.features.notes
        full = folder.full_mpp()
        image, scale, note = folder.images().choose(options, next(iter(full.values()), None))
        notes.append(note)
        derived = {how: mpp / scale if mpp else None for how, mpp in full.items()}
        mpp, note = choose_mpp(derived=derived, image=image, given=options.mpp)
        notes.append(note)
        spots[[Keys.X_PX, Keys.Y_PX]] *= scale
        slide = Slide(
            slide_id=run_name(path),
            spots=spots,
            counts=counts,
            genes=genes,
            gene_ids=gene_ids,
            image=image,
            mpp=mpp,
            spot_diameter_um=Nums.VISIUM_SPOT_UM,
            species=species_of((), gene_ids),
            platform="Visium",
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=(*files, *folder.files),
            notes=tuple(notes),
        )
        return make_slide(slide, options)


def _join(
    source: TenxCounts, positions: pd.DataFrame, where: str
) -> tuple[pd.DataFrame, NDArray[np.int64], list[str]]:
    """Return the spots under tissue that have counts, their rows in the counts, and notes."""
    joined = join_all(source.barcodes, positions.index, where=where)
    spots = positions.iloc[joined.at]
    under, notes = under_tissue(spots["in_tissue"], where)
    bare = positions.loc[joined.uncounted, "in_tissue"] == 1
    left = replace(joined, uncounted=bare.index[bare].tolist())
    notes += left.notes(uncounted="spots under tissue")
    return spots.iloc[under].drop(columns="in_tissue"), joined.rows[under], notes
