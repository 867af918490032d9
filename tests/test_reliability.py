"""How well genes are predicted: against a slow and obvious version."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.embed import ingest
from stamp_index.errors import QueryError
from stamp_index.search import Searcher
from stamp_index.search.predict import predict_expression
from stamp_index.search.reliability import held_out, prediction_reliability
from stamp_index.store import EncoderCard, Store
from tests.plain_world import plain
from tests.support import TOY_GENES, ToyEncoder, toy_slide, toy_store


def made(folder, *slides):
    encoder = ToyEncoder()
    store = Store.create(folder / "store", EncoderCard.of(encoder))
    for slide in slides:
        ingest(store, encoder, slide)
    return Searcher(store, encoder)


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    """Two slides of P1, one of P2 that lacks some genes, one of P3 that is plain H&E."""
    return made(
        tmp_path_factory.mktemp("toy"),
        toy_slide("A", 40, 1, patient_id="P1"),
        toy_slide("B", 40, 2, patient_id="P1"),
        toy_slide("C", 40, 3, patient_id="P2", genes=TOY_GENES[:50] + TOY_GENES[55:]),
        plain(toy_slide("W", 40, 4, patient_id="P3")),
    )


@pytest.mark.parametrize("against", ["gene", "image"])
def test_correlations_are_those_of_one_spot_after_the_other(searcher, against):
    store, genes = searcher.store, list(TOY_GENES)
    table = prediction_reliability(searcher, genes, against=against, k=9)
    spots = store.spots(["spot_id", "slide_id"])
    rows = np.flatnonzero(spots["slide_id"] != "W")
    predicted, measured = [], store.expression(genes, rows)
    for spot_id in spots["spot_id"][rows]:  # slow and obvious
        hits = searcher.search_spot(
            spot_id, query="image", against=against, k=9, exclude_own="patient"
        )
        predicted.append(predict_expression(hits, store, genes)["mean"])
    predicted = np.array(predicted)
    assert table["gene"].tolist() == genes
    for place, gene in enumerate(genes):
        both = np.isfinite(predicted[:, place]) & np.isfinite(measured[:, place])
        assert table["n"][place] == both.sum(), gene
        assert table["slides"][place] == spots["slide_id"][rows[both]].nunique()
        if not both.any():  # measured on one patient alone
            assert np.isnan(table["r"][place])
            continue
        with np.errstate(invalid="ignore"):
            r = np.corrcoef(predicted[both, place], measured[both, place])[0, 1]
        assert table["r"][place] == pytest.approx(r, abs=1e-5, nan_ok=True), gene


def test_markers_of_the_toy_tissue_are_reliable_and_noise_is_not(searcher):
    table = prediction_reliability(searcher, list(TOY_GENES)).set_index("gene")["r"]
    assert table["EPCAM"] > 0.5
    assert table["EPCAM"] > table.median()


def test_the_sample_is_the_same_each_time_and_no_larger_than_asked(searcher):
    one, again = (prediction_reliability(searcher, ["EPCAM"], n_spots=50) for _ in range(2))
    assert one.equals(again)
    assert one["n"][0] == 50
    other = prediction_reliability(searcher, ["EPCAM"], n_spots=50, seed=1)
    assert other["r"][0] != one["r"][0]


def test_a_gene_of_few_spots_has_no_correlation(searcher):
    table = prediction_reliability(searcher, ["EPCAM"], n_spots=19)
    assert np.isnan(table["r"][0])


def test_what_is_held_out_is_said(searcher, tmp_path):
    assert held_out(searcher.store) == "patient"
    slides = [toy_slide("A", 30, 1, patient_id="P1"), toy_slide("B", 30, 2, patient_id="")]
    assert held_out(made(tmp_path, *slides).store) == "slide"


def test_one_slide_can_not_be_held_out(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=30)
    searcher = Searcher(store, ToyEncoder())
    assert held_out(store) == "nothing"
    with pytest.raises(QueryError, match="Fewer than two slides"):
        prediction_reliability(searcher, ["EPCAM"])


def test_a_store_of_blind_slides_is_refused(tmp_path):
    slides = [toy_slide(f"S{n}", 30, n, image=False, patient_id=f"P{n}") for n in (1, 2)]
    searcher = made(tmp_path, *slides)
    with pytest.raises(QueryError, match="has pictures"):
        prediction_reliability(searcher, ["EPCAM"])


def test_unknown_genes_are_named(searcher):
    with pytest.raises(ValueError, match="NOSUCH"):
        prediction_reliability(searcher, ["NOSUCH"])
