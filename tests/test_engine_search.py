"""Searching through every kind of index: exact scores, filters, batches, threads, refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import Engine, Settings
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.exact import exact_search
from tests.engine_world import DIM, RECIPES, N, clustered, engine_of, share_found, slow_search

VECTORS = clustered().astype(np.float16)
QUERIES = clustered(60, seed=5)
KINDS = ["flat", *RECIPES]
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    made = {kind: engine_of(kind, folder, VECTORS) for kind in RECIPES}
    return {"flat": Engine(None, VECTORS), **made}


@pytest.fixture
def through_candidates(monkeypatch):
    """Never take the way of exact search, so that small filters go through lists and graph too."""
    monkeypatch.setattr(Engine, "_exact_is_cheaper", lambda *args: False)


def masks():
    rng = np.random.default_rng(0)
    stretches = np.zeros(N, bool)
    stretches[100:1_100] = stretches[4_000:4_700] = True
    return {
        "half": rng.random(N) < 0.5,
        "tenth": rng.random(N) < 0.1,
        "few": rng.random(N) < 0.01,
        "stretches": stretches,
        "other clusters": np.arange(N) >= N // 2,
        "seven": np.isin(np.arange(N), rng.choice(N, 7, replace=False)),
        "one": np.arange(N) == 77,
        "all but one": np.arange(N) != 77,
    }


# ---- without a filter ----------------------------------------------------------------------------


@each_kind
def test_nearly_all_of_the_exact_hits_are_found(engines, kind):
    _, rows = engines[kind].search(QUERIES, 10)
    slow, _ = slow_search(VECTORS, QUERIES, 10)
    assert share_found(rows, slow) >= (1.0 if kind == "flat" else 0.97)


@each_kind
def test_looking_everywhere_is_exact(engines, kind):
    settings_ = Settings(breadth=N, n_rerank=N)
    scores, rows = engines[kind].search(QUERIES, 25, settings=settings_)
    exact_scores, exact_rows = exact_search(VECTORS, QUERIES, 25)
    if kind == "hnsw_sq8":  # a graph need not reach every row
        assert share_found(rows, exact_rows) > 0.999
    else:
        np.testing.assert_array_equal(rows, exact_rows)
        np.testing.assert_array_equal(scores, exact_scores)


@each_kind
def test_a_row_has_the_same_score_in_every_batch_filter_and_index(engines, kind):
    whole = list(zip(*engines["flat"].search(QUERIES, N), strict=True))
    engine = engines[kind]
    for batch in (QUERIES[:1], QUERIES[:3], QUERIES):
        for mask in (None, *masks().values()):
            allowed = None if mask is None else engine.prepare(mask)
            scores, rows = engine.search(batch, 12, allowed=allowed)
            for i in range(len(batch)):
                all_scores, all_rows = whole[i]
                where = {row: at for at, row in enumerate(all_rows)}
                wanted = all_scores[[where[row] for row in rows[i]]]
                np.testing.assert_array_equal(scores[i], wanted)


@each_kind
def test_hits_do_not_depend_on_the_batch(engines, kind):
    scores, rows = engines[kind].search(QUERIES, 10)
    for i, query in enumerate(QUERIES):
        alone = engines[kind].search(query[None], 10)
        np.testing.assert_array_equal(alone[0][0], scores[i])
        np.testing.assert_array_equal(alone[1][0], rows[i])


def test_large_batches_are_cut_and_joined(engines, monkeypatch):
    whole = engines["ivf_sq8"].search(QUERIES, 10)
    monkeypatch.setattr("stamp_index.index.engine.search._QUERIES", 7)
    for cut, uncut in zip(engines["ivf_sq8"].search(QUERIES, 10), whole, strict=True):
        np.testing.assert_array_equal(cut, uncut)


@each_kind
@pytest.mark.parametrize("k", [1, 10, 500, N, N + 50])
def test_there_are_k_hits_without_repeats_in_order(engines, kind, k):
    scores, rows = engines[kind].search(QUERIES[:5], k)
    assert scores.shape == rows.shape == (5, min(k, N))
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64
    for near, found in zip(scores, rows, strict=True):
        assert len(set(found.tolist())) == len(found)
        assert found.min() >= 0
        order = np.lexsort((found, -near))
        np.testing.assert_array_equal(order, np.arange(len(found)))


@each_kind
def test_equal_scores_come_by_ascending_position(tmp_path, kind):
    vectors = VECTORS.copy()
    twins = np.sort(np.random.default_rng(1).choice(N, 30, replace=False))
    vectors[twins] = QUERIES[0].astype(np.float16)
    engine = Engine(None, vectors) if kind == "flat" else engine_of(kind, tmp_path, vectors)
    for k in (5, 29, 30, 40):
        scores, rows = engine.search(QUERIES[:2], k)
        np.testing.assert_array_equal(rows[0, :30], twins[:k])
        assert len(set(scores[0, : min(k, 30)])) == 1


def test_settings_of_a_call_leave_the_index_as_it_is(engines):
    for kind in ("ivf_pq", "ivf_rabitq", "ivf_sq8"):
        lists = inner_lists(engines[kind].source.index)
        before = lists.nprobe
        _, narrow = engines[kind].search(QUERIES, 10, settings=Settings(1, 40))
        _, wide = engines[kind].search(QUERIES, 10, settings=Settings(64, 400))
        exact, _ = slow_search(VECTORS, QUERIES, 10)
        assert share_found(narrow, exact) < share_found(wide, exact)
        assert lists.nprobe == before


@each_kind
def test_threads_get_what_one_thread_gets(engines, kind):
    engine = engines[kind]
    prepared = {name: engine.prepare(mask) for name, mask in masks().items()}
    jobs = [
        (QUERIES[i : i + 3], Settings(4 + i, 50 + i), prepared[name])
        for i in range(20)
        for name in prepared
    ]

    def work(job):
        queries, chosen, allowed = job
        return engine.search(queries, 9, settings=chosen, allowed=allowed)

    alone = [work(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(work, jobs), strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


# ---- filters -------------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("name", masks())
def test_a_filter_gives_its_k_nearest(engines, kind, name, through_candidates):
    mask = masks()[name]
    engine = engines[kind]
    allowed = engine.prepare(mask)
    assert allowed.n == mask.sum()
    scores, rows = engine.search(QUERIES, 10, allowed=allowed)
    slow, _ = slow_search(VECTORS, QUERIES, 10, mask)
    assert rows.shape == (60, min(10, mask.sum()))
    assert mask[rows].all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert share_found(rows, slow) >= (1.0 if kind == "flat" else 0.95)


@each_kind
def test_cheap_filters_are_searched_exactly(engines, kind):
    for name in ("few", "seven", "one"):
        mask = masks()[name]
        found = engines[kind].search(QUERIES, 10, allowed=engines[kind].prepare(mask))
        wanted = exact_search(VECTORS, QUERIES, 10, allowed=mask)
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1])


@each_kind
def test_a_filter_of_nothing_finds_nothing_and_of_all_everything(engines, kind):
    engine = engines[kind]
    nothing = engine.prepare(np.zeros(N, bool))
    assert engine.search(QUERIES, 10, allowed=nothing)[1].shape == (60, 0)
    everything = engine.prepare(np.ones(N, bool))
    for one, other in zip(
        engine.search(QUERIES, 10, allowed=everything), engine.search(QUERIES, 10), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.0005, 0.01, 0.1, 0.5, 0.95]),
    runs=st.booleans(),
    k=st.sampled_from([1, 3, 10, 70]),
    breadth=st.sampled_from([1, 4, 64]),
    exact_too=st.booleans(),
)
def test_never_fewer_than_k_where_k_are_allowed(
    engines, kind, seed, share, runs, k, breadth, exact_too
):
    rng = np.random.default_rng(seed)
    mask = np.repeat(rng.random(N // 300) < share, 300) if runs else rng.random(N) < share
    engine = engines[kind]
    allowed, chosen = engine.prepare(mask), Settings(breadth, 40)
    queries = QUERIES[rng.integers(0, 60, 4)]
    cheaper = Engine._exact_is_cheaper
    try:
        if not exact_too:
            Engine._exact_is_cheaper = lambda *args: False
        scores, rows = engine.search(queries, k, settings=chosen, allowed=allowed)
    finally:
        Engine._exact_is_cheaper = cheaper
    assert rows.shape == scores.shape == (4, min(k, mask.sum()))
    assert mask[rows].all()
    assert all(len(set(found.tolist())) == len(found) for found in rows)


def test_prepared_filters_lie_in_stretches_or_are_copied():
    engine = Engine(None, VECTORS)
    prepared = {name: engine.prepare(mask) for name, mask in masks().items()}
    assert prepared["stretches"].stretches == [(100, 1_100), (4_000, 4_700)]
    assert prepared["all but one"].stretches == [(0, 77), (78, N)]
    assert prepared["other clusters"].stretches == [(N // 2, N)]
    assert prepared["tenth"].stretches is None
    np.testing.assert_array_equal(prepared["tenth"].copy, VECTORS[masks()["tenth"]])
    for name, mask in masks().items():
        np.testing.assert_array_equal(prepared[name].holds(np.arange(N)), mask)
        pieces = prepared[name].all_pieces()
        rows = [np.arange(*p) if isinstance(p, tuple) else p for p in pieces]
        np.testing.assert_array_equal(np.concatenate(rows), np.flatnonzero(mask))


def test_scattered_filters_of_many_rows_are_neither_listed_nor_copied(monkeypatch):
    monkeypatch.setattr("stamp_index.index.engine.allowed._POSITIONS", 1_000)
    monkeypatch.setattr("stamp_index.index.engine.allowed._COPY_BYTES", 500 * 2 * DIM)
    engine = Engine(None, VECTORS)
    half, tenth = (engine.prepare(masks()[name]) for name in ("half", "tenth"))
    assert (half.positions, half.copy, half.pieces) == (None, None, None)
    assert tenth.copy is None
    for mask, allowed in ((masks()["half"], half), (masks()["tenth"], tenth)):
        _, rows = engine.search(QUERIES, 10, allowed=allowed)
        np.testing.assert_array_equal(rows, exact_search(VECTORS, QUERIES, 10, allowed=mask)[1])


def test_lists_know_where_every_row_is(engines):
    for kind in ("ivf_pq", "ivf_rabitq", "ivf_sq8"):
        source = engines[kind].source
        mask = source.list_of == 3
        allowed = engines[kind].prepare(mask)
        assert 0 < allowed.n < N
        assert allowed.n_lists == 1
        assert mask[engines[kind].search(QUERIES, 5, allowed=allowed)[1]].all()


# ---- refusals and edges --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queries", "k", "said"),
    [
        (QUERIES[:, :5], 10, r"shape \(60, 5\); expected \(q, 32\)"),
        (QUERIES[0], 10, r"shape \(32,\)"),
        (QUERIES.astype(int), 10, "dtype int64"),
        (QUERIES * np.nan, 10, "60 of 60 queries hold NaN"),
        (QUERIES * 0, 10, "Query 0 is all zeros"),
        (QUERIES, 0, "k is 0"),
        (QUERIES, True, "k is True"),
    ],
)
def test_bad_queries_are_refused(engines, queries, k, said):
    for engine in engines.values():
        with pytest.raises(ValueError, match=said):
            engine.search(queries, k)


@pytest.mark.parametrize("values", [(0, 10), (10, 0), (1.5, 10), (True, 10)])
def test_bad_settings_are_refused(values):
    with pytest.raises(ValueError, match="expected a whole number of 1 or more"):
        Settings(*values)


def test_bad_filters_are_refused(engines):
    for engine in engines.values():
        with pytest.raises(ValueError, match=r"int64 of shape \(6000,\)"):
            engine.prepare(np.ones(N, int))
        with pytest.raises(
            ValueError, match=r"bool of shape \(5,\); expected bool of shape \(6000"
        ):
            engine.prepare(np.ones(5, bool))


def test_an_index_of_other_vectors_is_refused(engines):
    index = engines["ivf_sq8"].source.index
    with pytest.raises(AnnIndexError, match=r"6000 vectors of 32 dimensions; .* \(5999, 32\)"):
        Engine(index, VECTORS[1:])


def test_an_empty_array_is_searched(engines):
    empty = Engine(None, VECTORS[:0])
    assert empty.search(QUERIES, 3)[1].shape == (60, 0)
    assert engines["ivf_pq"].search(QUERIES[:0], 3)[1].shape == (0, 3)


def test_vectors_may_be_a_read_only_map(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    engine = engine_of("ivf_sq8", tmp_path, mapped)
    assert share_found(engine.search(QUERIES, 10)[1], slow_search(VECTORS, QUERIES, 10)[0]) > 0.95
