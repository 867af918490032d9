"""One hit per slide, patient or neighbourhood, against a loop over all rows."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.errors import QueryError
from stamp_index.index import Index
from stamp_index.index.recipes import FlatRecipe, IvfPqRecipe
from stamp_index.search import Searcher, engine
from stamp_index.search.diversity import places_of, spread_of, take_spread
from stamp_index.store import Store
from tests.search_world import (
    DIM,
    assert_same_hits,
    clustered,
    cosines,
    opened,
    slow_greedy,
    unit,
    vector_store,
)
from tests.support import ToyEncoder, toy_rows, toy_slide, toy_store

QUERIES = np.concatenate([clustered(4, 7), unit(np.random.default_rng(3).normal(size=(2, DIM)))])
LISTS = IvfPqRecipe(name="small", n_queries=60, opq_rounds=1, nlist=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return vector_store(tmp_path_factory.mktemp("spread"))


@pytest.fixture(scope="module", params=["memory", "flat", "lists"])
def searcher(request, store):
    if request.param == "memory":
        return opened(store)
    recipe = FlatRecipe() if request.param == "flat" else LISTS
    return opened(store, {m: Index.build(store, m, recipe) for m in ("image", "gene")})


def rule_of(store, one_per):
    """`may_follow(row, other)` as one would say it."""
    spots = store.spots().set_index(store.rows())
    slide, patient = spots["slide_id"].to_dict(), spots["patient_id"].to_dict()
    x_um, y_um = spots["x_um"].to_dict(), spots["y_um"].to_dict()

    def may_follow(row, other):
        if one_per == "slide":
            return slide[row] != slide[other]
        if one_per == "patient":
            same = patient[row] == patient[other] if patient[row] else slide[row] == slide[other]
            return not same
        apart = np.hypot(x_um[row] - x_um[other], y_um[row] - y_um[other])
        return slide[row] != slide[other] or not apart <= one_per

    return may_follow


@pytest.mark.parametrize("one_per", ["slide", "patient", 10.0, 95, 5_000.0])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_hits_are_those_of_a_greedy_loop_over_all_rows(searcher, store, one_per, k):
    scores, rows = searcher.nearest(QUERIES, against="image", k=k, one_per=one_per, recall=1.0)
    truth = cosines(store, "image", QUERIES)
    for query in range(len(QUERIES)):
        expected = slow_greedy(truth[query], k, rule_of(store, one_per))
        found = rows[query][rows[query] >= 0]
        assert_same_hits(scores[query, : len(found)], found, truth[query], expected)


@pytest.mark.parametrize("one_per", ["slide", 300.0])
def test_filter_and_spreading_go_together(searcher, store, one_per):
    hits = searcher.search_vector(
        QUERIES[0], against="gene", k=5, one_per=one_per, filters="organ == 'breast'", recall=1.0
    )
    truth = cosines(store, "gene", QUERIES[:1])[0]
    truth[(store.spots()["organ"] != "breast").to_numpy()] = -np.inf
    expected = slow_greedy(truth, 5, rule_of(store, one_per))
    assert_same_hits(hits.scores, hits.rows, truth, expected)


def test_approximate_search_still_gives_every_slide_when_asked_for_all(searcher):
    for hits in searcher.search_vectors(QUERIES, k=6, one_per="slide", recall=0.95):
        assert sorted(hits.table["slide_id"]) == [f"S{i}" for i in range(1, 7)]
        assert hits.notes == ()


def test_why_there_are_fewer_is_said(searcher):
    hits = searcher.search_vector(QUERIES[0], k=20, one_per="slide")
    assert hits.notes == (
        "With one hit per slide there are 6 hits instead of 20. Ask without one_per for more.",
    )
    hits = searcher.search_vector(QUERIES[0], k=20, one_per=1e9, filters="slide in ('S1', 'S4')")
    assert hits.notes == (
        "With one hit within 1e+09 um there are 2 hits instead of 20. Ask without one_per for more.",
    )


def test_tables_of_queries_with_different_numbers_of_hits_are_filled_up(tmp_path):
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(40, DIM)))
    store = vector_store(tmp_path, n=40, n_slides=1)
    searcher = opened(store)
    scores, rows = searcher.nearest(vectors[:8], k=30, one_per=25.0)
    per_query = (rows >= 0).sum(axis=1)
    assert per_query.min() < per_query.max() == rows.shape[1]
    assert (np.isnan(scores) == (rows == -1)).all()
    for query, n in enumerate(per_query):
        assert (rows[query, :n] >= 0).all()


def test_slides_without_a_patient_are_patients_of_their_own(tmp_path):
    names = ["P1", "", "P1", ""]
    slides = [toy_slide(f"S{i}", 12, i, patient_id=name) for i, name in enumerate(names)]
    store = toy_store(tmp_path, slides=slides)
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    hits = searcher.search_genes("CD8A high", k=10, one_per="patient")
    assert len(hits) == 3
    assert {"S1", "S3"} < set(hits.table["slide_id"])


def test_spots_without_a_place_in_microns_have_no_neighbours(tmp_path):
    slides = [toy_slide("S1", 20, 0), toy_slide("S2", 20, 1, image=False)]
    store = toy_store(tmp_path, slides=slides)
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    hits = searcher.search_genes("CD8A high", against="gene", k=40, one_per=1e6)
    assert hits.table["slide_id"].value_counts().to_dict() == {"S2": 20, "S1": 1}


def test_query_spot_does_not_keep_its_neighbours_out(searcher, store):
    hits = searcher.search_spot("S2:B50", k=3, one_per=1e6, recall=1.0)
    own = 150
    truth = cosines(store, "image", unit(store.vectors("image", [own]).astype(np.float32)))[0]
    truth[own] = -np.inf
    assert_same_hits(hits.scores, hits.rows, truth, slow_greedy(truth, 3, rule_of(store, 1e6)))


def test_deleted_slides_are_neither_hits_nor_in_the_way(tmp_path):
    store = toy_store(tmp_path, n_slides=4, n_spots=20)
    store.delete("S2")
    store.add(toy_rows(toy_slide("S9", 20, 9, patient_id="P9")))
    store.compact()
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    for one_per in ("slide", 150.0):
        hits = searcher.search_genes("CD8A high", k=4, one_per=one_per)
        vector = ToyEncoder().encode_signature({"CD8A": 1.0})
        truth = cosines(store, "image", vector[None])[0]
        assert_same_hits(
            hits.scores, hits.rows, truth, slow_greedy(truth, 4, rule_of(store, one_per))
        )


@pytest.mark.parametrize("one_per", [0, -5.0, float("nan"), float("inf"), "organ", True, [100]])
def test_what_is_no_way_of_spreading_is_refused(searcher, one_per):
    with pytest.raises(ValueError, match="one_per is .*'slide', 'patient', or a radius in microns"):
        searcher.search_vector(QUERIES[0], k=3, one_per=one_per)


def test_more_hits_than_spots_are_refused_before_anything_is_spread(searcher):
    with pytest.raises(QueryError, match="601 hits .* 600 spots"):
        searcher.search_vector(QUERIES[0], k=601, one_per="slide")


def test_all_radii_share_one_copy_of_where_spots_lie(store, monkeypatch):
    searcher, read = opened(store), []
    monkeypatch.setattr(engine, "places_of", lambda store: read.append(1) or places_of(store))
    for radius in (5.0, 15.0, 95.0):
        searcher.search_vector(QUERIES[0], k=3, one_per=radius)
    searcher.search_vector(QUERIES[0], k=3, one_per="slide")
    assert len(read) == 1


def test_version_of_the_store_is_that_which_was_opened(searcher, store):
    assert searcher.store.version == Store.open(store.path).version


def test_what_a_deeper_look_finds_takes_its_place_by_score(store):
    spread = spread_of(store, "slide", lambda: places_of(store))
    rows = store.slides()["first_spot"].to_numpy()[:3]
    missed = np.array([0.9], np.float32), rows[2:]  # which the first look passed over
    first = np.array([0.8, 0.7], np.float32), rows[:2]
    scores, found = take_spread(
        first, 3, spread=spread, among=np.ones(store.n_rows, bool), look=lambda m, among: missed
    )
    assert found.tolist() == [rows[2], rows[0], rows[1]]
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
