"""z and percentile of hits, and when a search says that nothing stands out."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.index import Index, fold_index
from stamp_index.index.background import Background
from stamp_index.index.recipes import FlatRecipe
from stamp_index.search import Searcher, calibration
from tests.search_world import cosines, opened, unit
from tests.support import (
    TOY_MPP,
    ToyEncoder,
    random_store,
    toy_rows,
    toy_slide,
    toy_slides,
    toy_store,
)

DIM = 32
FLAT = FlatRecipe()


def noise(n, seed):
    return unit(np.random.default_rng(seed).normal(size=(n, DIM)))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("calibration"), n_slides=4, n_spots=60)


@pytest.fixture(scope="module")
def searcher(store):
    return Searcher(store, ToyEncoder())


def alarms(hits):
    return [note for note in hits.notes if note.startswith("Nothing stands out")]


def test_percentile_is_the_share_of_the_stores_spots_that_score_lower_elsewhere(searcher, store):
    hits = searcher.search_spot("S1:B0003-1", k=30, against="gene", exclude_own="patient")
    queries = unit(store.vectors("image").astype(np.float32))
    truth = cosines(store, "gene", queries)
    patient = store.spots()["patient_id"].to_numpy()
    truth[patient[:, None] == patient[None, :]] = -np.inf
    best = truth.max(axis=1)  # of every spot; the background asked all 240 of them
    expected = [np.mean(best < score - 1e-6) for score in hits.scores]
    np.testing.assert_allclose(hits.table["percentile"], expected, atol=0.006)


def test_z_compares_a_score_with_the_same_querys_other_scores(searcher, store):
    vector = ToyEncoder().encode_signature({"CD8A": 1.0})
    hits = searcher.search_genes("CD8A high", k=50)
    usual = cosines(store, "image", vector[None])[0]
    slow = (hits.scores - usual.mean()) / usual.std()
    np.testing.assert_allclose(hits.table["z"], slow, rtol=1e-3)


def test_picture_of_stored_tissue_is_no_alarm_and_a_picture_of_nothing_is_one(searcher):
    slide = toy_slides(4, 60)[1]
    x, y = slide.spots[["x_px", "y_px"]].to_numpy()[14]
    side = round(340 / TOY_MPP)
    tissue = slide.image.read(x - side / 2, y - side / 2, side, side)
    green = np.zeros((200, 200, 3), np.uint8)
    green[..., 1] = 255
    for against in ("image", "gene"):
        hits = searcher.search_image(tissue, mpp=TOY_MPP, against=against, k=5)
        assert alarms(hits) == []
        assert hits.table["percentile"].iloc[0] > 0.05
        hits = searcher.search_image(green, mpp=TOY_MPP, against=against, k=5)
        assert len(alarms(hits)) == 1
        assert "of 240 spots of this store as queries" in alarms(hits)[0]
        assert hits.table["percentile"].max() < 0.01


def test_signature_that_every_tissue_contradicts_is_an_alarm(searcher):
    hits = searcher.search_genes("CD8A high, CD3E high, MS4A1 high", k=5)
    assert alarms(hits) == []
    assert hits.table["percentile"].iloc[0] > 0.5
    contradiction = "EPCAM high, CD8A high, COL1A1 high, ADIPOQ high"
    hits = searcher.search_genes(contradiction, k=5)
    assert "of 128 random signatures" in alarms(hits)[0]


def test_random_queries_raise_as_many_alarms_as_the_threshold_says(tmp_path):
    store = random_store(tmp_path, noise(3_000, 0), noise(3_000, 1), n_slides=8)
    searcher = opened(store)
    ids = store.spots(["spot_id"])["spot_id"].sample(400, random_state=0)
    answers = searcher.search_spots(ids, query="gene", against="image", k=1)
    share = np.mean([len(alarms(hits)) for hits in answers])
    assert share <= 0.04  # 1 % wanted; the 99.9 % quantile of 400 draws is 3 %


def test_vector_of_unknown_origin_has_z_but_no_percentile(searcher):
    hits = searcher.search_vector(np.ones(32), k=4)
    assert hits.table["z"].notna().all()
    assert hits.table["percentile"].isna().all()
    assert alarms(hits) == []


def test_few_random_queries_raise_no_alarm(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=30)
    green = np.zeros((200, 200, 3), np.uint8)
    green[..., 1] = 255
    hits = Searcher(store, ToyEncoder()).search_image(green, mpp=TOY_MPP, k=3)
    assert alarms(hits) == []
    assert (hits.table["percentile"] == 0).all()


def test_one_spot_alone_has_nothing_to_be_held_against(tmp_path):
    store = toy_store(tmp_path, slides=[toy_slide("S1", 1, 0)])
    hits = Searcher(store, ToyEncoder()).search_genes("CD8A high", k=1)
    assert hits.table[["z", "percentile"]].isna().all(axis=None)


def test_two_embeddings_together_have_their_own_background(searcher, store):
    both = {"image": 0.25, "gene": 0.75}
    hits = searcher.search_spot("S1:B0003-1", against=both, k=20)
    queries = unit(store.vectors("image").astype(np.float32))
    fused = 0.25 * cosines(store, "image", queries) + 0.75 * cosines(store, "gene", queries)
    usual = fused[3]
    slow = (hits.scores - usual.mean()) / usual.std()
    np.testing.assert_allclose(hits.table["z"], slow, rtol=1e-2, atol=1e-2)
    assert hits.table["percentile"].between(0, 1).all()


@pytest.mark.parametrize("most", [20_000, 10])
def test_two_embeddings_through_indexes_have_percentiles_among_few_spots(store, most, monkeypatch):
    monkeypatch.setattr(calibration, "_MOST_FUSED", most)
    indexes = {name: Index.build(store, name, FLAT) for name in ("image", "gene")}
    both = {"image": 1, "gene": 1}
    hits = Searcher(store, ToyEncoder(), indexes).search_spot("S1:B0003-1", against=both, k=5)
    plain = Searcher(store, ToyEncoder()).search_spot("S1:B0003-1", against=both, k=5)
    assert hits.table["z"].notna().all()
    if most > store.n_spots:
        np.testing.assert_allclose(hits.table["percentile"], plain.table["percentile"], atol=0.01)
        assert hits.notes == plain.notes
    else:
        assert hits.table["percentile"].isna().all()
        assert hits.notes == (calibration.NO_PERCENTILES,)


def test_background_that_an_index_carries_is_used(store, monkeypatch):
    index = Index.build(store, "image", FLAT)
    carried = Background.compute(store.vectors("image"), np.full(200, 1.5, np.float32))
    monkeypatch.setattr(Index, "backgrounds", {"image": carried, "signature": carried})
    searcher = Searcher(store, ToyEncoder(), {"image": index})
    monkeypatch.setattr(calibration, "background_of_rows", None)  # nothing is made anew
    hits = searcher.search_genes("CD8A high", k=3)
    assert (hits.table["percentile"] == 0).all()
    hits = searcher.search_spot("S1:B0003-1", exclude_own="patient", k=3)
    assert len(alarms(hits)) == 1


def test_store_too_large_to_ask_exactly_has_z_alone(store, monkeypatch):
    monkeypatch.setattr(calibration, "_MOST_ROWS", 100)
    hits = Searcher(store, ToyEncoder()).search_spot("S1:B0003-1", k=3)
    assert hits.table["z"].notna().all()
    assert hits.table["percentile"].isna().all()
    index = {"image": Index.build(store, "image", FLAT)}
    hits = Searcher(store, ToyEncoder(), index).search_spot("S1:B0003-1", k=3)
    assert hits.table["percentile"].notna().all()


def test_store_too_large_to_ask_exactly_has_z_alone_for_two_embeddings_too(store, monkeypatch):
    monkeypatch.setattr(calibration, "_MOST_ROWS", 100)
    hits = Searcher(store, ToyEncoder()).search_spot("S1:B0003-1", against={"image": 1, "gene": 1})
    assert hits.table["z"].notna().all()
    assert hits.table["percentile"].isna().all()


def test_rows_without_the_embedding_are_no_part_of_a_background(tmp_path):
    slides = [toy_slide("S1", 60, 0), toy_slide("S2", 60, 1, image=False, patient_id="P2")]
    store = toy_store(tmp_path, slides=slides)
    hits = Searcher(store, ToyEncoder()).search_genes("CD8A high", against="image", k=5)
    assert np.isfinite(hits.table["z"]).all()
    usual = cosines(store, "image", ToyEncoder().encode_signature({"CD8A": 1.0})[None])[0]
    usual = usual[np.isfinite(usual)]
    slow = (hits.scores - usual.mean()) / usual.std()
    np.testing.assert_allclose(hits.table["z"], slow, rtol=1e-3)


@pytest.mark.parametrize(("n_more", "said"), [(12, False), (16, True)])
def test_background_that_the_store_has_outgrown_is_said_to_be_old(tmp_path, n_more, said):
    store = toy_store(tmp_path, n_slides=1, n_spots=64)
    Index.build(store, "image", FLAT)
    store.add(toy_rows(toy_slide("S9", n_more, 9, patient_id="P9")))
    hits = Searcher.open(store.path, encoder=ToyEncoder()).search_spot("S1:B0003-1", k=3)
    expected = (
        "Percentiles are a little too high: they compare with random queries that were asked when the image "
        "index held 64 spots, and 80 are searched now. Fold the newer ones into the index.",
    )
    assert hits.notes == (expected if said else ())
    gene = Searcher.open(store.path, encoder=ToyEncoder()).search_spot(
        "S1:B0003-1", against="gene", k=3
    )
    assert gene.notes == ()  # made now
    fold_index(store, "image")
    hits = Searcher.open(store.path, encoder=ToyEncoder()).search_spot("S1:B0003-1", k=3)
    assert hits.notes == ()
