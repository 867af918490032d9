from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_matrix

from stamp_index.readers.common.binning import (
    SparseSum,
    bin_barcodes,
    grid_cells,
    group,
    pool,
    sum_rows,
)

WIDTHS = st.floats(0.5, 500)
POINTS = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 60), st.just(2)), elements=st.floats(-3000, 3000)
)
WHOLE = hnp.arrays(
    np.int64, st.tuples(st.integers(1, 60), st.just(2)), elements=st.integers(-3000, 3000)
)


def random_counts(n: int, seed: int = 0) -> csr_matrix:
    return csr_matrix(np.random.default_rng(seed).poisson(0.5, (n, 7)))


@given(POINTS, WIDTHS, st.tuples(st.floats(-100, 100), st.floats(-100, 100)))
@settings(max_examples=60, deadline=None)
def test_counts_are_conserved_and_every_point_lies_in_its_bin(
    xy: np.ndarray, bin_um: float, origin: tuple[float, float]
) -> None:
    counts = random_counts(len(xy))
    pooled = pool(xy, counts, bin_um, origin_um=origin)
    np.testing.assert_array_equal(pooled.counts.sum(axis=0), counts.sum(axis=0))
    reach = np.abs(xy - pooled.xy_um[pooled.bins.of])
    assert np.all(reach <= bin_um / 2 * (1 + 1e-9) + 1e-9)
    assert pooled.bins.n_members.sum() == len(xy)
    assert pooled.bins.n_members.min() >= 1
    for index in range(len(pooled.bins.row)):
        members = counts[pooled.bins.of == index].sum(axis=0)
        np.testing.assert_array_equal(pooled.counts[index].toarray(), members)


@given(WHOLE, st.integers(1, 64), st.integers(-50, 50), st.integers(-50, 50))
@settings(max_examples=60, deadline=None)
def test_points_moved_by_whole_bins_give_the_same_bins_moved(
    xy: np.ndarray, bin_um: int, rows: int, cols: int
) -> None:
    counts = random_counts(len(xy))
    here = pool(xy, counts, bin_um)
    moved = pool(xy + np.array([cols, rows]) * bin_um, counts, bin_um)
    np.testing.assert_array_equal(moved.bins.of, here.bins.of)
    np.testing.assert_array_equal(moved.bins.row, here.bins.row + rows)
    np.testing.assert_array_equal(moved.bins.col, here.bins.col + cols)
    assert (moved.counts != here.counts).nnz == 0


@given(POINTS, WIDTHS, st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_order_of_points_changes_no_bin(xy: np.ndarray, bin_um: float, seed: int) -> None:
    counts = random_counts(len(xy))
    order = np.random.default_rng(seed).permutation(len(xy))
    here, shuffled = pool(xy, counts, bin_um), pool(xy[order], counts[order], bin_um)
    np.testing.assert_array_equal(here.xy_um, shuffled.xy_um)
    assert (here.counts != shuffled.counts).nnz == 0


def test_a_point_on_an_edge_belongs_to_the_bin_that_starts_there() -> None:
    row, col = grid_cells(np.array([[48.0, 95.999], [-0.001, 0.0]]), 48.0)
    assert (row.tolist(), col.tolist()) == ([1, 0], [1, -1])


def test_bins_are_sorted_by_row_and_column_and_named_after_them() -> None:
    bins = group(np.array([2, 0, 2, 0]), np.array([1, 5, 0, 5]))
    assert bins.barcodes(48.0) == ["b48um_00000_00005", "b48um_00002_00000", "b48um_00002_00001"]
    assert bins.of.tolist() == [2, 0, 1, 0]
    assert bin_barcodes(np.array([3]), np.array([12]), 7.5) == ["b7.5um_00003_00012"]


def test_a_bin_lies_where_the_grid_has_it_and_not_amid_its_members() -> None:
    pooled = pool(np.array([[1.0, 2.0]]), random_counts(1), 10.0, origin_um=(-3.0, 0.0))
    assert pooled.xy_um.tolist() == [[2.0, 5.0]]


def test_no_points_give_no_bins() -> None:
    pooled = pool(np.zeros((0, 2)), csr_matrix(np.zeros((0, 7))), 48.0)
    assert pooled.counts.shape == (0, 7)
    assert pooled.xy_um.shape == (0, 2)


def test_rows_below_zero_are_left_out() -> None:
    counts = csr_matrix(np.eye(3))
    summed = sum_rows(np.array([1, -1, 1]), counts, 3)
    assert summed.toarray().tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert summed.dtype == np.float32


@pytest.mark.parametrize(
    ("xy", "bin_um", "message"),
    [
        pytest.param([[0.0, np.nan]], 48.0, "1 points have no position", id="nan"),
        pytest.param([[0.0, 1.0]], 0.0, "bin_um is 0.0; expected microns above 0", id="width_0"),
        pytest.param([[0.0, 1.0]], np.inf, "bin_um is inf", id="width_infinite"),
        pytest.param([[0.0, 1.0, 2.0]], 48.0, "shape (1, 3); expected (n, 2)", id="three_axes"),
        pytest.param([[0.0, 1.0]] * 2, 48.0, "2 points and 1 rows of counts", id="rows"),
    ],
)
def test_arguments_that_make_no_bins_are_refused(
    xy: list[list[float]], bin_um: float, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        pool(np.array(xy), random_counts(1), bin_um)


def test_points_too_far_apart_for_a_grid_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 2\^31 at most"):
        group(np.array([0, 2**40]), np.array([0, 0]))


PLACES = st.tuples(st.integers(0, 8), st.integers(0, 4))


@given(st.lists(st.lists(PLACES, max_size=40), max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_sum_of_pieces_is_the_sum_of_all(pieces: list[list[tuple[int, int]]]) -> None:
    total, expected = SparseSum(5), np.zeros((9, 5))
    for piece in pieces:
        rows, cols = np.array(piece, dtype=np.int64).reshape(-1, 2).T
        values = np.arange(1, len(piece) + 1, dtype=np.float32)
        n_rows = int(rows.max(initial=-1)) + 1
        total.add(csr_matrix((values, (rows, cols)), shape=(n_rows, 5)))
        np.add.at(expected, (rows, cols), values)
    summed = total.total(9)
    assert summed.shape == (9, 5)
    assert summed.has_canonical_format
    np.testing.assert_array_equal(summed.toarray(), expected)


def test_a_sum_keeps_little_more_than_its_entries_while_it_grows() -> None:
    total = SparseSum(2000)
    for start in range(100):
        piece = np.zeros((3, 2000), dtype=np.float32)
        piece[:, start : start + 1000] = 1
        total.add(csr_matrix(piece))
    assert sum(part.nnz for part in total._parts) < 3 * 3 * 1100


def test_points_2_to_the_30_bins_away_are_refused() -> None:
    with pytest.raises(ValueError, match="up to 1e\\+300 um away; expected positions in microns"):
        grid_cells(np.array([[0.0, -1e300]]), 48.0)
