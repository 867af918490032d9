"""Transcripts of a Xenium section, pooled into bins while they are read.

A section has tens to hundreds of millions of transcripts. They are read in batches and added up by bin and gene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.readers.common.binning import SparseSum, grid_cells, group
from stamp_index.readers.common.parquet import BATCH_ROWS, ParquetTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.readers.common.binning import Bins
    from stamp_index.readers.common.parquet import ParquetBatch
    from stamp_index.readers.tenx.counts import TenxFeatures

# "Q-Score": 10x Genomics counts transcripts of at least Q20 only (Xenium Onboard Analysis, algorithms overview,
# and the columns of cells.parquet).
MIN_QV: Final = 20.0
_MAX_UM: Final = 1e6
_COLUMNS: Final = ("feature_name", "x_location", "y_location", "qv")


@dataclass(frozen=True)
class PooledTranscripts:
    """Transcripts of genes per bin.

    Attributes
    ----------
    bins : Bins
        Those with at least one, which is the only member that `of` and `n_members` know of.
    counts : csr_matrix of shape (m, g), float32
    notes : tuple of str
        What was left out.
    """

    bins: Bins
    counts: csr_matrix
    notes: tuple[str, ...]


def pool_transcripts(
    path: Path,
    features: TenxFeatures,
    genes: Sequence[str],
    *,
    bin_um: float,
    batch_rows: int = BATCH_ROWS,
) -> PooledTranscripts:
    """Read ``transcripts.parquet`` and count transcripts of at least Q20 by bin and gene.

    Parameters
    ----------
    path : Path
        The table.
    features : TenxFeatures
        Of the cell matrix: genes and controls.
    genes : sequence of str, length g
        Symbols of the genes, unique.
    bin_um : float
        Width of a bin; bin (0, 0) starts at (0, 0) um.
    batch_rows : int
        Transcripts to hold in memory at once.

    Raises
    ------
    SlideError
        If the table is damaged, lacks a column, or has no transcripts of genes.
    BarcodeMismatchError
        If most transcripts are of features that the matrix does not have.
    """
    import pyarrow as pa

    known = pa.array([*genes, *sorted(set(features.names) - set(genes))], type=pa.string())
    total, n_low, n_controls, n_foreign, n_kept = _BinSum(len(genes)), 0, 0, 0, 0
    with ParquetTable(path, _COLUMNS, what="transcripts") as table:
        for batch in table.batches(_COLUMNS, batch_rows):
            sure = batch.numbers("qv", np.float64) >= MIN_QV
            feature = _features(batch, known)[sure]
            is_gene = (feature >= 0) & (feature < len(genes))
            xy_um = _positions(batch, path)[sure][is_gene]
            total.add(xy_um, feature[is_gene], bin_um)
            n_low += int((~sure).sum())
            n_foreign += int((feature < 0).sum())
            n_controls += int((feature >= len(genes)).sum())
            n_kept += int(is_gene.sum())
    if n_foreign > n_kept + n_controls:
        msg = (
            f"{n_foreign} of the {n_foreign + n_kept + n_controls} transcripts in {path} are of features that the cell matrix "
            "does not have. The two files are of different runs: give both of one run."
        )
        raise BarcodeMismatchError(msg)
    if not n_kept:
        msg = f"{path} has no transcripts of genes with qv of {MIN_QV:g} or more ({n_low} have less). Copy the file again."
        raise SlideError(msg)
    bins, counts = total.total()
    notes = [
        f"{n_kept} transcripts of genes with qv of {MIN_QV:g} or more were pooled into {len(bins.row)} bins of {bin_um:g} um."
    ]
    for number, what in (
        (n_low, f"with qv below {MIN_QV:g}"),
        (n_controls, "of controls"),
        (n_foreign, "of features that the cell matrix does not have"),
    ):
        if number:
            notes.append(f"{number} transcripts {what} were left out.")
    return PooledTranscripts(bins, counts, tuple(notes))


def _features(batch: ParquetBatch, known: object) -> NDArray[np.int64]:
    """Return each transcript's place in `known`, -1 where it is not there."""
    import pyarrow.compute as pc

    place = pc.index_in(batch.texts("feature_name"), value_set=known)
    return np.asarray(place.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _positions(batch: ParquetBatch, path: Path) -> NDArray[np.float64]:
    """Return (x, y) of each transcript in microns: shape (n, 2)."""
    axes = [batch.numbers(name, np.float64) for name in ("x_location", "y_location")]
    xy_um = np.column_stack(axes)
    lost = int((~np.isfinite(xy_um).all(axis=1)).sum())
    if lost:
        msg = f"{path}: {lost} transcripts have no x_location or y_location. Copy the file again."
        raise SlideError(msg)
    farthest = float(np.abs(xy_um).max(initial=0.0))
    if farthest > _MAX_UM:
        msg = (
            f"{path}: transcripts lie up to {farthest:.3g} um away; expected {_MAX_UM:.0e} um at most, as a slide is "
            "75 mm long. Copy the file again."
        )
        raise SlideError(msg)
    return xy_um


class _BinSum:
    """Counts transcripts by bin and gene; bins get their rows in the order in which they are first seen."""

    def __init__(self, n_genes: int) -> None:
        self._sum = SparseSum(n_genes)
        self._n_genes = n_genes
        self._row_of: dict[tuple[int, int], int] = {}

    def add(self, xy_um: NDArray[np.float64], gene: NDArray[np.int64], bin_um: float) -> None:
        bins = group(*grid_cells(xy_um, bin_um))
        places = zip(bins.row.tolist(), bins.col.tolist(), strict=True)
        rows = [self._row_of.setdefault(place, len(self._row_of)) for place in places]
        ones = np.ones(len(gene), dtype=np.float32)
        of = np.array(rows, dtype=np.int64)[bins.of]
        self._sum.add(csr_matrix((ones, (of, gene)), shape=(len(self._row_of), self._n_genes)))

    def total(self) -> tuple[Bins, csr_matrix]:
        """Return the bins by row and column, and their counts."""
        places = np.array(list(self._row_of), dtype=np.int64)
        bins = group(places[:, 0], places[:, 1])
        return bins, csr_matrix(self._sum.total(len(places))[np.argsort(bins.of)])
