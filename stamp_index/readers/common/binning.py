"""Square bins: squares, cells or transcripts that lie close together are pooled into one spot.

Bin (row, col) covers [col w, (col + 1) w) x [row w, (row + 1) w) from the grid's origin, w its width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.errors import SlideError
from stamp_index.keys import Nums

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_BIN_UM: Final = 1.0  # less than a cell's nucleus
MAX_BIN_UM: Final = 5_000.0  # most of a section
_MAX_BINS: Final = 2**30  # on one side of the origin; no slide comes near it


@dataclass(frozen=True)
class Bins:
    """The bins that hold at least one point, ordered by row and then by column.

    Attributes
    ----------
    row, col : ndarray of shape (m,), int64
        Place in the grid; below 0 above or left of its origin.
    of : ndarray of shape (n,), int64
        Which bin each point lies in: an index into `row` and `col`.
    """

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    of: NDArray[np.int64]

    @property
    def n_members(self) -> NDArray[np.int64]:
        """Number of points per bin: shape (m,)."""
        return np.bincount(self.of, minlength=len(self.row)).astype(np.int64)

    def centres_um(
        self, bin_um: float, origin_um: tuple[float, float] = (0.0, 0.0)
    ) -> NDArray[np.float64]:
        """Centres (x, y) of the bins, whatever points they hold: shape (m, 2), microns."""
        places = np.column_stack([self.col, self.row]).astype(np.float64) + 0.5
        centres: NDArray[np.float64] = places * bin_um + np.array(origin_um, dtype=np.float64)
        return centres

    def barcodes(self, bin_um: float) -> list[str]:
        """Return a name per bin, such as ``b48um_00012_00007`` for row 12 and column 7."""
        return bin_barcodes(self.row, self.col, bin_um)


@dataclass(frozen=True)
class Pooled:
    """Points pooled into bins.

    Attributes
    ----------
    bins : Bins
        Which there are, and which point lies in which.
    xy_um : ndarray of shape (m, 2), float64
        Their centres, not the means of their members.
    counts : csr_matrix of shape (m, g), float32
        Sums over the members.
    """

    bins: Bins
    xy_um: NDArray[np.float64]
    counts: csr_matrix


def bin_width_um(asked: float | None) -> float:
    """Return the width of bins for points: what is asked for, else 48 um.

    Raises
    ------
    SlideError
        If it is not between 1 and 5,000 um.
    """
    bin_um = float(asked or Nums.BIN_UM)
    if not MIN_BIN_UM <= bin_um <= MAX_BIN_UM:
        msg = f"bin_um is {bin_um:g}; expected {MIN_BIN_UM:g} to {MAX_BIN_UM:,.0f} microns, such as {Nums.BIN_UM:g}."
        raise SlideError(msg)
    return bin_um


def pool(
    xy_um: NDArray[np.floating],
    counts: csr_matrix,
    bin_um: float,
    *,
    origin_um: tuple[float, float] = (0.0, 0.0),
) -> Pooled:
    """Pool points into square bins.

    Parameters
    ----------
    xy_um : ndarray of shape (n, 2), float
        Points (x, y) in microns.
    counts : csr_matrix of shape (n, g)
        Counts of each point.
    bin_um : float
        Width of a bin in microns, above 0.
    origin_um : (float, float)
        Where the top-left corner of bin (0, 0) lies.

    Returns
    -------
    Pooled
        One row per bin that holds a point.

    Raises
    ------
    ValueError
        If a position is not finite or 2^30 bins away, the width is not above 0, or the shapes do not fit.
    """
    if counts.shape[0] != len(xy_um):
        msg = (
            f"There are {len(xy_um)} points and {counts.shape[0]} rows of counts; expected as many."
        )
        raise ValueError(msg)
    row, col = grid_cells(xy_um, bin_um, origin_um)
    bins = group(row, col)
    return Pooled(
        bins, bins.centres_um(bin_um, origin_um), sum_rows(bins.of, counts, len(bins.row))
    )


def grid_cells(
    xy_um: NDArray[np.floating], bin_um: float, origin_um: tuple[float, float] = (0.0, 0.0)
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bin of each point of (n, 2) as (row, col), each of shape (n,).

    Raises
    ------
    ValueError
        If a position is not finite or 2^30 bins away, or the width is not above 0.
    """
    if not (math.isfinite(bin_um) and bin_um > 0):
        msg = f"bin_um is {bin_um}; expected microns above 0, such as 48."
        raise ValueError(msg)
    xy_um = np.asarray(xy_um)
    if xy_um.ndim != 2 or xy_um.shape[1] != 2:
        msg = f"Points have shape {xy_um.shape}; expected (n, 2)."
        raise ValueError(msg)
    if not np.all(np.isfinite(xy_um)):
        msg = f"{int((~np.isfinite(xy_um).all(axis=1)).sum())} points have no position."
        raise ValueError(msg)
    if len(xy_um) and np.abs(xy_um).max() > _MAX_BINS * bin_um:
        msg = f"Points lie up to {np.abs(xy_um).max():.3g} um away; expected positions in microns."
        raise ValueError(msg)
    # One axis at a time, so that millions of points need no second copy of all of them.
    col, row = (
        np.floor((xy_um[:, axis].astype(np.float64) - origin_um[axis]) / bin_um).astype(np.int64)
        for axis in (0, 1)
    )
    return row, col


def group(row: NDArray[np.integer], col: NDArray[np.integer]) -> Bins:
    """Find the bins that hold points, and which point lies in which.

    Parameters
    ----------
    row, col : ndarray of shape (n,), integer
        Bin of each point.

    Raises
    ------
    ValueError
        If rows or columns span more than 2^31.
    """
    if not len(row):
        empty = np.zeros(0, dtype=np.int64)
        return Bins(empty, empty, empty)
    top, left = int(row.min()), int(col.min())
    height, width = int(row.max()) - top + 1, int(col.max()) - left + 1
    if max(height, width) > 2 * _MAX_BINS + 1:
        msg = f"Points span {height} x {width} bins; expected 2^31 at most."
        raise ValueError(msg)
    code = (row.astype(np.int64) - top) * width + (col - left)
    codes, of = np.unique(code, return_inverse=True)
    return Bins(codes // width + top, codes % width + left, of.astype(np.int64, copy=False))


def sum_rows(of: NDArray[np.integer], counts: csr_matrix, n_bins: int) -> csr_matrix:
    """Add up rows of counts that belong together, in one sparse product.

    Parameters
    ----------
    of : ndarray of shape (n,), integer
        Which row of the result each row of `counts` is added to; rows below 0 are left out.
    counts : csr_matrix of shape (n, g)
    n_bins : int
        Rows of the result.

    Returns
    -------
    csr_matrix of shape (n_bins, g), float32
        Whole numbers up to 2^24 are exact.
    """
    members = np.flatnonzero(of >= 0)
    ones = np.ones(len(members), dtype=np.float32)
    pooling = csr_matrix((ones, (of[members], members)), shape=(n_bins, len(of)))
    summed = csr_matrix(pooling @ counts, dtype=np.float32)
    summed.sort_indices()
    return summed


def bin_barcodes(row: NDArray[np.integer], col: NDArray[np.integer], bin_um: float) -> list[str]:
    """Return a name per bin, such as ``b48um_00012_00007`` for row 12 and column 7."""
    width = f"b{bin_um:g}um"
    return [f"{width}_{r:05d}_{c:05d}" for r, c in zip(row.tolist(), col.tolist(), strict=True)]


class SparseSum:
    """Adds up csr matrices that come in pieces; memory stays a small multiple of the sum's.

    Sums of pieces are kept apart, and joined when a newer one has grown to half an older one's size, so
    that no entry is copied more than a few times.

    Parameters
    ----------
    n_columns : int
        Columns of every piece.
    """

    def __init__(self, n_columns: int) -> None:
        self._n_columns = n_columns
        self._parts: list[csr_matrix] = []

    def add(self, piece: csr_matrix) -> None:
        """Add a piece; it may have more rows than earlier ones, or fewer, which are its first."""
        piece.sum_duplicates()
        self._parts.append(piece)
        while len(self._parts) > 1 and 2 * self._parts[-1].nnz >= self._parts[-2].nnz:
            self._join_last()

    def total(self, n_rows: int) -> csr_matrix:
        """Return the sum: shape (n_rows, n_columns), float32, sorted; `n_rows` is at least a piece's."""
        while len(self._parts) > 1:
            self._join_last()
        if not self._parts:
            self._parts = [csr_matrix(np.zeros((0, self._n_columns), dtype=np.float32))]
        total = _with_rows(self._parts.pop(), n_rows)
        total.prune()  # a sum has room for the entries of both its parts
        return total

    def _join_last(self) -> None:
        one, other = self._parts.pop(), self._parts.pop()
        n_rows = max(one.shape[0], other.shape[0])
        joined = _with_rows(one, n_rows) + _with_rows(other, n_rows)
        self._parts.append(csr_matrix(joined, dtype=np.float32))


def _with_rows(counts: csr_matrix, n_rows: int) -> csr_matrix:
    """Return the same entries with empty rows at the end."""
    starts = np.pad(counts.indptr, (0, n_rows - counts.shape[0]), mode="edge")
    return csr_matrix((counts.data, counts.indices, starts), shape=(n_rows, counts.shape[1]))
