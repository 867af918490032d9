"""Float16 rows and exact search: against slow searches, and the same scores by every way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.index import exact
from stamp_index.index.exact import check_queries, exact_search, score, search_pieces
from stamp_index.index.halves import as_float32, half_index
from tests.engine_world import clustered, slow_search, unit

VECTORS = clustered(2_000).astype(np.float16)
QUERIES = clustered(40, seed=5)


def test_every_float16_is_converted_exactly():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    converted = as_float32(halves)
    np.testing.assert_array_equal(
        converted.view(np.int32), halves.astype(np.float32).view(np.int32)
    )


def test_conversion_keeps_shapes_and_takes_views(monkeypatch):
    monkeypatch.setattr("stamp_index.index.halves._VALUES", 100)
    for part in (VECTORS, VECTORS[::3], VECTORS[5:9, ::2], VECTORS[:0], VECTORS.reshape(2, -1, 32)):
        np.testing.assert_array_equal(as_float32(part), part.astype(np.float32))
    whole = VECTORS.astype(np.float32)
    assert as_float32(whole) is whole


def test_faiss_reads_a_mapped_file_where_it_lies(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r+")
    index = half_index(mapped)
    before = index.search(QUERIES[:1], 1)[1][0, 0]
    mapped[7] = QUERIES[0]  # seen at once: there is no copy
    assert before != 7
    assert index.search(QUERIES[:1], 1)[1][0, 0] == 7


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (VECTORS.astype(np.float32), "float32 of shape"),
        (VECTORS[:, ::2], "not contiguous"),
        (VECTORS[0], r"shape \(32,\)"),
    ],
    ids=["float32", "strided", "one row"],
)
def test_faiss_is_given_nothing_but_contiguous_float16(vectors, said):
    with pytest.raises(ValueError, match=said):
        half_index(vectors)


@pytest.mark.parametrize("n_queries", [1, 11, 12, 40])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exact_search_is_the_slow_search(monkeypatch, n_queries, dtype):
    monkeypatch.setattr("stamp_index.index.exact._ROWS", 300)
    vectors = VECTORS.astype(dtype)
    mask = np.random.default_rng(0).random(2_000) < 0.3
    for allowed in (None, mask):
        scores, rows = exact_search(vectors, QUERIES[:n_queries], 25, allowed=allowed)
        slow, all_scores = slow_search(vectors, QUERIES[:n_queries], 25, allowed)
        np.testing.assert_array_equal(rows, slow)
        np.testing.assert_allclose(scores, np.take_along_axis(all_scores, slow, 1), atol=1e-6)


@given(
    n=st.integers(1, 80),
    dim=st.integers(1, 40),
    k=st.integers(1, 90),
    n_queries=st.sampled_from([1, 3, 20]),
    seed=st.integers(0, 10**6),
    copies=st.booleans(),
)
def test_a_score_is_the_same_to_the_last_bit_however_it_was_found(
    n, dim, k, n_queries, seed, copies
):
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(n, dim)) + 1e-3).astype(np.float16)
    if copies:
        vectors = vectors[rng.integers(0, n, n)]  # many twins
    queries = check_queries(rng.normal(size=(n_queries, dim)) + 1e-3, dim, k)
    scores, rows = exact_search(vectors, queries, k)
    for i, query in enumerate(queries):
        alone = score(vectors, np.arange(n), query)
        np.testing.assert_array_equal(scores[i], alone[rows[i]])
        np.testing.assert_array_equal(rows[i], np.lexsort((np.arange(n), -alone))[:k])
        some = np.sort(rng.permutation(n)[: n // 2 + 1])
        near, found = exact_search(vectors, query[None], k, allowed=np.isin(np.arange(n), some))
        np.testing.assert_array_equal(near[0], alone[found[0]])
        np.testing.assert_array_equal(found[0], some[np.lexsort((some, -alone[some]))[:k]])


def test_pieces_are_stretches_or_rows():
    pieces = [(10, 400), np.array([3, 500, 1_999]), (600, 601)]
    mask = np.zeros(2_000, bool)
    mask[10:400] = mask[600] = mask[[3, 500, 1_999]] = True
    for queries in (QUERIES[:2], QUERIES):
        found = search_pieces(VECTORS, queries, 20, pieces)
        wanted = exact_search(VECTORS, queries, 20, allowed=mask)
        np.testing.assert_array_equal(found[1], wanted[1])
        np.testing.assert_array_equal(found[0], wanted[0])
    assert search_pieces(VECTORS, QUERIES, 9, [(4, 4)])[1].shape == (40, 0)


@pytest.mark.parametrize("n_queries", [2, 30])
def test_twins_come_by_ascending_row_even_where_they_are_many(n_queries):
    vectors = np.concatenate([VECTORS, np.repeat(QUERIES[:1].astype(np.float16), 300, axis=0)])
    _, rows = exact_search(vectors, QUERIES[:n_queries], 5)
    np.testing.assert_array_equal(rows[0], np.arange(2_000, 2_005))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_many_twins_of_one_hit_cost_the_other_queries_of_its_batch_nothing(monkeypatch, dtype):
    blank = unit(np.ones((1, 32)))
    queries = np.concatenate([clustered(255, seed=8), blank])
    vectors = np.concatenate([VECTORS[:1_000], np.repeat(blank, 5_000, axis=0), VECTORS[1_000:]])
    vectors = vectors.astype(dtype)
    widths, again, near, no_less = [], [], exact._nearest, exact._no_less
    monkeypatch.setattr(exact, "_ROWS", 2_500)
    monkeypatch.setattr(
        exact, "_nearest", lambda *args: widths.append((len(args[1]), args[2])) or near(*args)
    )
    monkeypatch.setattr(
        exact, "_no_less", lambda *args: again.append(len(args[1])) or no_less(*args)
    )
    scores, rows = exact_search(vectors, queries, 10)
    for i, query in enumerate(queries):
        alone = score(vectors, np.arange(7_000), query)
        order = np.lexsort((np.arange(7_000), -alone))[:10]
        np.testing.assert_array_equal(rows[i], order)
        np.testing.assert_array_equal(scores[i], alone[order])
    np.testing.assert_array_equal(rows[-1], np.arange(1_000, 1_010))
    assert widths == [(256, 16)]
    assert again == [1]


@given(seed=st.integers(0, 10**6), dim=st.integers(1, 600), scale=st.floats(1e-3, 1e3))
def test_queries_scaled_once_stay_as_they_are(seed, dim, scale):
    once = check_queries(np.random.default_rng(seed).normal(size=(5, dim)) * scale, dim, 1)
    np.testing.assert_array_equal(check_queries(once, dim, 1), once)
    np.testing.assert_allclose(np.linalg.norm(once.astype(np.float64), axis=1), 1, atol=1e-7)


def test_no_queries_give_no_hits():
    scores, rows = exact_search(VECTORS, QUERIES[:0], 5)
    assert scores.shape == rows.shape == (0, 5)
