"""Xenium: the output folder of 10x Genomics' Xenium Onboard Analysis, versions 1 to 3.

The folder holds ``experiment.xenium``, ``cell_feature_matrix.h5``, ``cells.parquet`` and
``transcripts.parquet``. Positions are in microns; the H&E image and its alignment come later and from elsewhere
(see `xenium_image`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.errors import MissingPixelSizeError, SlideError
from stamp_index.genes.reference import species_of
from stamp_index.keys import Keys
from stamp_index.readers.build import make_slide, sum_duplicate_genes
from stamp_index.readers.common.binning import bin_barcodes, bin_width_um, pool
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.off_image import without_spots_off_image
from stamp_index.readers.common.regular import load_json
from stamp_index.readers.tenx.counts import read_counts, read_features
from stamp_index.readers.tenx.run import matrix_files, one_matrix, run_name
from stamp_index.readers.tenx.xenium_cells import (
    CELL_TABLES,
    check_same_area,
    join_cells,
    median_diameter_um,
    read_cells,
)
from stamp_index.readers.tenx.xenium_image import place_image
from stamp_index.readers.tenx.xenium_transcripts import MIN_QV, pool_transcripts
from stamp_index.slides import Slide
from stamp_index.slides.images import MAX_MPP, MIN_MPP

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions

EXPERIMENT: Final = "experiment.xenium"
_TRANSCRIPTS: Final = "transcripts.parquet"
_MATRIX: Final = "cell_feature_matrix"
_UNKNOWN: Final = (
    "",
    "n/a",
    "na",
    "none",
    "unknown",
)  # what the instrument writes for an empty field


class XeniumReader:
    """Reads one region of a Xenium run, in bins of transcripts or as single cells."""

    name = "Xenium"
    version = 1
    expects = "a folder with experiment.xenium, cell_feature_matrix.h5, cells.parquet and transcripts.parquet"

    def detect(self, path: Path) -> bool:
        """Say whether `path` is a folder with ``experiment.xenium``."""
        return (path / EXPERIMENT).is_file()

    def sidecar(self, path: Path) -> Path:
        """Return ``slide.toml`` in the folder."""
        return path / "slide.toml"

    def read(self, path: Path, options: SlideOptions) -> Slide:
        """Read transcripts or cells, and the H&E image where there is one with an alignment.

        Raises
        ------
        SlideError
            If a file is missing or damaged, or they do not belong together.
        """
        experiment = _read_experiment(path)
        spots = _read_spots(path, options)
        image = place_image(path, _pixel_um(experiment, path), options)
        xy_px = image.place(spots.xy_um)
        table = pd.DataFrame(spots.labels, index=pd.Index(spots.barcodes, name=Keys.BARCODE))
        slide = Slide(
            slide_id=run_name(path),
            spots=table.assign(**{Keys.X_PX: xy_px[:, 0], Keys.Y_PX: xy_px[:, 1]}),
            counts=spots.counts,
            genes=spots.genes,
            gene_ids=spots.gene_ids,
            image=image.image,
            mpp=image.mpp,
            spot_diameter_um=spots.diameter_um,
            organ=_said(experiment, "panel_tissue_type"),
            species=_said(experiment, "panel_organism") or species_of((), spots.gene_ids),
            platform="Xenium",
            source=str(path),
            reader=self.name,
            reader_version=self.version,
            files=(path / EXPERIMENT, *spots.files, *image.files),
            parameters=spots.parameters,
            notes=(*spots.notes, *image.notes),
        )
        return make_slide(without_spots_off_image(slide), options)


@dataclass(frozen=True)
class _Spots:
    """Bins or cells: what a slide needs of them, before they are placed on an image."""

    xy_um: NDArray[np.float64]
    barcodes: list[str]
    labels: dict[str, NDArray[np.float64] | NDArray[np.int64]]
    counts: csr_matrix
    genes: tuple[str, ...]
    gene_ids: tuple[str, ...]
    diameter_um: float
    files: tuple[Path, ...]
    parameters: dict[str, str | int | float | bool]
    notes: tuple[str, ...]


def _read_spots(path: Path, options: SlideOptions) -> _Spots:
    """Read what the options ask for; without transcripts, bins are made of cells."""
    matrix = confined(one_matrix(path, _MATRIX), path)
    if options.spots == "cells":
        return _cells(path, matrix)
    bin_um = bin_width_um(options.bin_um)
    if (path / _TRANSCRIPTS).exists():
        return _bins_of_transcripts(path, matrix, bin_um)
    return _bins_of_cells(_cells(path, matrix), bin_um)


def _bins_of_transcripts(path: Path, matrix: Path, bin_um: float) -> _Spots:
    features = read_features(matrix)
    nothing = csr_matrix(np.zeros((0, len(features.genes)), dtype=np.float32))
    _, genes, gene_ids, note = sum_duplicate_genes(nothing, features.genes, features.gene_ids)
    table = confined(path / _TRANSCRIPTS, path)
    pooled = pool_transcripts(table, features, genes, bin_um=bin_um)
    bins = pooled.bins
    centres_um = bins.centres_um(bin_um)
    n_transcripts = np.asarray(pooled.counts.sum(axis=1), dtype=np.int64).ravel()
    cells = _cell_table(path)
    if cells is not None:
        check_same_area(centres_um, n_transcripts, read_cells(cells), reach_um=bin_um, path=path)
    return _Spots(
        xy_um=centres_um,
        barcodes=bins.barcodes(bin_um),
        labels={
            "array_row": bins.row,
            "array_col": bins.col,
            "n_transcripts": n_transcripts,
        },
        counts=pooled.counts,
        genes=genes,
        gene_ids=gene_ids,
        diameter_um=float(bin_um),
        files=(*matrix_files(matrix, path), table, *([cells] if cells else [])),
        parameters={
            "spots": "bins",
            "pooled": "transcripts",
            "bin_um": float(bin_um),
            "min_qv": MIN_QV,
        },
        notes=(*pooled.notes, *features.notes, *([note] if note else [])),
    )


def _cell_table(path: Path) -> Path | None:
    found = next((path / name for name in CELL_TABLES if (path / name).exists()), None)
    return None if found is None else confined(found, path)


def _cells(path: Path, matrix: Path) -> _Spots:
    table = _cell_table(path)
    if table is None:
        msg = f"{path} has neither {' nor '.join(CELL_TABLES)}, so cells have no positions. Copy the whole folder."
        raise SlideError(msg)
    source = read_counts(matrix)
    cells = join_cells(read_cells(table), source.barcodes, table)
    counts, genes, gene_ids, note = sum_duplicate_genes(
        source.counts, source.genes, source.gene_ids
    )
    labels = cells.drop(columns=["x_centroid", "y_centroid"])
    return _Spots(
        xy_um=cells[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64),
        barcodes=source.barcodes,
        labels={str(name): labels[name].to_numpy() for name in labels},
        counts=counts,
        genes=genes,
        gene_ids=gene_ids,
        diameter_um=median_diameter_um(cells, table),
        files=(*matrix_files(matrix, path), table),
        parameters={"spots": "cells"},
        notes=(*source.features.notes, *([note] if note else [])),
    )


def _bins_of_cells(cells: _Spots, bin_um: float) -> _Spots:
    pooled = pool(cells.xy_um, cells.counts, bin_um)
    bins = pooled.bins
    note = (
        f"{_TRANSCRIPTS} is missing: {len(cells.barcodes)} cells were pooled into {len(bins.row)} bins of {bin_um:g} um by "
        "their centres, and transcripts outside of cells are lost."
    )
    return _Spots(
        xy_um=pooled.xy_um,
        barcodes=bin_barcodes(bins.row, bins.col, bin_um),
        labels={"array_row": bins.row, "array_col": bins.col, "n_cells": bins.n_members},
        counts=pooled.counts,
        genes=cells.genes,
        gene_ids=cells.gene_ids,
        diameter_um=float(bin_um),
        files=cells.files,
        parameters={"spots": "bins", "pooled": "cells", "bin_um": float(bin_um)},
        notes=(note, *cells.notes),
    )


def _read_experiment(path: Path) -> dict[str, object]:
    file = confined(path / EXPERIMENT, path)
    try:
        experiment = load_json(file)
        if not isinstance(experiment, dict):
            msg = f"it holds a {type(experiment).__name__}"
            raise TypeError(msg)
    except (OSError, ValueError, TypeError) as exc:
        msg = f"{file} cannot be read ({exc}). Expected a JSON object with pixel_size: copy the file again."
        raise SlideError(msg) from exc
    return experiment


def _pixel_um(experiment: dict[str, object], path: Path) -> float:
    """Microns per pixel of Xenium's morphology images, 0.2125 on every instrument so far."""
    value = experiment.get("pixel_size")
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and MIN_MPP <= value <= MAX_MPP
    ):
        return float(value)
    msg = (
        f"{path / EXPERIMENT} says pixel_size = {value!r}; expected microns per pixel of {MIN_MPP:g} to {MAX_MPP:g}, such as "
        "0.2125. Copy the file again."
    )
    raise MissingPixelSizeError(msg)


def _said(experiment: dict[str, object], name: str) -> str:
    text = str(experiment.get(name) or "").strip().lower()
    return "" if text in _UNKNOWN else text
