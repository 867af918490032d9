"""What a searcher searches: the version that its store showed, the indexes that it was given, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.errors import AnnIndexError, EncoderMismatchError, StoreError
from stamp_index.index import Index, build_index
from stamp_index.search import Searcher, VectorSearcher
from stamp_index.store import EncoderCard, Store
from tests.support import ToyEncoder, toy_rows, toy_slides, toy_store


def test_searching_leaves_the_store_as_it_was(tmp_path):
    store = toy_store(tmp_path, n_slides=2, n_spots=20)
    before = {file: file.stat().st_mtime_ns for file in store.path.rglob("*")}
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    searcher.search_genes("CD8A high", k=5)
    searcher.search_spot("S1:B0000-1", k=5)._repr_html_()
    assert {file: file.stat().st_mtime_ns for file in store.path.rglob("*")} == before


def test_searcher_keeps_to_the_version_it_opened(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=20)
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    store.add(toy_rows(toy_slides(2, 20)[1]))
    hits = searcher.search_genes("CD8A high", k=20)
    assert set(hits.table["slide_id"]) == {"S1"}
    assert hits.store_version == 2
    again = Searcher.open(store.path, encoder=ToyEncoder())
    assert len(again.search_genes("CD8A high", k=40)) == 40


@pytest.mark.parametrize("indexed", [(), ("image", "gene")])
def test_searcher_keeps_to_the_version_that_the_store_showed_when_it_was_made(tmp_path, indexed):
    store = toy_store(tmp_path, n_slides=2, n_spots=20)
    indexes = {name: Index.build(store, name) for name in indexed}
    searcher = Searcher(store, ToyEncoder(), indexes)
    asked = {"k": 40, "one_per": 1.0, "filters": "organ == 'breast'"}
    before = searcher.search_genes("CD8A high", **asked)
    store.delete("S1")
    store.add(toy_rows(toy_slides(3, 20)[2]))
    for index in indexes.values():
        assert index.n_newer == 20  # the one that was given follows its store
    for used in (searcher, Searcher(before.store, ToyEncoder(), searcher.indexes)):
        after = used.search_genes("CD8A high", **asked)
        assert after.spot_ids == before.spot_ids
        assert after.store_version == before.store_version
        assert used.search_spot("S1:B0003-1", k=39).store_version == before.store_version
    with pytest.raises(StoreError, match="opened at version .* for reading"):
        before.store.delete("S2")
    again = Searcher(store, ToyEncoder(), indexes).search_genes("CD8A high", k=40)
    assert set(again.table["slide_id"]) == {"S2", "S3"}


def test_index_of_another_store_or_embedding_is_refused(tmp_path):
    store, other = (toy_store(tmp_path / name, n_slides=1, n_spots=20) for name in "ab")
    index = Index.build(other, "image")
    with pytest.raises(AnnIndexError, match=f"{other.store_id}; this store is {store.store_id}"):
        Searcher(store, ToyEncoder(), {"image": index})
    with pytest.raises(AnnIndexError, match="gene index .* was made from image embeddings"):
        Searcher(other, ToyEncoder(), {"gene": index})


def test_saved_indexes_are_used_and_find_the_same(tmp_path):
    store = toy_store(tmp_path, n_slides=3, n_spots=40)
    in_memory = Searcher.open(store.path, encoder=ToyEncoder())
    for modality in ("image", "gene"):
        build_index(store, modality)
    indexed = Searcher.open(store.path, encoder=ToyEncoder())
    assert in_memory.indexes == {}
    assert set(indexed.indexes) == {"image", "gene"}
    for against in ("image", "gene"):
        for ask in (
            {"k": 20},
            {"k": 48, "filters": "slide == 'S2'"},
            {"k": 5, "filters": "organ == 'skin'"},
        ):
            one = in_memory.search_genes("CD8A high, EPCAM low", against=against, **ask)
            other = indexed.search_genes("CD8A high, EPCAM low", against=against, **ask)
            assert one.spot_ids == other.spot_ids
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_store_without_encoder_needs_one(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=20)
    with pytest.raises(StoreError, match="without its encoder"):
        Searcher.open(store.path)


def test_a_store_of_two_encoders_is_searched_with_either(tmp_path):
    first, other = ToyEncoder(), ToyEncoder(seed=7)
    store = toy_store(tmp_path)
    name = store.add_encoder(EncoderCard.of(other))
    beside = Store.open(store.path, encoder=name)
    for slide in toy_slides(3, 40):
        beside.fill(toy_rows(slide, other))
    for encoder, named in ((first, "toy"), (other, name)):
        searcher = Searcher.open(store.path, encoder=encoder)
        assert searcher.store.encoder == named
        vectors = searcher.store.vectors("image").astype(np.float32)
        truth = vectors @ vectors[0]
        hits = VectorSearcher.open(store.path, encoder=named).search_spot(
            store.spots(["spot_id"], [0])["spot_id"].iloc[0], k=5
        )
        assert hits.fingerprint == encoder.fingerprint
        np.testing.assert_allclose(hits.scores, np.sort(truth[1:])[::-1][:5], atol=1e-3)
    with pytest.raises(EncoderMismatchError, match=f"it has those named toy, {name}"):
        Searcher.open(store.path, encoder=ToyEncoder(seed=8))


def test_a_spot_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(TypeError, match="A spot is 5; expected ids"):
        VectorSearcher.open(toy_store(tmp_path).path).search_spots([5])
