"""Indexes over small stores: exactness, filters, added rows, refusals, saving."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError
from stamp_index.index import (
    Index,
    Settings,
    ann_recall_at_k,
    exact_search,
    index_folder,
)
from stamp_index.index.recipes import FlatRecipe, HnswSq8Recipe, IvfPqRecipe, IvfRabitqRecipe
from stamp_index.store import SlideRows, Store
from tests.support import _plain_slide, random_store, toy_slide, toy_store

DIM = 16
SMALL_IVF = IvfPqRecipe(name="small", n_queries=100, opq_rounds=1, nlist=32, target_recall=0.9)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(n, seed=0, dim=DIM):
    """Rows around 20 centres, in runs: row i belongs to cluster i * 20 // n."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, dim))
    return unit(centres[np.arange(n) * 20 // n] + 0.5 * rng.normal(size=(n, dim)))


def slow_search(vectors, queries, k, allowed=None):
    """One row at a time, in double precision."""
    scores = queries.astype(np.float64) @ np.asarray(vectors, np.float64).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    k = k if allowed is None else min(k, allowed.sum())
    return np.take_along_axis(scores, order, 1)[:, :k], order[:, :k]


def made_store(folder):
    return random_store(folder, clustered(3_000), clustered(3_000, 1), n_slides=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return made_store(tmp_path_factory.mktemp("ivf"))


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return Index.build(made_store(tmp_path_factory.mktemp("flat")), "image")


@pytest.fixture(scope="module")
def ivf(store):
    return Index.build(store, "image", SMALL_IVF)


QUERIES = clustered(40, seed=5)


# ---- exact search --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exact_search_equals_slow_search_over_several_chunks(dtype, monkeypatch):
    monkeypatch.setattr("stamp_index.index.exact._ROWS", 100)
    monkeypatch.setattr("stamp_index.index.exact._QUERIES", 7)
    vectors = clustered(1_030).astype(dtype)
    allowed = np.random.default_rng(0).random(1_030) < 0.3
    for mask in (None, allowed):
        scores, rows = exact_search(vectors, QUERIES, 25, allowed=mask)
        slow_scores, slow_rows = slow_search(vectors, QUERIES, 25, mask)
        np.testing.assert_array_equal(rows, slow_rows)
        np.testing.assert_allclose(scores, slow_scores, atol=1e-6)
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64


def test_equal_scores_come_by_ascending_row_wherever_they_lie(monkeypatch):
    monkeypatch.setattr("stamp_index.index.exact._ROWS", 64)
    vectors = clustered(500)
    twins = np.array([3, 70, 71, 200, 320, 499])
    vectors[twins] = QUERIES[0]
    scores, rows = exact_search(vectors, QUERIES[:3], 5)
    np.testing.assert_array_equal(rows[0], twins[:5])
    assert len(set(scores[0])) == 1


def test_exact_search_returns_what_there_is():
    vectors = clustered(30)
    assert exact_search(vectors, QUERIES, 50)[1].shape == (40, 30)
    allowed = np.arange(30) < 4
    assert exact_search(vectors, QUERIES, 50, allowed=allowed)[1].shape == (40, 4)
    assert exact_search(vectors, QUERIES, 5, allowed=np.zeros(30, bool))[1].shape == (40, 0)


def test_recall_counts_the_share_of_the_exact_hits():
    found = np.array([[1, 2, 3, -1], [7, 8, 9, 1]])
    exact = np.array([[1, 2, 4, 5], [9, 8, 7, 1]])
    assert ann_recall_at_k(found, exact, 4) == (2 + 4) / 8
    assert ann_recall_at_k(found, exact, 1) == 0.5
    with pytest.raises(ValueError, match=r"\(2, 4\) and \(1, 4\)"):
        ann_recall_at_k(found, exact[:1])


# ---- flat ----------------------------------------------------------------------------------------


def test_flat_hits_are_those_of_exact_numpy(store, flat):
    scores, rows = flat.search(QUERIES, 12)
    slow_scores, slow_rows = slow_search(store.vectors("image"), QUERIES, 12)
    np.testing.assert_array_equal(rows, slow_rows)
    np.testing.assert_allclose(scores, slow_scores, atol=1e-6)
    assert flat.card.ann_recall_at_10 == {"image": 1.0, "gene": 1.0}
    assert flat.card.reached


def test_queries_are_scaled_to_unit_length(flat):
    scores, rows = flat.search(QUERIES, 5)
    scaled_scores, scaled_rows = flat.search(QUERIES * 7, 5)
    np.testing.assert_array_equal(rows, scaled_rows)
    np.testing.assert_allclose(scores, scaled_scores, atol=1e-6)


def test_rows_without_an_image_are_never_found(tmp_path):
    slides = [toy_slide("S1", seed=1), toy_slide("S2", seed=2, image=False), toy_slide("S3")]
    store = toy_store(tmp_path, slides=slides)
    index = Index.build(store, "image")
    queries = store.vectors("gene")[:3].astype(np.float32)
    _, rows = index.search(queries, 500)
    assert sorted(rows[0]) == [*range(40), *range(80, 120)]
    assert (index.card.n, index.card.n_rows) == (80, 120)
    allowed = np.arange(120) >= 35
    _, rows = index.search(queries, 500, allowed=allowed)
    assert sorted(rows[0]) == [*range(35, 40), *range(80, 120)]


def test_a_store_without_vectors_has_nothing_to_index(tmp_path):
    store = toy_store(tmp_path, slides=[])
    with pytest.raises(AnnIndexError, match="has no gene embeddings of encoder"):
        Index.build(store, "gene")
    assert not index_folder(store, "gene").exists()


# ---- inverted lists ------------------------------------------------------------------------------


def test_ivf_scores_are_exact_and_its_card_is_honest(store, ivf):
    scores, rows = ivf.search(QUERIES, 10)
    exact_scores, exact_rows = exact_search(store.vectors("image"), QUERIES, 10)
    assert ann_recall_at_k(rows, exact_rows) > 0.9
    same = rows == exact_rows
    np.testing.assert_array_equal(scores[same], exact_scores[same])
    card = ivf.card
    assert (card.recipe["kind"], card.kind) == ("ivf_pq", "ivf_pq")
    choice = next(one for one in card.calibration["choices"] if one["target"] == 0.9)
    assert card.ann_recall_at_10 == choice["recall"]
    assert card.reached == all(
        choice["recall"][s] + choice["error"][s] >= 0.9 for s in choice["recall"]
    )
    assert [one["target"] for one in card.calibration["choices"]] == [0.9, 0.95, 0.99]
    assert set(card.ann_recall_at_10) == {"image", "gene"}
    assert (card.n, card.dim, card.store_id) == (3_000, DIM, store.store_id)


def test_all_rows_can_be_asked_for(ivf):
    _, rows = ivf.search(QUERIES[:2], 3_000, settings=Settings(1, 1))
    np.testing.assert_array_equal(np.sort(rows[0]), np.arange(3_000))
    assert ivf.search(QUERIES[:2], 9_999)[1].shape == (2, 3_000)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02, 0.01])
@pytest.mark.parametrize("follows_clusters", [True, False])
def test_filter_inside_the_search_equals_the_slow_filter(store, flat, ivf, share, follows_clusters):
    at = np.arange(3_000) / 3_000 if follows_clusters else np.random.default_rng(1).random(3_000)
    allowed = (at >= 0.4) & (at < 0.4 + share)
    slow = slow_search(store.vectors("image"), QUERIES, 10, allowed)[1]
    np.testing.assert_array_equal(flat.search(QUERIES, 10, allowed=allowed)[1], slow)
    rows = ivf.search(QUERIES, 10, allowed=allowed)[1]
    assert rows.shape == slow.shape
    assert allowed[rows].all()
    assert ann_recall_at_k(rows, slow) >= SMALL_IVF.target_recall


def test_filter_by_slide_fills_the_answer_with_one_probe(store, ivf):
    allowed = (store.spots(["slide_id"])["slide_id"] == "S3").to_numpy()
    _, rows = ivf.search(QUERIES, 40, allowed=allowed, settings=Settings(1, 1))
    assert rows.shape == (40, 40)
    assert allowed[rows].all()
    assert all(len(set(row)) == 40 for row in rows)


def test_a_filter_that_allows_nothing_finds_nothing(flat, ivf):
    for index in (flat, ivf):
        assert index.search(QUERIES, 5, allowed=np.zeros(3_000, bool))[1].shape == (40, 0)


def test_a_prepared_filter_answers_as_the_filter_and_can_be_used_again(flat, ivf):
    allowed = np.random.default_rng(3).random(3_000) < 0.3
    for index in (flat, ivf):
        ready = index.prepare(allowed)
        for _ in range(2):
            for one, other in zip(
                index.search(QUERIES, 8, allowed=ready),
                index.search(QUERIES, 8, allowed=allowed),
                strict=True,
            ):
                np.testing.assert_array_equal(one, other)


def test_exact_search_can_be_asked_of_any_index(store, ivf):
    allowed = np.random.default_rng(3).random(3_000) < 0.3
    for mask in (None, allowed):
        exact = ivf.search(QUERIES, 15, allowed=mask, recall=1)[1]
        np.testing.assert_array_equal(
            exact, slow_search(store.vectors("image"), QUERIES, 15, mask)[1]
        )


def test_settings_are_those_that_were_measured_for_a_recall(flat, ivf):
    choices = {one["target"]: one for one in ivf.card.calibration["choices"]}
    for asked, target in ((0.5, 0.9), (0.9, 0.9), (0.93, 0.95), (0.99, 0.99)):
        chosen = choices[target]
        assert ivf.settings_for(asked) == Settings(chosen["breadth"], chosen["n_rerank"])
    with pytest.raises(ValueError, match="recall of 0.999; it was measured for 0.9, 0.95, 0.99"):
        ivf.settings_for(0.999)


def test_threads_with_different_settings_do_not_disturb_each_other(ivf):
    settings = [Settings(breadth, 10) for breadth in [1, 2, 4, 8] * 4]
    alone = {one: ivf.search(QUERIES, 10, settings=one)[1] for one in set(settings)}
    assert not np.array_equal(alone[settings[0]], alone[settings[3]])
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda one: ivf.search(QUERIES, 10, settings=one)[1], settings)
        for one, rows in zip(settings, together, strict=True):
            np.testing.assert_array_equal(rows, alone[one])


def test_building_twice_gives_the_same_index(store, ivf):
    before = ivf.search(QUERIES, 20)[1]
    again = Index.build(store, "image", SMALL_IVF)
    np.testing.assert_array_equal(again.search(QUERIES, 20)[1], before)
    same = ("kind", "n", "dim", "bytes", "ann_recall_at_10")
    assert {name: getattr(again.card, name) for name in same} == {
        name: getattr(ivf.card, name) for name in same
    }


def test_too_few_rows_to_train_give_a_flat_index(tmp_path):
    index = Index.build(toy_store(tmp_path), "gene", SMALL_IVF)
    assert (index.card.recipe["kind"], index.card.kind) == ("ivf_pq", "flat")
    assert index.search(np.ones((1, 32), np.float32), 3)[1].shape == (1, 3)


def test_a_store_of_three_spots_can_be_indexed(tmp_path):
    store = random_store(tmp_path, clustered(3), clustered(3, 1), n_slides=1)
    index = Index.build(store, "image")
    assert index.card.ann_recall_at_10 == {}
    assert index.search(QUERIES[:1], 5)[1].shape == (1, 3)


# ---- rows added since ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [FlatRecipe(), SMALL_IVF, IvfRabitqRecipe(nlist=16), HnswSq8Recipe(links=8)],
    ids=lambda recipe: recipe.kind,
)
def test_rows_added_since_are_found_exactly(tmp_path, recipe):
    vectors = clustered(1_200)
    store = random_store(tmp_path, vectors, clustered(1_200, 1))
    index = Index.build(store, "image", recipe)
    slide = _plain_slide("S3", 40, 7, 2)
    store.add(SlideRows(slide, QUERIES, QUERIES, None, None, store.card.fingerprint))
    assert index.n_newer == 40
    scores, rows = index.search(QUERIES, 5)
    np.testing.assert_array_equal(rows[:, 0], 1_200 + np.arange(40))
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-3)
    assert (np.diff(scores, axis=1) <= 0).all()
    if recipe.kind == "flat":
        slow = slow_search(store.vectors("image"), QUERIES, 5)[1]
        np.testing.assert_array_equal(rows, slow)
    allowed = np.ones(1_240, bool)
    allowed[1_200:1_220] = False
    _, rows = index.search(QUERIES, 5, allowed=allowed)
    assert allowed[rows].all()
    np.testing.assert_array_equal(rows[20:, 0], 1_220 + np.arange(20))
    only_old = Store.open(store.path, version=store.version - 1)
    Index.build(store, "image", recipe)
    older = Index.open(only_old, "image")
    assert older.search(QUERIES, 2_000)[1].shape == (40, 1_200)
    assert older.search(QUERIES, 2_000)[1].max() == 1_199


# ---- refusals of arguments -----------------------------------------------------------------------


def test_wrong_dimension_says_both_numbers(flat):
    with pytest.raises(ValueError, match=rf"\(2, 8\); expected \(q, {DIM}\)"):
        flat.search(np.ones((2, 8), np.float32), 3)
    with pytest.raises(ValueError, match=rf"\({DIM},\); expected \(q, {DIM}\)"):
        flat.search(np.ones(DIM, np.float32), 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_queries_that_are_not_finite_are_refused(flat, ivf, value):
    queries = QUERIES.copy()
    queries[3, 2] = value
    for index in (flat, ivf):
        with pytest.raises(ValueError, match=r"1 of 40 queries hold NaN .* \(first: 3\)"):
            index.search(queries, 3)


def test_other_bad_arguments_are_refused_with_their_values(flat, store):
    with pytest.raises(ValueError, match="dtype int64; expected float32"):
        flat.search(np.ones((1, DIM), np.int64), 3)
    with pytest.raises(ValueError, match="Query 1 is all zeros"):
        flat.search(np.eye(2, DIM, dtype=np.float32) * [[1], [0]], 3)
    with pytest.raises(ValueError, match="k is 0; expected"):
        flat.search(QUERIES, 0)
    with pytest.raises(ValueError, match="k is 2.5; expected"):
        flat.search(QUERIES, 2.5)
    with pytest.raises(ValueError, match="breadth is 0; expected a whole number of 1 or more"):
        Settings(0, 10)
    with pytest.raises(ValueError, match=r"shape \(7,\); expected bool of shape \(3000,\)"):
        flat.search(QUERIES, 3, allowed=np.ones(7, bool))
    with pytest.raises(ValueError, match="The filter is int64"):
        flat.search(QUERIES, 3, allowed=np.ones(3_000, np.int64))
    with pytest.raises(ValueError, match="no modality 'text'; expected image or gene"):
        Index.build(store, "text")
