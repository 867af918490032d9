"""What an index answers whatever became of it: ties by row id, recall on request, cosines of given rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stamp_index.index import Index, Settings, build_index, fold_index
from stamp_index.index.recipes import FlatRecipe, HnswSq8Recipe, IvfPqRecipe, IvfSq8Recipe
from stamp_index.store import SlideRows, Store
from tests.support import _plain_slide, random_store

DIM = 16
PQ = IvfPqRecipe(n_queries=100, opq_rounds=1, nlist=16, target_recall=0.8)
KINDS = [FlatRecipe(), IvfSq8Recipe(nlist=16), HnswSq8Recipe(links=8, target_recall=0.8)]
each_kind = pytest.mark.parametrize("recipe", KINDS, ids=lambda recipe: recipe.kind)


def unit(n, seed):
    rows = np.random.default_rng(seed).normal(size=(n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


QUERIES = unit(20, 99)


def rows_of(number, vectors, fingerprint):
    slide = _plain_slide(f"S{number + 1}", len(vectors), number, 2)
    return SlideRows(slide, vectors, vectors, None, None, fingerprint)


def slow_search(store, queries, k, mask=None):
    """Row ids of the best k, equal scores by ascending row: float16 products of equal rows are equal."""
    rows = store.rows()[store.has_vector("image")[store.rows()]]
    rows = rows if mask is None else rows[mask[rows]]
    scores = queries.astype(np.float64) @ store.vectors("image", rows).astype(np.float64).T
    return rows[np.argsort(-scores, axis=1, kind="stable")[:, :k]]


# ---- ties ----------------------------------------------------------------------------------------


def twins_of_older_rows(folder, recipe):
    """A store whose second encoder gave its first slide, twin of the last, vectors after the index was built."""
    vectors = [unit(200, 0), unit(300, 1), unit(300, 2), unit(200, 0)]
    store = random_store(folder, np.concatenate(vectors[:2]), np.concatenate(vectors[:2]))
    other = replace(store.card, name="other", fingerprint="0e0e")
    store.add_encoder(other)
    second = Store.open(store.path, encoder="other")
    fillings = {}
    for number, part in enumerate(vectors):
        first = _plain_slide(f"T{number}", len(part), 10 + number, 2)
        store.add(SlideRows(first, part, part, None, None, store.card.fingerprint))
        fillings[number] = SlideRows(first, part, part, None, None, "0e0e")
    second.refresh()
    for number in (1, 2, 3):
        second.fill(fillings[number])
    build_index(second, "image", recipe)
    second.fill(fillings[0])
    return second


@each_kind
def test_equal_scores_come_by_ascending_row_also_where_older_rows_were_folded_in(tmp_path, recipe):
    store = twins_of_older_rows(tmp_path, recipe)
    queries = np.concatenate([store.vectors("image", store.rows()[500:505]), QUERIES])
    queries = queries.astype(np.float32)
    masks = (None, np.random.default_rng(0).random(store.n_rows) < 0.9)
    thorough = Settings(10_000, 10_000)
    for _ in range(2):
        index = Index.open(store, "image")
        for k in (1, 3, 10, 5_000):
            for mask in masks:
                wanted = slow_search(store, queries, k, mask)
                found = index.search(queries, k, allowed=mask, recall=1)
                np.testing.assert_array_equal(found[1], wanted)
                near = index.search(queries, k, allowed=mask, settings=thorough)
                np.testing.assert_array_equal(near[1], wanted)
                np.testing.assert_array_equal(near[0], found[0])
        fold_index(store, "image")  # the older rows then lie behind the younger
    assert index.n_newer == 0
    assert (np.diff(index._state.generation.rows) < 0).any()


def test_many_twins_of_the_last_hit_are_all_seen_where_rows_do_not_ascend(tmp_path):
    store = random_store(tmp_path, unit(300, 1), unit(300, 1), n_slides=1)
    store.add_encoder(replace(store.card, name="other", fingerprint="0e0e"))
    blank = np.repeat(unit(1, 5), 400, axis=0)
    slides = [_plain_slide(f"T{number}", 400, 10 + number, 2) for number in range(2)]
    for slide in slides:
        store.add(SlideRows(slide, blank, blank, None, None, store.card.fingerprint))
    second = Store.open(store.path, encoder="other")
    second.fill(SlideRows(slides[1], blank, blank, None, None, "0e0e"))
    build_index(second, "image", IvfSq8Recipe(nlist=2))
    second.fill(SlideRows(slides[0], blank, blank, None, None, "0e0e"))
    fold_index(second, "image")
    index = Index.open(second, "image")
    for k in (1, 5, 300):
        _, rows = index.search(np.concatenate([blank[:1], QUERIES]), k)
        np.testing.assert_array_equal(rows[0], np.arange(300, 300 + k))
        np.testing.assert_array_equal(rows[3], np.arange(300, 300 + k))


# ---- recall with the call ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A store with an index, newer rows and a deleted slide."""
    store = random_store(tmp_path_factory.mktemp("grown"), unit(900, 0), unit(900, 1), n_slides=3)
    build_index(store, "image", PQ)
    store.add(rows_of(7, unit(60, 5), store.card.fingerprint))
    store.delete("S2")
    return store


def test_recall_is_that_of_the_index_that_answers_whatever_was_put_in_place_since(
    grown, monkeypatch
):
    index = Index.open(Store.open(grown.path), "image")
    ready = index.prepare(np.arange(grown.n_rows) % 3 > 0)
    seen, engine = [], ready.generation.engine
    real = engine.search
    monkeypatch.setattr(
        engine, "search", lambda *args, **more: seen.append(more["settings"]) or real(*args, **more)
    )
    before = index.card
    wanted = {share: before.settings_for(share) for share in (0.8, 0.95)}
    build_index(grown, "image", IvfSq8Recipe(nlist=40, target_recall=0.99))
    index.refresh()
    assert index.card != before
    for share, settings in wanted.items():
        near = index.search(QUERIES, 5, allowed=ready, recall=share)
        assert seen.pop() == settings
        assert near[1].shape == (20, 5)
    exact = index.search(QUERIES, 5, allowed=ready, recall=1.0)
    np.testing.assert_array_equal(exact[1], slow_search(grown, QUERIES, 5, np.arange(960) % 3 > 0))
    build_index(grown, "image", PQ)


def test_any_recall_of_a_flat_index_is_exact(tmp_path):
    store = random_store(tmp_path, unit(300, 0), unit(300, 1))
    index = Index.build(store, "image", FlatRecipe())
    for recall in (0.1, 0.999, 1):
        np.testing.assert_array_equal(
            index.search(QUERIES, 5, recall=recall)[1], slow_search(store, QUERIES, 5)
        )


def test_wrong_recalls_are_refused_with_their_values(grown):
    index = Index.open(grown, "image")
    with pytest.raises(ValueError, match=r"Both Settings\(breadth=3, .* and a recall of 0.9 were"):
        index.search(QUERIES, 5, settings=Settings(3), recall=0.9)
    for wrong in (0, -1, 1.5, np.nan):
        with pytest.raises(ValueError, match=f"recall is {wrong!r}; expected a number above 0"):
            index.search(QUERIES, 5, recall=wrong)
    with pytest.raises(ValueError, match="no settings for a recall of 0.9999"):
        index.search(QUERIES, 5, recall=0.9999)


# ---- cosines -------------------------------------------------------------------------------------


def test_cosines_of_rows_are_the_scores_of_a_search_wherever_the_rows_lie(grown):
    index = Index.open(grown, "image")
    rows = np.random.default_rng(0).permutation(1_000)  # 40 of them were never given
    for query in QUERIES[:3]:
        cosines = index.cosines(rows, query)
        np.testing.assert_allclose(index.cosines(rows, 3 * query), cosines, atol=1e-6)
        assert cosines.dtype == np.float32
        has = np.zeros(1_000, bool)
        has[: grown.n_rows] = grown.has_vector("image")
        assert (cosines[~has[rows]] == -np.inf).all()
        there = rows[has[rows]]
        slow = grown.vectors("image", there).astype(np.float64) @ query.astype(np.float64)
        np.testing.assert_allclose(cosines[has[rows]], slow, atol=1e-6)
        scores, found = index.search(query[None], 5_000, recall=1)
        at = dict(zip(rows.tolist(), cosines, strict=True))
        np.testing.assert_array_equal(scores[0], [at[row] for row in found[0].tolist()])
    assert index.cosines([], QUERIES[0]).shape == (0,)
    assert index.cosines([5, 5], QUERIES[0]).shape == (2,)
    assert index.cosines([-1], QUERIES[0]).tolist() == [-np.inf]


def test_cosines_of_rows_that_were_folded_in_after_younger_ones(tmp_path):
    store = twins_of_older_rows(tmp_path, FlatRecipe())
    fold_index(store, "image")
    index, rows = Index.open(store, "image"), store.rows()
    assert index._state.generation.order is not None
    cosines = index.cosines(rows, QUERIES[0])
    scores, found = index.search(QUERIES[:1], 5_000, recall=1)
    np.testing.assert_array_equal(cosines[np.searchsorted(rows, found[0])], scores[0])
    assert (cosines > -np.inf).sum() == found.shape[1] == 1_000


def test_wrong_rows_and_queries_are_refused(grown):
    index = Index.open(grown, "image")
    for rows in ([1.5], [[1, 2]], np.ones(3, bool)):
        with pytest.raises(
            ValueError, match=r"Rows are .*; expected whole numbers of shape \(m,\)"
        ):
            index.cosines(rows, QUERIES[0])
    with pytest.raises(ValueError, match="expected"):
        index.cosines([1], QUERIES[0, :5])
    with pytest.raises(ValueError, match="NaN"):
        index.cosines([1], QUERIES[0] * np.nan)


def test_a_search_of_another_thread_does_not_take_back_a_refresh(grown, monkeypatch):
    index = Index.open(Store.open(grown.path), "image")
    compare, meanwhile = Index._compare, []

    def slow(self, generation, before):
        made = compare(self, generation, before)
        if not meanwhile:
            meanwhile.append(build_index(grown, "image", FlatRecipe()))
            self.refresh()
        return made

    grown.add(rows_of(9, unit(5, 6), grown.card.fingerprint))
    index.store.refresh()
    monkeypatch.setattr(Index, "_compare", slow)
    assert index.search(QUERIES, 5)[1].shape == (20, 5)
    assert index.card.kind == "flat"
    assert index.n_newer == 0
    build_index(grown, "image", PQ)
