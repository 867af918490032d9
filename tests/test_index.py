"""Indexes over small stores: exactness, filters, added rows, refusals, saving."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError, EncoderMismatchError
from stamp_index.index import (
    Index,
    IndexCard,
    IndexRecipe,
    ann_recall_at_k,
    exact_search,
    index_folder,
)
from stamp_index.store import SlideRows, Store
from tests.support import _plain_slide, random_store, toy_slide, toy_slides, toy_store

DIM = 16
SMALL_IVF = IndexRecipe(
    name="small", kind="ivf_pq", n_queries=100, opq_iterations=2, exact_below=50, target_recall=0.9
)


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


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rows = clustered(3_000)
    return random_store(tmp_path_factory.mktemp("index"), rows, clustered(3_000, 1), n_slides=4)


@pytest.fixture(scope="module")
def flat(store):
    return Index.build(store, "image")


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


def test_an_empty_store_gives_an_empty_index(tmp_path):
    store = toy_store(tmp_path, slides=[])
    index = Index.build(store, "gene")
    loaded = Index.load(index.save(index_folder(store, "gene")), store)
    assert loaded.search(np.ones((2, 32), np.float32), 5)[1].shape == (2, 0)


# ---- inverted lists ------------------------------------------------------------------------------


def test_ivf_scores_are_exact_and_its_card_is_honest(store, ivf):
    scores, rows = ivf.search(QUERIES, 10)
    exact_scores, exact_rows = exact_search(store.vectors("image"), QUERIES, 10)
    assert ann_recall_at_k(rows, exact_rows) > 0.9
    same = rows == exact_rows
    np.testing.assert_array_equal(scores[same], exact_scores[same])
    card = ivf.card
    assert card.recipe["kind"] == "ivf_pq"
    assert card.reached == (min(card.ann_recall_at_10.values()) >= 0.9)
    assert set(card.ann_recall_at_10) == {"image", "gene"}
    assert (card.n, card.dim, card.store_id) == (3_000, DIM, store.store_id)


def test_all_rows_can_be_asked_for(ivf):
    _, rows = ivf.search(QUERIES[:2], 3_000, nprobe=1)
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
    _, rows = ivf.search(QUERIES, 40, allowed=allowed, nprobe=1, n_rerank=1)
    assert rows.shape == (40, 40)
    assert allowed[rows].all()
    assert all(len(set(row)) == 40 for row in rows)


def test_a_filter_that_allows_nothing_finds_nothing(flat, ivf):
    for index in (flat, ivf):
        assert index.search(QUERIES, 5, allowed=np.zeros(3_000, bool))[1].shape == (40, 0)


def test_threads_with_different_nprobe_do_not_disturb_each_other(ivf):
    settings = [1, 2, 4, 8] * 4
    alone = {nprobe: ivf.search(QUERIES, 10, nprobe=nprobe)[1] for nprobe in set(settings)}
    assert not np.array_equal(alone[1], alone[8])
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda nprobe: ivf.search(QUERIES, 10, nprobe=nprobe)[1], settings)
        for nprobe, rows in zip(settings, together, strict=True):
            np.testing.assert_array_equal(rows, alone[nprobe])


def test_building_twice_gives_the_same_index(store, ivf):
    again = Index.build(store, "image", SMALL_IVF)
    np.testing.assert_array_equal(again.search(QUERIES, 20)[1], ivf.search(QUERIES, 20)[1])
    assert replace(again.card, build_seconds=0) == replace(ivf.card, build_seconds=0)


def test_too_few_rows_to_train_give_a_flat_index(tmp_path):
    store = toy_store(tmp_path)
    index = Index.build(store, "gene", SMALL_IVF)
    assert index.card.recipe["kind"] == "flat"
    loaded = Index.load(index.save(tmp_path / "index"), store)
    assert loaded.search(np.ones((1, 32), np.float32), 3)[1].shape == (1, 3)


# ---- rows added since ----------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [None, SMALL_IVF])
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
    if recipe is None:
        slow = slow_search(store.vectors("image"), QUERIES, 5)[1]
        np.testing.assert_array_equal(rows, slow)
    allowed = np.ones(1_240, bool)
    allowed[1_200:1_220] = False
    _, rows = index.search(QUERIES, 5, allowed=allowed)
    assert allowed[rows].all()
    np.testing.assert_array_equal(rows[20:, 0], 1_220 + np.arange(20))
    only_old = Store.open(store.path, version=store.version - 1)
    older = Index.load(Index.build(store, "image", recipe).save(tmp_path / "new"), only_old)
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
    with pytest.raises(ValueError, match="nprobe is 0"):
        flat.search(QUERIES, 3, nprobe=0)
    with pytest.raises(ValueError, match=r"shape \(7,\); expected bool of shape \(3000,\)"):
        flat.search(QUERIES, 3, allowed=np.ones(7, bool))
    with pytest.raises(ValueError, match="The filter is int64"):
        flat.search(QUERIES, 3, allowed=np.ones(3_000, np.int64))
    with pytest.raises(ValueError, match="no modality 'text'; expected image or gene"):
        Index.build(store, "text")


# ---- saving and loading --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_a_loaded_index_answers_as_before(store, tmp_path, kind, request):
    index = request.getfixturevalue(kind)
    folder = index.save(tmp_path / "deep" / "image")
    assert index.save(folder) == folder  # replaces
    loaded = Index.load(folder, store)
    assert loaded.card == index.card
    for old, new in zip(index.search(QUERIES, 9), loaded.search(QUERIES, 9), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["image"]
    on_disk = sum(path.stat().st_size for path in folder.iterdir() if path.name != "card.json")
    assert abs(on_disk - index.card.bytes) < 1_000


def test_the_folder_lies_in_the_store(store):
    assert index_folder(store, "gene") == store.path / "indexes" / "gene_vec"


def test_an_index_of_another_store_is_refused(tmp_path, flat):
    other = toy_store(tmp_path, slides=toy_slides(1))
    folder = flat.save(tmp_path / "index")
    with pytest.raises(AnnIndexError, match=f"{flat.card.store_id}.*{other.store_id}"):
        Index.load(folder, other)


def edit_card(folder, **values):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **values}))


def test_an_index_of_another_encoder_is_refused(tmp_path, store, flat):
    folder = flat.save(tmp_path / "index")
    edit_card(folder, fingerprint="abcd")
    with pytest.raises(EncoderMismatchError, match="encoder abcd; the store's is 0f0f"):
        Index.load(folder, store)


def test_an_index_of_a_newer_release_is_refused(tmp_path, store, flat):
    folder = flat.save(tmp_path / "index")
    edit_card(folder, format=7)
    with pytest.raises(AnnIndexError, match="format 7; this release reads up to 1"):
        Index.load(folder, store)


@pytest.mark.parametrize("name", ["vectors.npy", "rows.npy", "index.faiss"])
def test_damaged_cut_and_missing_files_are_refused(tmp_path, store, ivf, name):
    path = ivf.save(tmp_path / "index") / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(AnnIndexError, match=f"{name} is damaged: its checksum"):
        Index.load(path.parent, store)
    path.write_bytes(content[:-5])
    with pytest.raises(
        AnnIndexError, match=f"{name} has {len(content) - 5} bytes; .*{len(content)}"
    ):
        Index.load(path.parent, store)
    path.unlink()
    with pytest.raises(AnnIndexError, match=f"lacks {name}"):
        Index.load(path.parent, store)


def test_missing_and_damaged_cards_are_refused(tmp_path, store, flat):
    with pytest.raises(AnnIndexError, match=r"no index at .*nowhere \(no card.json\)"):
        Index.load(tmp_path / "nowhere", store)
    folder = flat.save(tmp_path / "index")
    edit_card(folder, files={})
    with pytest.raises(AnnIndexError, match="does not list its files"):
        Index.load(folder, store)
    (folder / "card.json").write_text("[]")
    with pytest.raises(AnnIndexError, match="not a JSON object"):
        Index.load(folder, store)
    (folder / "card.json").write_text("{")
    with pytest.raises(AnnIndexError, match="is damaged"):
        Index.load(folder, store)
    with pytest.raises(AnnIndexError, match="lacks recipe, store_id"):
        IndexCard.from_dict({"format": 1})


def test_saving_never_replaces_what_is_not_an_index(tmp_path, flat):
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(AnnIndexError, match="no index at"):
        flat.save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "ten years"
