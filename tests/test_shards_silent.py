"""Shards that do not answer: the others' hits come back, the answer says what is missing, and the next may be whole."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from stamp_index.errors import QueryError, ShardError
from stamp_index.index import Index
from stamp_index.index.recipes import FlatRecipe, IvfSq8Recipe
from stamp_index.search import Searcher
from stamp_index.search.vector_searcher import VectorSearcher
from stamp_index.shards import LocalShards, ShardedIndex, read_plan, shard_index, shards_folder
from stamp_index.shards.silence import listening
from tests.search_world import clustered, opened, vector_store
from tests.shard_world import mutable
from tests.support import ToyEncoder, toy_store

QUERIES = clustered(6, 7)
N_SHARDS = 4


@pytest.fixture(scope="module", params=["flat", "ivf_sq8"])
def store(request, tmp_path_factory):
    """600 spots of 6 slides, whose indexes are in four shards."""
    store = vector_store(tmp_path_factory.mktemp(request.param))
    recipe = FlatRecipe() if request.param == "flat" else IvfSq8Recipe(nlist=8, n_queries=16)
    for side in ("image", "gene"):
        Index.build(store, side, recipe)
        shard_index(store, side, N_SHARDS)
    return store


@pytest.fixture
def world(store):
    """A searcher over shards, one over the undivided indexes, and the image index's shards."""
    service, parts = mutable(store)
    service._parts["gene"] = LocalShards.open(store)._parts["gene"]
    indexes = {side: ShardedIndex.connect(store, side, service) for side in ("image", "gene")}
    whole = {side: Index.open(store, side) for side in ("image", "gene")}
    yield opened(store, indexes), opened(store, whole), parts
    for part in parts:
        part.let_go.set()


def rows_of_shards(store, numbers):
    plan = read_plan(shards_folder(store, "image"))
    spans = [range(plan.parts[n].start, plan.parts[n].stop) for n in numbers]
    return np.concatenate([np.arange(span.start, span.stop) for span in spans])


def slides_of(store, numbers):
    plan = read_plan(shards_folder(store, "image"))
    return [name for number in numbers for name in plan.parts[number].slides]


@pytest.mark.parametrize("mood", ["dead", "hangs"])
def test_a_silent_shard_is_named_and_the_others_hits_are_right(store, world, mood):
    searcher, whole, parts = world
    parts[1].mood = mood
    hits = searcher.search_vector(QUERIES[0], k=40, recall=1.0)
    missing = rows_of_shards(store, [1])
    words = ", ".join(slides_of(store, [1]))
    assert any(
        f"1 of 4 shards of the image index did not answer (slide{'s' if ',' in words else ''} {words}): their "
        f"{len(missing)} spots were not searched." in note
        for note in hits.notes
    )
    assert not hits.is_whole
    left_out = " and ".join(f'slide != "{name}"' for name in slides_of(store, [1]))
    expected = whole.search_vector(QUERIES[0], k=40, recall=1.0, filters=left_out)
    np.testing.assert_array_equal(hits.rows, expected.rows)
    np.testing.assert_array_equal(hits.scores, expected.scores)
    parts[1].mood = "well"
    again = searcher.search_vector(QUERIES[0], k=40, recall=1.0)
    assert again.is_whole
    assert again.notes == whole.search_vector(QUERIES[0], k=40, recall=1.0).notes
    np.testing.assert_array_equal(
        again.rows, whole.search_vector(QUERIES[0], k=40, recall=1.0).rows
    )


def test_fewer_hits_than_asked_for_are_explained_by_the_shards_alone(store, world):
    searcher, _, parts = world
    parts[0].mood = parts[2].mood = "dead"
    hits = searcher.search_vector(QUERIES[0], k=store.n_spots)
    assert len(hits) == store.n_spots - len(rows_of_shards(store, [0, 2]))
    said = [note for note in hits.notes if "hits instead of" in note]
    assert said == []
    assert any("2 of 4 shards" in note for note in hits.notes)


def test_where_none_answers_there_is_an_error_and_no_empty_answer(store, world):
    searcher, _, parts = world
    for part in parts:
        part.mood = "dead"
    with pytest.raises(ShardError, match="None of the shards"):
        searcher.search_vector(QUERIES[0], k=5)
    parts[0].mood = "well"
    slide = slides_of(store, [1])[0]
    with pytest.raises(ShardError, match=slide):
        searcher.search_vector(QUERIES[0], k=5, filters=f'slide == "{slide}"')


def test_a_shard_without_allowed_rows_is_not_asked_and_not_missed(store, world):
    searcher, whole, parts = world
    parts[3].mood = "dead"
    name = slides_of(store, [0])[0]
    ask = {"k": 10, "filters": f'slide == "{name}"', "recall": 1.0}
    hits = searcher.search_vector(QUERIES[0], **ask)
    assert hits.is_whole
    np.testing.assert_array_equal(hits.rows, whole.search_vector(QUERIES[0], **ask).rows)


def test_a_query_asks_a_silent_shard_once(store, world):
    searcher, _, parts = world
    parts[2].mood = "dead"
    hits = searcher.search_vector(QUERIES[0], k=30, one_per=200.0)
    assert parts[2].n_asked == 1
    assert sum(part.n_asked for part in parts) > len(parts)  # the others were asked again
    assert not hits.is_whole


def test_an_answer_that_cannot_say_it_is_an_error(store, world):
    searcher, _, parts = world
    parts[2].mood = "dead"
    with pytest.raises(ShardError, match="1 of 4 shards"):
        searcher.nearest(QUERIES, k=5)
    with pytest.raises(ShardError, match="1 of 4 shards"):
        searcher.indexes["image"].search(QUERIES, 5)
    with listening() as silence:
        scores, rows = searcher.indexes["image"].search(QUERIES, 5)
        assert scores.shape == rows.shape == (6, 5)
    assert len(silence.notes) == 1


@pytest.mark.parametrize("against", ["image", {"image": 0.5, "gene": 0.5}], ids=["image", "both"])
def test_hits_apart_are_those_of_the_shards_that_answer(store, world, against):
    searcher, whole, parts = world
    parts[0].mood = parts[1].mood = "dead"
    hits = searcher.search_vector(QUERIES[0], against=against, k=12, one_per="slide", recall=1.0)
    if against == "image":
        assert set(hits.table["slide_id"]) == set(slides_of(store, [2, 3]))
        left_out = " and ".join(f'slide != "{name}"' for name in slides_of(store, [0, 1]))
        ask = {"k": 12, "one_per": "slide", "recall": 1.0, "filters": left_out}
        np.testing.assert_array_equal(hits.rows, whole.search_vector(QUERIES[0], **ask).rows)
    else:  # few rows that may be found by both are scored one by one, from the store where need be
        everything = {"against": against, "k": 12, "one_per": "slide", "recall": 1.0}
        np.testing.assert_array_equal(hits.rows, whole.search_vector(QUERIES[0], **everything).rows)
        assert hits.is_whole


def test_cosines_of_rows_whose_shard_is_silent_are_read_from_the_store(store, world):
    searcher, whole, parts = world
    parts[0].mood = parts[3].mood = "dead"
    rows = np.random.default_rng(0).permutation(store.n_rows)
    np.testing.assert_array_equal(
        searcher.indexes["image"].cosines(rows, QUERIES[1]),
        whole.indexes["image"].cosines(rows, QUERIES[1]),
    )


@pytest.mark.parametrize("weights", [{"image": 0.5, "gene": 0.5}, {"image": 0.1, "gene": 0.9}])
def test_both_embeddings_with_a_silent_shard_give_true_scores(store, world, weights):
    searcher, whole, parts = world
    parts[1].mood = "dead"
    hits = searcher.search_vector(QUERIES[2], against=weights, k=30)
    everything = whole.search_vector(QUERIES[2], against=weights, k=store.n_spots, recall=1.0)
    truth = dict(zip(everything.rows.tolist(), everything.scores.tolist(), strict=True))
    assert [truth[row] for row in hits.rows.tolist()] == hits.scores.tolist()
    assert not hits.is_whole
    found = set(hits.rows.tolist())
    searched = np.setdiff1d(np.arange(store.n_rows), rows_of_shards(store, [1]))
    best = sorted(searched.tolist(), key=lambda row: (-truth[row], row))[: len(found)]
    assert (
        min(truth[row] for row in found) >= truth[best[-1]]
    )  # nothing that was searched was missed


def test_several_queries_and_batches_are_of_the_same_shards(store, world, monkeypatch):
    searcher, _, parts = world
    monkeypatch.setattr("stamp_index.shards.engine.MOST_QUERIES", 2)
    started = threading.Barrier(1)
    n_before = [0]

    class DiesLater:
        """Answers the first batch and no other."""

        def answer(self, question):
            n_before[0] += 1
            started.wait()
            if n_before[0] > 1:
                raise ConnectionError("gone")
            return parts[1].answer(question)

    service = searcher.indexes["image"]._service
    service._parts["image"]._parts[1] = DiesLater()
    hits = searcher.search_vectors(QUERIES, k=20)
    missing = set(rows_of_shards(store, [1]).tolist())
    assert all(not set(one.rows.tolist()) & missing for one in hits)
    assert all(not one.is_whole for one in hits)


def test_regions_are_found_with_a_note(tmp_path):
    encoder = ToyEncoder()
    store = toy_store(tmp_path, n_slides=4, n_spots=120, encoder=encoder)
    Index.build(store, "image", FlatRecipe())
    shard_index(store, "image", 4)
    service, parts = mutable(store)
    index = ShardedIndex.connect(store, "image", service)
    searcher = VectorSearcher(store, {"image": index})
    slide = store.slides()["slide_id"][0]
    spots = store.spots(["spot_id", "slide_id"])
    own = spots[spots["slide_id"] == slide]["spot_id"].tolist()[:20]
    assert searcher.search_region(own, k=2).is_whole
    parts[2].mood = "dead"
    found = searcher.search_region(own, k=2)
    assert not found.is_whole
    assert any("1 of 4 shards" in note for note in found.notes)


def test_a_background_made_without_a_shard_is_not_kept(tmp_path):
    encoder = ToyEncoder()
    store = toy_store(tmp_path, n_slides=4, n_spots=60, encoder=encoder)
    Index.build(store, "image", FlatRecipe())
    shard_index(store, "image", 4)
    service, parts = mutable(store)
    searcher = Searcher(store, encoder, {"image": ShardedIndex.connect(store, "image", service)})
    parts[3].mood = "dead"
    hits = searcher.search_genes("CD8A high", k=5)
    assert hits.table["percentile"].isna().all()
    assert not hits.table["z"].isna().any()
    parts[3].mood = "well"
    whole = Searcher(store, encoder, {"image": Index.open(store, "image")})
    again = searcher.search_genes("CD8A high", k=5).table
    np.testing.assert_array_equal(
        again["percentile"], whole.search_genes("CD8A high", k=5).table["percentile"]
    )


def test_a_refused_question_is_no_silence(store, world):
    searcher, _, parts = world

    class Refuses:
        def answer(self, question):
            raise QueryError("A filter is of other rows.")

    searcher.indexes["image"]._service._parts["image"]._parts[0] = Refuses()
    with pytest.raises(QueryError, match="of other rows"):
        searcher.search_vector(QUERIES[0], k=5)
