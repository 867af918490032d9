"""Plain H&E in a store: found by genes, never taken for measured, predicted from what was measured elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stamp_index.embed import embed_slide, ingest
from stamp_index.errors import EncoderMismatchError, MissingGenesError, QueryError
from stamp_index.search import Searcher, predict_map
from stamp_index.slides import GivenEmbeddings
from stamp_index.store import EncoderCard, Store
from tests.plain_world import mixed_store, plain
from tests.support import ToyEncoder, toy_domains, toy_slide


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    store, encoder, hidden = mixed_store(tmp_path_factory.mktemp("plain"))
    return Searcher(store, encoder), hidden


def test_a_gene_query_finds_measured_and_plain_slides(world):
    searcher, _ = world
    hits = searcher.search_genes("CD8A high", k=48)
    assert set(hits.table["slide_id"]) == {"M0", "M1", "W"}
    of_plain = hits.table["slide_id"] == "W"
    assert hits.table.loc[of_plain, "CD8A"].isna().all()
    assert hits.table.loc[~of_plain, "CD8A"].notna().all()
    assert any("not measured on 1 of the 3 slides" in note for note in hits.notes)
    domain = dict(zip(world[1].spots.index, toy_domains(80), strict=True))
    barcodes = [spot.split(":")[1] for spot in hits.table.loc[of_plain, "spot_id"]]
    assert {domain[barcode] for barcode in barcodes} == {1}  # lymphoid


def test_nothing_is_told_as_measured_on_a_plain_slide(world):
    store = world[0].store
    rows = store.rows()[160:]
    spots = store.spots(["n_counts", "n_genes", "mito_fraction"], rows)
    assert spots.isna().all().all()
    assert np.isnan(store.expression(["CD8A"], rows)).all()
    assert not store.has_vector("gene")[rows].any()
    assert store.has_vector("image")[rows].all()
    assert store.has_gene("CD8A").tolist() == [True, True, False]
    assert store.slides()["n_genes"].tolist() == [60, 60, 0]
    assert store.sparse_counts(rows).nnz == 0


def test_filters_leave_plain_slides_out_where_they_ask_for_counts(world):
    searcher, _ = world
    asked = {"n_counts > 0": {"M0", "M1"}, "n_counts is missing": {"W"}, 'platform == "H&E"': {"W"}}
    for text, slides in asked.items():
        hits = searcher.search_genes("CD8A high", k=200, filters=text)
        assert set(hits.table["slide_id"]) == slides, text


def test_a_spot_of_a_plain_slide_asks_for_genes(world):
    searcher, _ = world
    hits = searcher.search_spot("W:B0003-1", against="gene", k=20)
    assert set(hits.table["slide_id"]) <= {"M0", "M1"}


def test_a_map_of_a_gene_follows_what_was_hidden(world):
    searcher, hidden = world
    found = predict_map(searcher, "W", ["CD8A", "EPCAM", "ADIPOQ"], k=20)
    counts = hidden.counts.toarray()
    truth = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 10_000)
    for gene in found.genes:
        measured = truth[:, hidden.genes.index(gene)]
        assert np.corrcoef(found.values(gene), measured)[0, 1] > 0.7, gene
    assert found.slides == ("M0", "M1")
    assert found.table["spot_id"].tolist() == hidden.spot_ids
    assert np.allclose(found.table[["x_px", "y_px"]], hidden.xy_px)


def test_a_map_in_parts_is_the_map_at_once(world, monkeypatch):
    searcher, _ = world
    whole = predict_map(searcher, "W", ["CD8A"], k=20).values("CD8A")
    monkeypatch.setattr("stamp_index.search.maps._BATCH", 7)
    assert np.allclose(predict_map(searcher, "W", ["CD8A"], k=20).values("CD8A"), whole)


def test_maps_leave_out_what_they_are_told_to(world):
    searcher, _ = world
    assert predict_map(searcher, "M0", ["CD8A"], k=5).slides == ("M1",)
    found = predict_map(searcher, "M0", ["CD8A"], k=5, exclude_own="nothing")
    assert found.slides == ("M0", "M1")
    assert predict_map(searcher, "M1", ["CD8A"], k=5, exclude_own="patient").slides == ("M0",)


def test_a_map_of_some_places_is_that_part_of_the_whole(world):
    searcher, _ = world
    whole = predict_map(searcher, "W", ["CD8A"], k=20)
    some = predict_map(searcher, "W", ["CD8A"], k=20, rows=[163, 170, 201])
    assert some.table["spot_id"].tolist() == whole.table["spot_id"].iloc[[3, 10, 41]].tolist()
    assert np.allclose(some.values("CD8A"), whole.values("CD8A")[[3, 10, 41]])


@pytest.mark.parametrize("rows", [[3], [163, 240], []], ids=["other slide", "none such", "empty"])
def test_a_map_of_places_that_are_not_of_the_slide_is_refused(world, rows):
    with pytest.raises(ValueError, match="not of slide 'W', whose rows are 160 to 239"):
        predict_map(world[0], "W", ["CD8A"], rows=rows)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param(("X", ["CD8A"]), QueryError, "no slide 'X'", id="slide"),
        pytest.param(("W", ["ZZZ9"]), MissingGenesError, "ZZZ9", id="gene"),
    ],
)
def test_a_map_that_cannot_be_made_is_refused(world, arguments, error, message):
    with pytest.raises(error, match=message):
        predict_map(world[0], *arguments)


def test_a_filter_that_leaves_no_neighbour_is_told(world):
    with pytest.raises(QueryError, match="Relax what is asked for"):
        predict_map(world[0], "W", ["CD8A"], filters='organ == "lung"')


def test_a_store_of_plain_slides_alone_is_searched_by_the_encoders_genes(tmp_path):
    encoder = ToyEncoder()
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    ingest(store, encoder, plain(toy_slide("W", 80, seed=1)))
    searcher = Searcher(store, encoder)
    hits = searcher.search_genes("CD8A high, EPCAM low", k=10)
    assert len(hits.table) == 10
    assert any("measured on no slide of this store" in note for note in hits.notes)
    assert hits.genes == ()
    with pytest.raises(QueryError, match="cannot be ordered by what was measured"):
        searcher.search_genes("CD8A high", rank_by="measured")
    with pytest.raises(MissingGenesError):
        searcher.search_genes("ZZZ9 high")


def test_slides_around_a_plain_one_keep_their_genes_when_it_goes(tmp_path):
    store, encoder, _ = mixed_store(tmp_path, measured=1)
    last = toy_slide("M9", 30, seed=5)
    ingest(store, encoder, last)
    expected = store.counts(["CD8A", "EPCAM"])
    assert np.isnan(expected[80:160]).all()
    assert not np.isnan(expected[160:]).any()
    store.delete("W")
    kept = store.counts(["CD8A", "EPCAM"])
    assert np.array_equal(kept, np.delete(expected, np.s_[80:160], axis=0))
    store.compact()
    assert np.array_equal(store.counts(["CD8A", "EPCAM"]), kept)


def test_the_same_plain_picture_is_not_added_twice(tmp_path):
    store, encoder, hidden = mixed_store(tmp_path, measured=0)
    with pytest.raises(Exception, match="same image and counts"):
        ingest(store, encoder, replace(plain(hidden), slide_id="again"))


def test_embeddings_that_came_with_a_slide_are_taken_as_they_are(tmp_path):
    encoder = ToyEncoder()
    slide = plain(toy_slide("T", 20, seed=1))
    vectors = np.random.default_rng(0).normal(size=(20, encoder.dim)).astype(np.float32)
    given = replace(slide, embeddings=GivenEmbeddings(encoder.name, vectors), image=None, mpp=None)
    image, gene = embed_slide(encoder, given)
    assert gene is None
    assert np.allclose(image, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), atol=1e-6)
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    ingest(store, encoder, given)
    assert np.allclose(store.vectors("image").astype(np.float32), image, atol=1e-3)
    other = replace(given, embeddings=GivenEmbeddings("uni", vectors))
    with pytest.raises(EncoderMismatchError, match="embeddings of encoder uni, of length 32"):
        embed_slide(encoder, other)


def test_a_slide_with_neither_image_nor_counts_is_refused(tmp_path):
    encoder = ToyEncoder()
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    with pytest.raises(ValueError, match="neither image nor gene embeddings"):
        ingest(store, encoder, replace(plain(toy_slide("T", 5)), image=None, mpp=None))
    assert Store.open(store.path).n_spots == 0


def test_shares_of_patches_beyond_the_edge_and_mitochondrial_counts_are_kept(tmp_path):
    encoder = ToyEncoder()
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    slide = toy_slide("A", 40)
    spots = slide.spots.assign(x_px=slide.spots["x_px"] - 50.0)  # the first column lies on the edge
    ingest(store, encoder, replace(slide, spots=spots))
    held = store.spots(["x_px", "outside_fraction", "mito_fraction"])
    on_edge = held["x_px"] == 0
    assert np.allclose(held.loc[on_edge, "outside_fraction"], 0.5, atol=0.01)
    mito = np.array([gene.startswith("MT-") for gene in slide.genes])
    counts = slide.counts.toarray()
    assert np.allclose(held["mito_fraction"], counts[:, mito].sum(1) / counts.sum(1), atol=1e-6)
    hits = Searcher(store, encoder).search_genes(
        "CD8A high", filters="outside_fraction < 0.2", k=40
    )
    assert len(hits.table) == (held["outside_fraction"] < 0.2).sum()


def test_labels_named_like_a_quality_stay_labels(tmp_path):
    encoder = ToyEncoder()
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    slide = toy_slide("A", 10)
    ingest(
        store, encoder, replace(slide, spots=slide.spots.assign(tissue_fraction=np.arange(10.0)))
    )
    assert store.label("tissue_fraction").tolist() == list(range(10))
    assert store.spots(["tissue_fraction"]).iloc[:, 0].max() <= 1


def test_maps_refuse_what_they_do_not_know(world):
    with pytest.raises(
        ValueError, match="exclude_own is 'x'; expected one of nothing, slide, patient"
    ):
        predict_map(world[0], "W", ["CD8A"], exclude_own="x")
    with pytest.raises(ValueError, match="No gene is named"):
        predict_map(world[0], "W", [])


def test_a_store_of_both_kinds_is_written_as_parquet(world, tmp_path):
    import pandas as pd

    from stamp_index.export import to_parquet

    to_parquet(world[0].store, tmp_path / "out.parquet")
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table.groupby("slide_id")["n_counts"].count().to_dict() == {"M0": 80, "M1": 80, "W": 0}
    assert table["tissue_fraction"].between(0, 1).all()


def test_regions_of_plain_slides_ask_and_are_found(world):
    searcher, hidden = world
    drawn = [f"W:{barcode}" for barcode in hidden.spots.index[:40]]
    found = searcher.search_region(drawn, query="image", against="image")
    assert set(found.table["slide_id"]) <= {"M0", "M1"}
    with pytest.raises(QueryError, match="'W' has no gene embeddings"):
        searcher.search_region(drawn, query="gene", against="gene")
    measured = [spot.replace("W:", "M0:") for spot in drawn]
    assert "W" in set(searcher.search_region(measured, k=10).table["slide_id"])
