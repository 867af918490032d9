"""Expression predicted from a store alone: against slow code, known answers, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import pearsonr

from stamp_index.errors import MissingGenesError
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import evaluate_expression, runner
from stamp_index.evaluate.split import make_split, split_by_patient
from tests.plain_world import mixed_store
from tests.probe_world import GENES, probe_slide, probe_store, random_world, unit
from tests.support import TOY_GENES, toy_slide, toy_slides, toy_store

BLEEP = "retrieval, mean of 10 (BLEEP)"
METHODS = {
    BLEEP: "encoder",
    "retrieval, softmax of 10": "encoder",
    "retrieval, softmax of all": "encoder",
    "retrieval, cosines of all (Loki)": "encoder",
    "PCA 256 + ridge on image embeddings": "encoder",
    "random vectors, mean of 10": "baseline",
    "mean of the training spots": "baseline",
    "image-only neighbours, mean of 10": "baseline",
    "PCA + ridge vectors, mean of 10": "baseline",
    "CCA vectors, mean of 10": "baseline",
    "mean of the slide (sees the test spots)": "oracle",
}


def _row(report, method, genes, on="all test"):
    found = [
        row
        for row in report.rows
        if (row["method"], row["genes"], row["on"]) == (method, genes, on)
    ]
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five patients with a slide each, two of them tested; CD8A follows a direction of the embeddings."""
    store = random_world(tmp_path_factory.mktemp("world"), n_slides=5, n=60)
    split = split_by_patient(store.slides(), ["P4", "P5"])
    return store, split, evaluate_expression(store, split, k=10)


def test_a_report_has_every_method_list_and_slide_once(world):
    _, split, report = world
    assert {row["method"]: row["kind"] for row in report.rows} == METHODS
    for genes in ("HVG-50", "HEG-50", "all"):
        for on, n in (("all test", 120), ("S4", 60), ("S5", 60)):
            for method in METHODS:
                row = _row(report, method, genes, on)
                assert (row["N test"], row["N train"], row["n_genes"]) == (n, 180, 3)
                assert row["held out by"] == "patient"
    assert len(report.rows) == 3 * 3 * len(METHODS)
    assert report.split is split
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["split"]["hash"] == split.hash
    assert {row["genes hash"] for row in report.rows} == {one.hash for one in report.gene_lists}


def test_prediction_by_retrieval_equals_a_loop_over_spots_of_the_store(world):
    store, _, report = world
    table = store.spots(("slide_id",))["slide_id"].to_numpy()
    train, test = np.flatnonzero(table < "S4"), np.flatnonzero(table >= "S4")
    image, gene = (store.vectors(side).astype(np.float64) for side in ("image", "gene"))
    image, gene = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (image, gene))
    levels = store.expression(GENES).astype(np.float64)
    predicted = np.empty((len(test), 3))
    for at, spot in enumerate(test):
        near = sorted(train, key=lambda row: (-np.float32(image[spot] @ gene[row]), row))[:10]
        predicted[at] = levels[near].mean(axis=0)
    truth = levels[test]
    pearson = [pearsonr(predicted[:, i], truth[:, i])[0] for i in range(3)]
    row = _row(report, BLEEP, "all")
    assert row["mean Pearson"] == pytest.approx(np.mean(pearson), abs=1e-6)
    assert row["median Pearson"] == pytest.approx(np.median(pearson), abs=1e-6)
    assert row["mean MSE"] == pytest.approx(((predicted - truth) ** 2).mean(), rel=1e-6)
    by_slide = []
    for slide in ("S4", "S5"):
        here = table[test] == slide
        by_slide.append(
            np.mean([pearsonr(predicted[here, i], truth[here, i])[0] for i in range(3)])
        )
        own = _row(report, BLEEP, "all", slide)
        assert own["mean Pearson"] == pytest.approx(by_slide[-1], abs=1e-6)
    assert row["mean Pearson over slides"] == pytest.approx(np.mean(by_slide), abs=1e-6)
    per_gene = report.per_gene.query("method == @BLEEP").set_index("gene")
    np.testing.assert_allclose(per_gene.loc[list(GENES), "Pearson, all spots"], pearson, atol=1e-6)


def test_a_gene_that_follows_the_embeddings_is_found_and_baselines_that_look_at_nothing_fail(world):
    _, _, report = world
    table = report.per_gene.pivot_table(index="gene", columns="method", values="Pearson, all spots")
    for method in (
        BLEEP,
        "retrieval, softmax of all",
        "PCA 256 + ridge on image embeddings",
        "image-only neighbours, mean of 10",
        "PCA + ridge vectors, mean of 10",
        "CCA vectors, mean of 10",
    ):
        assert table.loc["CD8A", method] > 0.6, method
    assert abs(table.loc["CD8A", "random vectors, mean of 10"]) < 0.3  # 120 spots: sd .09
    row = _row(report, "mean of the training spots", "all")
    assert row["mean Pearson"] == 0.0
    assert row["n constant"] == 0
    assert row["mean MSE"] > _row(report, BLEEP, "all")["mean MSE"]
    oracle = "mean of the slide (sees the test spots)"
    assert _row(report, oracle, "all")["mean Pearson"] is not None
    assert _row(report, oracle, "all", "S4")["mean Pearson"] == 0.0


def test_intervals_are_over_patients_and_hold_the_mean(world):
    _, _, report = world
    row = _row(report, BLEEP, "all")
    assert row["n patients"] == 2
    assert row["low"] <= row["mean Pearson"] <= row["high"]
    alone = _row(report, BLEEP, "all", "S4")
    assert (alone["n patients"], alone["low"], alone["high"]) == (1, None, None)


def test_nothing_depends_on_how_many_genes_are_held_at_a_time(world, monkeypatch):
    store, split, report = world
    monkeypatch.setattr(runner, "_VALUES", 1)  # one gene
    steps = []
    again = evaluate_expression(store, split, k=10, progress=lambda *done: steps.append(done))
    for row, other in zip(report.rows, again.rows, strict=True):
        for name, value in row.items():
            wanted = pytest.approx(value, abs=1e-9) if isinstance(value, float) else value
            assert other[name] == wanted, (row["method"], name)
    assert steps[-1] == (3 * 2 * 10, 3 * 2 * 10)
    assert [done for done, _ in steps] == list(range(1, 61))


def test_given_genes_are_the_only_list(world):
    store, split, _ = world
    report = evaluate_expression(store, split, genes=["EPCAM", "CD8A"])
    assert {row["genes"] for row in report.rows} == {"given"}
    assert report.gene_lists[0].names == ("EPCAM", "CD8A")
    assert set(report.per_gene["gene"]) == {"EPCAM", "CD8A"}


def test_a_gene_that_a_test_slide_did_not_measure_is_left_out_there_and_counted(tmp_path):
    few = TOY_GENES[:30]
    slides = [
        *toy_slides(2, 40),  # of patient P1
        toy_slide("T1", 40, 7, patient_id="P7"),
        toy_slide("T2", 40, 8, patient_id="P8", genes=few),
    ]
    store = toy_store(tmp_path, slides=slides)
    split = make_split(store.slides(), ["S1", "S2"], ["T1", "T2"])
    report = evaluate_expression(store, split, k=10)
    names = set(report.gene_lists[-1].names)
    absent = len(names - set(few))
    assert absent > 10
    assert _row(report, BLEEP, "all")["n not measured"] == absent
    assert _row(report, BLEEP, "all", "T1")["n not measured"] == 0
    assert _row(report, BLEEP, "all", "T2")["n not measured"] == absent
    table = report.per_gene.query("method == @BLEEP").set_index("gene")
    assert (table["n_slides"] == [1 if gene not in few else 2 for gene in table.index]).all()
    assert np.isfinite(table["Pearson, all spots"]).all()
    assert _row(report, BLEEP, "HVG-50")["mean Pearson"] > 0.4
    assert any("chosen across slides" in note or "across slides" in note for note in report.notes)


def test_a_gene_that_a_training_slide_did_not_measure_is_not_predicted(tmp_path):
    slides = [
        toy_slide("A", 40, 1, patient_id="PA"),
        toy_slide("B", 40, 2, patient_id="PB", genes=TOY_GENES[:30]),
        toy_slide("C", 40, 3, patient_id="PC"),
    ]
    store = toy_store(tmp_path, slides=slides)
    split = make_split(store.slides(), ["A", "B"], ["C"])
    report = evaluate_expression(store, split, k=5)
    assert set(report.gene_lists[-1].names) <= set(TOY_GENES[:30])
    assert any("30 of 60 genes" in note for note in report.notes)
    with pytest.raises(MissingGenesError, match="ACTB"):
        evaluate_expression(store, split, genes=["ACTB"])


def test_genes_are_chosen_as_if_the_test_slides_were_not_there(tmp_path):
    rng = np.random.default_rng(0)
    names, slides, vectors = [f"G{i}" for i in range(60)], [], []
    for number in range(3):
        counts = rng.poisson(20.0, (40, 60))
        if number == 2:  # every second gene varies here, and nowhere else
            counts[::2, ::2] += 500
        slides.append(
            probe_slide(f"S{number}", ["a"] * 40, patient=f"P{number}", counts=counts, genes=names)
        )
        vectors.append(unit(rng.normal(size=(40, 8))))
    store = probe_store(tmp_path, slides, vectors)
    report = evaluate_expression(store, split_by_patient(store.slides(), ["P2"]), k=5)
    counts = np.concatenate([slide.counts.toarray() for slide in slides[:2]])
    levels = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    for genes, score in zip(
        report.gene_lists, (levels.var(axis=0), levels.mean(axis=0)), strict=False
    ):
        assert genes.names == tuple(names[i] for i in np.argsort(-score)[:50])


def test_sections_of_patients_that_were_learnt_from_are_told_apart(tmp_path):
    store = toy_store(tmp_path, n_slides=5)  # P1: S1, S2; P2: S3, S4; P3: S5
    split = make_split(store.slides(), ["S1", "S3"], ["S2", "S5"], by="section")
    report = evaluate_expression(store, split, k=10)
    assert _row(report, BLEEP, "all", "S2")["held out by"] == "section"
    assert _row(report, BLEEP, "all", "S5")["held out by"] == "patient"
    for kind in ("section", "patient"):
        row = _row(report, BLEEP, "all", f"all test held out by {kind}")
        assert row["N test"] == 40
    assert set(report.per_gene["held out by"]) == {"section", "patient"}


def test_slides_of_unknown_patients_are_called_so(tmp_path):
    slides = [toy_slide(f"S{at}", 30, seed=at, patient_id="") for at in range(3)]
    store = toy_store(tmp_path, slides=slides)
    report = evaluate_expression(store, make_split(store.slides(), ["S0", "S1"], ["S2"]), k=10)
    assert {row["held out by"] for row in report.rows} == {"slide (patient unknown)"}


def test_more_neighbours_than_training_spots_are_all_of_them_and_said(tmp_path):
    store = random_world(tmp_path, n_slides=2, n=20)
    split = split_by_patient(store.slides(), ["P2"])
    report = evaluate_expression(store, split, k=50)
    assert any("k is 50, but there are 20 training spots" in note for note in report.notes)
    row = _row(report, "retrieval, mean of 20 (BLEEP)", "all")
    assert row["mean Pearson"] == 0.0  # the mean of all training spots is a constant
    assert any("stretches of one slide" in note for note in report.notes)


def test_the_same_report_comes_twice(world):
    store, split, report = world
    assert evaluate_expression(store, split, k=10).rows == report.rows


def test_splits_and_stores_that_allow_no_prediction_are_refused(tmp_path, world):
    store, split, _ = world
    nothing = make_split(store.slides(), [], ["S1"])
    with pytest.raises(EvaluationError, match="no training slides"):
        evaluate_expression(store, nothing)
    with pytest.raises(MissingGenesError, match="CD8B.*Close names: CD8A"):
        evaluate_expression(store, split, genes=["CD8B"])
    with pytest.raises(EvaluationError, match="is empty"):
        evaluate_expression(store, split, genes=[])
    with pytest.raises(ValueError, match="k is 0"):
        evaluate_expression(store, split, k=0)
    with pytest.raises(ValueError, match="above 0"):
        evaluate_expression(store, split, temperature=0.0)


def test_plain_slides_have_nothing_to_compare_with(tmp_path):
    store, _, _ = mixed_store(tmp_path)
    split = make_split(store.slides(), ["M0", "M1"], ["W"])
    with pytest.raises(EvaluationError, match="no gene profiles"):
        evaluate_expression(store, split)


def test_slides_without_images_have_nothing_to_predict_from(tmp_path):
    rng = np.random.default_rng(0)
    slides = [probe_slide(f"S{i}", ["a"] * 12, patient=f"P{i}") for i in range(2)]
    vectors = [unit(rng.normal(size=(12, 4))) for _ in slides]
    store = probe_store(tmp_path, slides, vectors, image=[True, False])
    with pytest.raises(EvaluationError, match="S1 has image and gene embeddings"):
        evaluate_expression(store, make_split(store.slides(), ["S0"], ["S1"]))


def test_slides_that_share_no_gene_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    panels = [("A", "B", "C"), ("D", "E", "F")]
    slides = [
        probe_slide(f"S{i}", ["a"] * 12, patient=f"P{i}", genes=panel)
        for i, panel in enumerate(panels)
    ]
    vectors = [unit(rng.normal(size=(12, 4))) for _ in slides]
    store = probe_store(tmp_path, slides, vectors)
    with pytest.raises(EvaluationError, match="No gene was measured on every training slide"):
        evaluate_expression(store, make_split(store.slides(), ["S0"], ["S1"]))
