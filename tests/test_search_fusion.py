"""Image and gene embeddings searched together, against the weighted sum over all rows."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.errors import QueryError
from stamp_index.index import Index
from stamp_index.index.recipes import FlatRecipe
from stamp_index.search import Searcher, fusion
from stamp_index.search.sources import Sources
from tests.search_world import (
    DIM,
    assert_same_hits,
    clustered,
    cosines,
    opened,
    unit,
    vector_store,
)
from tests.support import ToyEncoder, random_store, toy_slide, toy_store

QUERIES = np.concatenate([clustered(5, 7), unit(np.random.default_rng(3).normal(size=(3, DIM)))])
FLAT = FlatRecipe()
WEIGHTS = [{"image": 0.5, "gene": 0.5}, {"gene": 3, "image": 1}, {"image": 1e-3, "gene": 1.0}]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return vector_store(tmp_path_factory.mktemp("fusion"))


@pytest.fixture(scope="module", params=["memory", "flat", "one of two"])
def searcher(request, store):
    names = {"memory": (), "flat": ("image", "gene"), "one of two": ("gene",)}[request.param]
    return opened(store, {name: Index.build(store, name, FLAT) for name in names})


def fused(store, queries, weights):
    """Weighted mean of the two cosines, (q, n_rows)."""
    total = sum(weights.values())
    return sum(w / total * cosines(store, m, queries) for m, w in weights.items())


def best(truth, k):
    return np.argsort(-truth, kind="stable")[:k]


@pytest.fixture(params=[2_048, 1], ids=["few rows", "many rows"])
def most(request, monkeypatch):
    """So that exact search takes these few rows for many."""
    monkeypatch.setattr(fusion, "MOST", request.param)


@pytest.mark.usefixtures("most")
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("recall", [0.99, 1.0])
def test_hits_are_those_of_the_weighted_sum(searcher, store, weights, recall):
    scores, rows = searcher.nearest(QUERIES, against=weights, k=20, recall=recall)
    truth = fused(store, QUERIES, weights)
    for query in range(len(QUERIES)):
        assert_same_hits(scores[query], rows[query], truth[query], best(truth[query], 20))


@pytest.fixture(scope="module")
def opposed(tmp_path_factory):
    """What is near a query by its image is far by its genes: the best rows are in the middle of both lists."""
    n = 6_000
    angle = np.linspace(0, np.pi / 2, n)
    image = np.zeros((n, DIM), np.float32)
    image[:, 0], image[:, 1] = np.cos(angle), np.sin(angle)
    store = random_store(tmp_path_factory.mktemp("opposed"), image, image[::-1].copy())
    return opened(store, {name: Index.build(store, name, FLAT) for name in ("image", "gene")})


@pytest.mark.parametrize("k", [1, 50, 256, 300, 1_000])
@pytest.mark.parametrize("share", [16, 10**9], ids=["lists of 2,048", "short lists"])
def test_hits_are_those_of_the_weighted_sum_where_the_embeddings_disagree(
    opposed, k, share, monkeypatch
):
    if share > 16:
        monkeypatch.setattr(fusion, "MOST", 1)
        monkeypatch.setattr(fusion, "FIRST", 1)
        monkeypatch.setattr(fusion, "_SHARE", share)
    query = np.eye(DIM, dtype=np.float32)[:1]
    weights = {"image": 0.5, "gene": 0.5}
    hits = opposed.search_vector(query[0], against=weights, k=k)
    truth = fused(opposed.store, query, weights)[0]
    assert_same_hits(hits.scores, hits.rows, truth, best(truth, k))
    assert (fusion.SEARCHED_EXACTLY in hits.notes) == (k < 1_000 or share > 16)


def test_note_that_all_rows_were_compared_comes_only_where_that_was_not_asked_for(opposed, store):
    query = np.eye(DIM, dtype=np.float32)[0]
    both = {"image": 1, "gene": 1}
    assert opposed.search_vector(query, against=both, k=9, recall=1.0).notes == ()
    indexes = {name: Index.build(store, name, FLAT) for name in ("image", "gene")}
    assert opened(store, indexes).search_vector(QUERIES[0], against=both, k=5).notes == ()
    spread = opposed.search_vector(query, against=both, k=2, one_per=1.0)
    assert fusion.SEARCHED_EXACTLY in spread.notes


def test_lists_grow_until_nothing_unseen_can_be_better(store, monkeypatch):
    """Short lists alone would miss rows that are good in both and best in neither."""
    indexes = {name: Index.build(store, name, FLAT) for name in ("image", "gene")}
    weights = {"image": 0.5, "gene": 0.5}
    truth = fused(store, QUERIES, weights)
    wanted = np.stack([best(row, 5) for row in truth])
    monkeypatch.setattr(fusion, "FIRST", 1)
    monkeypatch.setattr(fusion.Fusion, "_exactly", None)  # the lists are enough
    _, rows = opened(store, indexes).nearest(QUERIES, against=weights, k=5)
    np.testing.assert_array_equal(rows, wanted)


@pytest.mark.usefixtures("most")
@pytest.mark.parametrize("indexed", [(), ("image", "gene"), ("gene",)])
@pytest.mark.parametrize("recall", [0.99, 1.0])
def test_of_many_equal_scores_at_the_last_place_the_first_rows_count(tmp_path, indexed, recall):
    rng = np.random.default_rng(0)
    image, gene = unit(rng.normal(size=(2, 400, DIM)))
    twins = np.sort(rng.choice(400, 150, replace=False))
    image[twins], gene[twins] = image[twins[0]], gene[twins[0]]
    query = unit(image[twins[:1]] + gene[twins[:1]])
    store = random_store(tmp_path, image, gene)
    searcher = opened(store, {name: Index.build(store, name, FLAT) for name in indexed})
    for k in (1, 5, 40, 149):
        _, rows = searcher.nearest(query, against={"image": 1, "gene": 1}, k=k, recall=recall)
        truth = fused(store, query, {"image": 1, "gene": 1})[0]
        np.testing.assert_array_equal(rows[0], best(np.round(truth, 6), k))
        assert set(rows[0]) <= set(twins)


def test_exact_search_of_few_rows_does_not_read_the_others(store, monkeypatch):
    searcher = opened(store, {name: Index.build(store, name, FLAT) for name in ("image", "gene")})
    monkeypatch.setattr(Sources, "all_cosines", None)
    weights = {"image": 1.0, "gene": 2.0}
    hits = searcher.search_vector(
        QUERIES[0], against=weights, k=9, filters="organ == 'skin'", recall=1.0
    )
    truth = fused(store, QUERIES, weights)[0]
    truth[(store.spots()["organ"] != "skin").to_numpy()] = -np.inf
    assert_same_hits(hits.scores, hits.rows, truth, best(truth, 9))


@pytest.mark.usefixtures("most")
def test_weight_too_small_for_a_float32_still_asks_for_both_embeddings(tmp_path):
    slides = [toy_slide("S1", 20, 0), toy_slide("S2", 20, 1, image=False)]
    store = toy_store(tmp_path, slides=slides)
    hits = Searcher(store, ToyEncoder()).search_genes(
        "CD8A high", against={"image": 1e-60, "gene": 1}, k=20
    )
    assert set(hits.table["slide_id"]) == {"S1"}


def test_search_ends_as_soon_as_the_bound_says_so(tmp_path, monkeypatch):
    image, gene, asked = clustered(300, 1), clustered(300, 2), []
    vector = unit(np.random.default_rng(0).normal(size=(1, DIM)))
    image[5] = gene[5] = vector  # far ahead of the rest in both
    store = random_store(tmp_path, image, gene)
    searcher = opened(store, {name: Index.build(store, name, FLAT) for name in ("image", "gene")})
    look = fusion.Fusion._look
    monkeypatch.setattr(
        fusion.Fusion, "_look", lambda *a: asked.append((len(a[1]), a[2])) or look(*a)
    )
    _, rows = searcher.nearest(vector, against={"image": 1, "gene": 1}, k=1)
    assert rows.tolist() == [[5]]
    assert asked == [(1, 8)]


@pytest.mark.usefixtures("most")
def test_filters_spreading_and_own_rows_go_with_it(searcher, store):
    weights = {"image": 0.4, "gene": 0.6}
    truth = fused(store, QUERIES, weights)[0]
    truth[(store.spots()["organ"] != "skin").to_numpy()] = -np.inf
    hits = searcher.search_vector(QUERIES[0], against=weights, k=7, filters="organ == 'skin'")
    assert_same_hits(hits.scores, hits.rows, truth, best(truth, 7))
    hits = searcher.search_vector(
        QUERIES[0], against=weights, k=3, filters="organ == 'skin'", one_per="slide"
    )
    slides = store.spots()["slide_id"].to_numpy()
    firsts = [next(r for r in best(truth, 600) if slides[r] == s) for s in ("S2", "S4", "S6")]
    assert_same_hits(hits.scores, hits.rows, truth, sorted(firsts, key=lambda row: -truth[row]))
    spot = searcher.search_spot("S3:B20", against=weights, k=9, query="gene")
    truth = fused(store, unit(store.vectors("gene", [220]).astype(np.float32)), weights)[0]
    truth[220] = -np.inf
    assert_same_hits(spot.scores, spot.rows, truth, best(truth, 9))


def test_equal_weights_mean_the_same_whatever_they_add_up_to(searcher):
    one = searcher.nearest(QUERIES, against={"image": 1, "gene": 1}, k=5)
    other = searcher.nearest(QUERIES, against={"gene": 20.0, "image": 20.0}, k=5)
    np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(one[0], other[0])


def test_one_weight_alone_is_that_embedding(searcher):
    one = searcher.nearest(QUERIES, against={"gene": 7.0}, k=5)
    other = searcher.nearest(QUERIES, against="gene", k=5)
    np.testing.assert_array_equal(one[0], other[0])


def test_spots_that_lack_an_embedding_are_not_found_and_this_is_said(tmp_path):
    slides = [toy_slide("S1", 20, 0), toy_slide("S2", 20, 1, image=False)]
    store = toy_store(tmp_path, slides=slides)
    both = {"image": 0.5, "gene": 0.5}
    for indexes in ({}, {name: Index.build(store, name, FLAT) for name in ("image", "gene")}):
        searcher = Searcher(store, ToyEncoder(), indexes)
        hits = searcher.search_genes("CD8A high", against=both, k=40)
        assert set(hits.table["slide_id"]) == {"S1"}
        assert hits.notes == (
            "Only 20 of 40 spots have both embeddings that are searched: 20 hits instead of 40.",
        )
        with pytest.raises(QueryError, match="S2.* and have both embeddings"):
            searcher.search_genes("CD8A high", against=both, k=4, filters="slide == 'S2'")


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"image": 0, "gene": 0},
        {"image": 1e308, "gene": 1e308},
        {"image": -1.0},
        {"gene": float("nan")},
        {"gene": True},
    ],
)
def test_weights_that_are_none_are_refused(searcher, weights):
    with pytest.raises(ValueError, match=r"against is \{.*weights of 0 or more"):
        searcher.search_vector(QUERIES[0], against=weights, k=3)


def test_a_weight_of_zero_leaves_the_other_embedding_alone(searcher):
    alone = searcher.search_vector(QUERIES[0], against="gene", k=5)
    weighed = searcher.search_vector(QUERIES[0], against={"image": 0, "gene": 3}, k=5)
    np.testing.assert_array_equal(weighed.rows, alone.rows)
    np.testing.assert_array_equal(weighed.scores, alone.scores)


@pytest.mark.parametrize("filters", [["organ == 'x'"], 7, {"organ": "breast"}])
def test_filters_that_are_no_filter_are_refused(searcher, filters):
    with pytest.raises(ValueError, match="expected text such as .* or a Condition"):
        searcher.search_vector(QUERIES[0], k=3, filters=filters)


def test_unknown_embedding_among_weights_is_refused(searcher):
    with pytest.raises(ValueError, match="no 'text' embeddings"):
        searcher.search_vector(QUERIES[0], against={"image": 1, "text": 1}, k=3)
