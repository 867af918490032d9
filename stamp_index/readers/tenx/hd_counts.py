"""Counts of Visium HD, pooled while they are read: an h5 matrix of 2 um squares never lies in memory whole.

An 11 mm slide has 30 million squares and hundreds of millions of entries, of which 48 um bins keep a part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import BarcodeMismatchError
from stamp_index.readers.common.binning import SparseSum, sum_rows
from stamp_index.readers.tenx.counts import TenxFeatures, TenxH5, read_mtx
from stamp_index.readers.tenx.hd_barcodes import parse_barcodes
from stamp_index.readers.tenx.hd_grid import NO_SQUARE, OFF_TISSUE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.readers.tenx.hd_grid import HdGrid

MAX_ENTRIES: Final = 1 << 22  # entries of the matrix that are read at once


@dataclass(frozen=True)
class HdCounts:
    """Counts of bins.

    Attributes
    ----------
    counts : csr_matrix of shape (m, g), float32
        Genes only.
    features : TenxFeatures
    n_off_tissue : int
        Squares with counts that do not lie under tissue and were left out.
    """

    counts: csr_matrix
    features: TenxFeatures
    n_off_tissue: int


def pool_counts(
    path: Path,
    grid: HdGrid,
    index: NDArray[np.int64],
    *,
    squares: int,
    max_entries: int = MAX_ENTRIES,
) -> HdCounts:
    """Read a matrix of squares and pool it into bins.

    Parameters
    ----------
    path : Path
        ``filtered_feature_bc_matrix.h5``, which is read in pieces, or the folder of that name, which is
        read whole.
    grid : HdGrid
        Of the same squares.
    index : ndarray of shape (bin rows, bin columns), int64
        Row of the result for each place in the grid of bins; below 0 where there is no bin.
    squares : int
        Squares per bin, along one side.
    max_entries : int
        Entries of the h5 file to hold in memory at once.

    Raises
    ------
    BarcodeMismatchError
        If a barcode is no square of this array, or stands twice.
    SlideError
        If the matrix is damaged.
    """
    features, pieces = _open(path, max_entries)
    n_bins, n_genes = int(index.max()) + 1, int(features.is_gene.sum())
    seen = np.zeros(grid.state.shape, dtype=bool)
    total, n_barcodes, n_off = SparseSum(n_genes), 0, 0
    for barcodes, counts in pieces:
        row, col = parse_barcodes(barcodes, grid.square_um, path)
        off = _state_of(grid, barcodes, (row, col), path) == OFF_TISSUE
        of = np.where(off, -1, index[row // squares, col // squares])
        total.add(sum_rows(of, counts, n_bins))
        seen[row, col] = True
        n_barcodes += len(barcodes)
        n_off += int(off.sum())
    n_twice = n_barcodes - int(seen.sum())
    if n_twice:
        msg = f"The counts {path} hold {n_twice} barcodes more than once. Copy the file again."
        raise BarcodeMismatchError(msg)
    return HdCounts(total.total(n_bins), features, n_off)


def _open(
    path: Path, max_entries: int
) -> tuple[TenxFeatures, Iterator[tuple[NDArray[np.bytes_], csr_matrix]]]:
    """Return what a matrix counts, and its barcodes and the counts of its genes in pieces."""
    if path.is_dir():
        source = read_mtx(path)
        barcodes = np.array([name.encode() for name in source.barcodes], dtype=np.bytes_)
        return source.features, iter([(barcodes, source.counts)])
    with TenxH5(path) as matrix:
        features = matrix.features

    def pieces() -> Iterator[tuple[NDArray[np.bytes_], csr_matrix]]:
        with TenxH5(path) as matrix:
            for start, stop in matrix.pieces(max_entries):
                counts = matrix.features.keep_genes(matrix.rows(start, stop))
                yield matrix.barcodes(start, stop), counts

    return features, pieces()


def _state_of(
    grid: HdGrid,
    barcodes: NDArray[np.bytes_],
    place: tuple[NDArray[np.int64], NDArray[np.int64]],
    path: Path,
) -> NDArray[np.uint8]:
    """Return the state of each square; refuse squares that the positions do not list."""
    row, col = place
    inside = (row < grid.state.shape[0]) & (col < grid.state.shape[1])
    state = np.full(len(row), NO_SQUARE, dtype=np.uint8)
    state[inside] = grid.state[row[inside], col[inside]]
    lost = np.flatnonzero(state == NO_SQUARE)
    if len(lost):
        msg = (
            f"{len(lost)} squares with counts in {path} have no position (such as {barcodes[lost[0]].decode()}); the "
            f"array of the positions has {grid.state.shape[0]} x {grid.state.shape[1]} squares. Counts and positions are of "
            "different slides: give both files of one run."
        )
        raise BarcodeMismatchError(msg)
    return state
