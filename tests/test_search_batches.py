"""Many queries at once, per-call parameters, and threads: the same answers as one at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from stamp_index.errors import QueryError
from stamp_index.index import Index
from stamp_index.index.recipes import FlatRecipe, IvfPqRecipe
from stamp_index.search import Searcher
from stamp_index.store import Store
from tests.search_world import (
    DIM,
    assert_same_hits,
    clustered,
    cosines,
    opened,
    unit,
    vector_store,
)
from tests.support import ToyEncoder, toy_slide, toy_store

QUERIES = np.concatenate([clustered(6, 7), unit(np.random.default_rng(3).normal(size=(4, DIM)))])
FLAT = FlatRecipe()
LISTS = IvfPqRecipe(name="small", n_queries=60, opq_rounds=1, nlist=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return vector_store(tmp_path_factory.mktemp("batches"))


@pytest.fixture(scope="module", params=["memory", "flat"])
def searcher(request, store):
    names = {"memory": (), "flat": ("image", "gene")}[request.param]
    return opened(store, {name: Index.build(store, name, FLAT) for name in names})


def same(one, other):
    """Two answers are one, up to the rounding of a batch."""
    pd.testing.assert_frame_equal(one.table, other.table, atol=1e-6)
    assert (one.notes, one.query, one.genes) == (other.notes, other.query, other.genes)


# ---- many at once --------------------------------------------------------------------------------


@pytest.mark.parametrize("against", ["image", {"image": 1, "gene": 2}])
@pytest.mark.parametrize("one_per", [None, "slide"])
def test_many_vectors_are_answered_as_one_at_a_time(searcher, against, one_per):
    asked = {"against": against, "k": 5, "one_per": one_per, "genes": ["EPCAM"]}
    together = searcher.search_vectors(QUERIES, filters="organ == 'breast'", **asked)
    for vector, hits in zip(QUERIES, together, strict=True):
        same(hits, searcher.search_vector(vector, filters="organ == 'breast'", **asked))


def test_rows_and_scores_alone_are_those_of_the_hits(searcher):
    scores, rows = searcher.nearest(QUERIES * 3, against="gene", k=7)
    assert (scores.dtype, rows.dtype, scores.shape) == (np.float32, np.int64, (10, 7))
    for query, hits in enumerate(searcher.search_vectors(QUERIES, against="gene", k=7)):
        np.testing.assert_array_equal(rows[query], hits.rows)
        np.testing.assert_allclose(scores[query], hits.scores, atol=1e-6)


@pytest.mark.parametrize("own", ["nothing", "slide", "patient"])
@pytest.mark.parametrize("query", ["image", "gene"])
def test_many_spots_are_answered_as_one_at_a_time(searcher, own, query):
    ids = ["S1:B0", "S4:B99", "S2:B50", "S1:B1", "S2:B50"]
    asked = {"query": query, "against": "gene", "exclude_own": own, "k": 12}
    for spot_id, hits in zip(ids, searcher.search_spots(ids, **asked), strict=True):
        same(hits, searcher.search_spot(spot_id, **asked))
        assert spot_id not in hits.spot_ids


def test_what_a_batch_finds_is_read_at_once(searcher, monkeypatch):
    read = []
    for name in ("spots", "expression"):
        method = getattr(Store, name)
        monkeypatch.setattr(
            Store, name, lambda *a, _m=method, _n=name, **k: read.append(_n) or _m(*a, **k)
        )
    searcher.search_vectors(QUERIES, k=5, genes=["EPCAM"])
    assert read == ["spots", "expression"]


def test_no_queries_have_no_answers(searcher):
    none = np.empty((0, DIM), np.float32)
    assert searcher.search_vectors(none, k=3) == []
    scores, rows = searcher.nearest(none, k=3)
    assert len(scores) == len(rows) == 0
    assert searcher.search_spots([], k=3) == []


def test_one_wrong_vector_of_many_is_named(searcher):
    wrong = QUERIES.copy()
    wrong[4] = 0
    with pytest.raises(ValueError, match="Vector 4 has length 0"):
        searcher.search_vectors(wrong, k=3)
    wrong[2, 0] = np.nan
    with pytest.raises(ValueError, match="Vector 2 has length nan"):
        searcher.nearest(wrong, k=3)
    with pytest.raises(ValueError, match=r"float32 of shape \(16,\); expected \(q, 16\)"):
        searcher.search_vectors(QUERIES[0], k=3)


def test_one_wrong_spot_of_many_is_named(searcher):
    with pytest.raises(QueryError, match="S1:B1000"):
        searcher.search_spots(["S1:B1", "S1:B1000"], k=3)


# ---- parameters of a call ------------------------------------------------------------------------


def test_recall_of_one_is_exact_whatever_index_there_is(store):
    exact = cosines(store, "image", QUERIES)
    searcher = opened(store, {"image": Index.build(store, "image", LISTS)})
    scores, rows = searcher.nearest(QUERIES, k=50, recall=1.0)
    for query in range(len(QUERIES)):
        truth = exact[query]
        assert_same_hits(scores[query], rows[query], truth, np.argsort(-truth, kind="stable")[:50])
    allowed = "slide in ('S2', 'S5')"
    scores, rows = searcher.nearest(QUERIES, k=50, recall=1.0, filters=allowed)
    exact[:, ~store.spots()["slide_id"].isin(["S2", "S5"]).to_numpy()] = -np.inf
    for query in range(len(QUERIES)):
        truth = exact[query]
        assert_same_hits(scores[query], rows[query], truth, np.argsort(-truth, kind="stable")[:50])


@pytest.mark.parametrize("recall", [0.9, 0, 2.0, float("nan"), "high", None])
def test_recall_that_no_card_names_is_refused(searcher, recall):
    with pytest.raises(ValueError, match="recall is .*0.95, 0.99, or 1.0 for exact"):
        searcher.search_vector(QUERIES[0], k=3, recall=recall)


def test_recall_that_an_index_did_not_reach_is_named(store):
    index = Index.build(store, "image", LISTS)
    choices = [
        {**one, "reached": one["target"] < 0.99, "recall": {"image": 0.97, "gene": 0.9712}}
        for one in index.card.calibration["choices"]
    ]
    missed = replace(index.card, calibration={**index.card.calibration, "choices": choices})
    by_choice = replace(missed, target_recall=0.97)  # of the target the card itself knows
    by_card = replace(missed, reached=False, ann_recall_at_10={"image": 0.981, "gene": 0.9312})
    for card, share in ((by_choice, "97.00%"), (by_card, "93.12%")):
        index._state = replace(index._state, generation=replace(index._state.generation, card=card))
        searcher = opened(store, {"image": index})
        note = (
            f"The image index was measured to find {share} of the best hits, not the 99% asked for. Ask with "
            f"a recall of 1 to search exactly, or build the index with another recipe.",
        )
        assert searcher.search_vector(QUERIES[0], k=3).notes == note
        assert (
            searcher.search_vector(QUERIES[0], k=3, against={"image": 1, "gene": 1}).notes == note
        )
        assert searcher.search_vector(QUERIES[0], k=3, recall=0.95).notes == ()
        assert searcher.search_vector(QUERIES[0], k=3, recall=1.0).notes == ()
        assert searcher.search_vector(QUERIES[0], k=3, against="gene").notes == ()


# ---- threads -------------------------------------------------------------------------------------


def test_threads_that_ask_different_things_at_once_get_what_they_would_get_alone(tmp_path):
    slides = [toy_slide(f"S{i}", 30, i, organ=("breast", "skin")[i % 2]) for i in range(4)]
    made = toy_store(tmp_path, slides=slides)
    jobs = list(
        product(
            ("CD8A high, EPCAM low", "COL1A1 high"),
            ("image", "gene", {"image": 1, "gene": 1}),
            (None, "organ == 'breast'", "expr('CD8A') > 4", "slide in ('S0', 'S3')"),
            (None, "slide", 150.0),
            (0.95, 1.0),
        )
    )
    indexes = {"gene": Index.build(made, "gene", FLAT)}

    def ask(searcher, job):
        text, against, filters, one_per, recall = job
        return searcher.search_genes(
            text, against=against, filters=filters, one_per=one_per, recall=recall, k=6
        )

    alone = [ask(Searcher(made, ToyEncoder(), indexes), job) for job in jobs[::7]]
    shared = Searcher(made, ToyEncoder(), indexes)  # nothing in it is made as yet
    with ThreadPoolExecutor(12) as pool:
        order = np.random.default_rng(0).permutation(len(jobs))
        answers = dict(zip(order, pool.map(lambda i: ask(shared, jobs[i]), order), strict=True))
    for i, expected in zip(range(0, len(jobs), 7), alone, strict=True):
        same(answers[i], expected)
