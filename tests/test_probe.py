"""Linear probes: against plain scikit-learn, on planted signal, on noise, and on leaks."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    r2_score,
    roc_auc_score,
)
from sklearn.pipeline import make_pipeline

from stamp_index.evaluate import ProbeCancelled, ProbeProgress, ProbeSettings, run_probe
from stamp_index.evaluate.probe import (
    ClassTask,
    GeneTask,
    Places,
    cross_validate,
    plan_folds,
    tasks,
)
from stamp_index.evaluate.probe.folds import scaled
from stamp_index.evaluate.probe.spots import read_features
from tests.one_scale import OneScale
from tests.probe_world import (
    CLASSES,
    correlated_noise_world,
    probe_slide,
    probe_store,
    random_world,
    unit,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return random_world(tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module")
def result(world):
    return run_probe(world, ProbeSettings(label="region"))


@pytest.mark.parametrize("split", ["slide", "block", "spot"])
def test_class_numbers_equal_plain_scikit_learn_on_the_same_folds(world, split):
    settings = ProbeSettings(label="region", split=split, C=0.5, block_um=300.0, buffer_um=0.0)
    found = run_probe(world, settings)
    held = found.predictions
    x = read_features(world, "image", held.rows)
    for fold in found.folds:
        test = held.fold == fold.number
        model = make_pipeline(OneScale(), LogisticRegression(C=0.5, max_iter=1000))
        model.fit(x[~test], held.truth[~test])
        truth, said = held.truth[test], model.predict(x[test])
        probability = model.predict_proba(x[test])
        expected = {
            "balanced_accuracy": balanced_accuracy_score(truth, said),
            "macro_f1": f1_score(truth, said, average="macro"),
            "auroc": roc_auc_score(truth, probability, multi_class="ovr"),
        }
        assert fold.scores == pytest.approx(expected, abs=1e-9)
        np.testing.assert_allclose(held.output[test], probability, atol=1e-9)
        assert (held.predicted[test] == said).all()
    np.testing.assert_array_equal(
        found.confusion, confusion_matrix(held.truth, held.predicted, labels=CLASSES)
    )


def test_gene_numbers_equal_plain_ridge_on_the_same_folds(world):
    found = run_probe(world, ProbeSettings(gene="CD8A", features="both", C=0.01))
    held = found.predictions
    x = read_features(world, "both", held.rows).astype(np.float64)
    assert x.shape[1] == 16
    measured = world.expression(["CD8A"], held.rows)[:, 0]
    np.testing.assert_array_equal(held.truth, measured.astype(np.float64))
    for fold in found.folds:
        test = held.fold == fold.number
        scaler = OneScale().fit(x[~test].astype(np.float32))
        model = Ridge(alpha=100.0).fit(scaler.transform(x[~test]), measured[~test])
        said = model.predict(scaler.transform(x[test]))
        np.testing.assert_allclose(
            held.predicted[test], said, atol=1e-5
        )  # scaled in single precision
        said, truth = held.predicted[test], held.truth[test]
        assert fold.scores["pearson"] == pytest.approx(np.corrcoef(said, truth)[0, 1], abs=1e-9)
        assert fold.scores["spearman"] == pytest.approx(spearmanr(said, truth)[0], abs=1e-9)
        assert fold.scores["r2"] == pytest.approx(r2_score(truth, said), abs=1e-9)


@pytest.mark.parametrize("kind", ["class", "gene"])
def test_c_is_the_one_that_a_plain_search_on_the_training_part_finds(kind):
    rng = np.random.default_rng(3)
    n = 240
    x = rng.normal(size=(n, 30)).astype(np.float32)
    score = x[:, :3].sum(axis=1) + rng.normal(size=n) * 2
    slide = np.repeat(np.arange(8), n // 8)
    places = Places(slide, slide, np.zeros((n, 2)), 1000.0)
    y = (score > 0).astype(np.int64) if kind == "class" else score
    plan = plan_folds(places, y if kind == "class" else None, "slide", n_folds=4)
    task = ClassTask(2) if kind == "class" else GeneTask()
    _, outcomes = cross_validate(x, y, plan, task)
    for fold, outcome in zip(plan, outcomes, strict=True):
        quality = [_quality_of(c, kind, x, y, fold) for c in task.grid]
        assert task.grid[int(np.argmax(quality))] == outcome.C


def _quality_of(c, kind, x, y, fold):
    """How well the inner parts of a fold are predicted with one value of C."""
    said = np.empty(len(y))
    for train, test in fold.inner:
        plain = LogisticRegression(C=c, max_iter=1000) if kind == "class" else Ridge(alpha=1 / c)
        said[test] = make_pipeline(OneScale(), plain).fit(x[train], y[train]).predict(x[test])
    truth, said = y[fold.train], said[fold.train]
    if kind == "class":
        return balanced_accuracy_score(truth, said)
    return -np.mean((truth - said) ** 2)


def test_planted_signal_is_found_and_levels_are_at_chance(result):
    assert result.level.mean["balanced_accuracy"] > 0.7
    assert result.chance == pytest.approx(1 / 3)
    assert result.levels["majority"].mean["balanced_accuracy"] == pytest.approx(1 / 3)
    assert result.levels["majority"].mean["auroc"] == 0.5
    for name in ("stratified", "random_features"):
        assert abs(result.levels[name].mean["balanced_accuracy"] - 1 / 3) < 0.12
    assert result.counts.spots == 240
    assert result.counts.slides == result.counts.groups == result.counts.patients == 4
    assert [fold.held_out for fold in result.folds] == [("S1",), ("S2",), ("S3",), ("S4",)]


def test_a_planted_gene_is_found_and_its_levels_correlate_with_nothing(world):
    found = run_probe(world, ProbeSettings(gene="CD8A"))
    assert found.level.mean["pearson"] > 0.8
    assert found.levels["train_mean"].mean["pearson"] == 0.0
    assert found.levels["train_mean"].mean["r2"] <= 0.0
    assert abs(found.levels["random_features"].mean["pearson"]) < 0.2
    assert found.chance == 0.0
    assert found.confusion.shape == (0, 0)


def test_labels_that_say_nothing_are_at_chance(tmp_path):
    store = random_world(tmp_path, signal=0.0, n=150)
    found = run_probe(store, ProbeSettings(label="region"))
    assert abs(found.level.mean["balanced_accuracy"] - 1 / 3) < 0.08
    assert abs(found.level.mean["auroc"] - 0.5) < 0.08


def test_a_random_split_finds_what_is_not_there_and_a_slide_split_does_not(tmp_path):
    store = correlated_noise_world(tmp_path)
    by_spot = run_probe(store, ProbeSettings(label="region", split="spot"))
    by_slide = run_probe(store, ProbeSettings(label="region", split="slide"))
    assert by_spot.level.mean["balanced_accuracy"] > 0.75
    assert by_slide.level.mean["balanced_accuracy"] < 0.65
    assert "neighbours" in by_spot.warnings[0]
    assert by_slide.warnings == ()


def test_blocks_with_a_buffer_leak_less_than_single_spots(tmp_path):
    store = correlated_noise_world(tmp_path)
    settings = {"label": "region", "slides": ("S1", "S2"), "block_um": 400.0}
    by_spot = run_probe(store, ProbeSettings(**settings, split="spot"))
    blocks = run_probe(store, ProbeSettings(**settings, split="block"))
    assert blocks.level.mean["balanced_accuracy"] < by_spot.level.mean["balanced_accuracy"] - 0.1
    assert all(fold.n_near > 0 for fold in blocks.folds)
    assert any("too near" in note for note in blocks.notes)


def test_slides_of_one_patient_on_both_sides_are_warned_of(tmp_path):
    store = random_world(tmp_path, n_patients=2)
    found = run_probe(store, ProbeSettings(label="region", C=1.0))
    assert "Patient P1, P2 has several slides" in found.warnings[0]
    by_patient = run_probe(store, ProbeSettings(label="region", split="patient", C=1.0))
    assert by_patient.warnings == ()
    assert [fold.held_out for fold in by_patient.folds] == [("P1",), ("P2",)]


def test_the_same_run_gives_the_same_numbers_and_another_seed_other_ones(world, result):
    again = run_probe(world, result.settings)
    assert again.to_json(predictions=True) == result.to_json(predictions=True)
    other = run_probe(world, ProbeSettings(label="region", seed=1))
    assert other.levels["random_features"] != result.levels["random_features"]


def _without_print(text):
    return text.replace("print(result.to_json())\n", "")


def test_the_python_snippet_repeats_the_run(world):
    found = run_probe(world, ProbeSettings(label="region", features="gene", split="patient", C=2.0))
    names = {}
    exec(_without_print(found.to_python()), names)
    assert names["result"].to_json(predictions=True) == found.to_json(predictions=True)


def test_the_python_snippet_repeats_a_run_on_drawn_labels_of_any_name(world):
    odd = 'a "quoted"\n{class}'
    labels = {row: odd if row % 7 < 3 else "other" for row in range(20, 200)}
    found = run_probe(world, ProbeSettings(label="drawn ' here", C=1.0), labels=labels)
    assert found.counts.spots == 180
    assert found.classes == (odd, "other")
    names = {}
    exec(_without_print(found.to_python()), names)
    assert names["labels"] == labels
    assert names["result"].to_json(predictions=True) == found.to_json(predictions=True)


def test_json_holds_every_number_and_predictions_only_when_asked(result):
    values = json.loads(result.to_json())
    assert "predictions" not in values
    assert values["level"]["mean"] == result.level.mean
    assert values["settings"]["label"] == "region"
    assert values["source"]["store_version"] == result.source.store_version
    assert len(json.loads(result.to_json(predictions=True))["predictions"]["rows"]) == 240


def test_the_table_says_for_every_spot_whether_it_was_right(world, result):
    frame = result.to_pandas()
    assert list(frame.columns) == [
        *("spot_id", "slide_id", "fold", "truth", "predicted", "right", "probability"),
    ]
    assert (frame["spot_id"] == world.spots(("spot_id",))["spot_id"].to_numpy()).all()
    assert (frame["right"] == (frame["truth"] == frame["predicted"])).all()
    recall = frame.groupby("truth")["right"].mean()
    assert [one.recall for one in result.per_class] == pytest.approx(recall.tolist())
    assert result.pooled["balanced_accuracy"] == pytest.approx(recall.mean())
    gene = run_probe(world, ProbeSettings(gene="CD8A", C=0.01)).to_pandas()
    np.testing.assert_allclose(gene["residual"], gene["predicted"] - gene["truth"])


def test_progress_climbs_and_raising_in_it_stops_the_probe(world):
    seen: list[ProbeProgress] = []
    run_probe(world, ProbeSettings(label="region"), progress=seen.append)
    shares = [one.share for one in seen]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] < 1
    assert len(shares) >= 4 * (3 * len(ClassTask.grid) + 2)
    assert [one.step for one in seen[:4]] == [
        *("reading labels", "dividing the spots", "reading embeddings", "fold 1 of 4: choosing C"),
    ]
    calls = []

    def stop(at):
        calls.append(at)
        if len(calls) == 5:
            raise ProbeCancelled

    with pytest.raises(ProbeCancelled):
        run_probe(world, ProbeSettings(gene="CD8A"), progress=stop)
    assert len(calls) == 5


def test_a_long_fit_is_interrupted_often_and_reaches_the_same_optimum(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 50)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=400) > 0).astype(np.int64)
    pauses = []
    (whole,) = ClassTask(2).fits(x, y, (1.0,), lambda: pauses.append("whole"))
    monkeypatch.setattr(tasks, "_WORK_PER_CALL", 0)
    monkeypatch.setattr(tasks, "_MIN_ITERATIONS", 3)
    (parts,) = ClassTask(2).fits(x, y, (1.0,), lambda: pauses.append("part"))
    assert pauses.count("whole") == 1
    assert pauses.count("part") > 2
    assert parts.converged
    np.testing.assert_allclose(parts.predict(x), whole.predict(x), atol=2e-3)


def test_a_fit_that_does_not_end_says_so(monkeypatch, world):
    monkeypatch.setattr(tasks, "MAX_ITERATIONS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run_probe(world, ProbeSettings(label="region", C=1.0))
    assert not any(fold.converged for fold in found.folds)
    assert any("stopped before its optimum" in note for note in found.notes)


def test_what_is_left_out_is_counted(tmp_path):
    rng = np.random.default_rng(0)
    kinds = [*["a", "b", None] * 20]
    slides = [probe_slide(f"S{i}", kinds) for i in range(4)]
    slides.append(probe_slide("bare", ["a", "b", "c"] * 20, genes=("EPCAM",)))
    vectors = [unit(rng.normal(size=(60, 4))) for _ in slides]
    store = probe_store(tmp_path, slides, vectors, image=[True, True, True, False, True])
    found = run_probe(store, ProbeSettings(label="region", classes=("a", "b"), C=1.0))
    assert found.counts.spots == 160
    assert found.notes[:3] == (
        "60 of 300 spots were left out: they have no image embeddings of encoder 'vec'.",
        "60 of 240 spots were left out: they have no label 'region'.",
        "20 spots of other classes were left out.",
    )
    gene = run_probe(store, ProbeSettings(gene="CD8A", features="gene", C=1.0))
    assert gene.notes[0] == "60 of 300 spots were left out: they have no measurement of CD8A."


def test_whole_numbers_are_classes(tmp_path):
    rng = np.random.default_rng(0)
    slides = [probe_slide(f"S{i}", [0.0, 1.0, np.nan, 10.0] * 10) for i in range(2)]
    store = probe_store(tmp_path, slides, [unit(rng.normal(size=(40, 4))) for _ in slides])
    found = run_probe(store, ProbeSettings(label="region", C=1.0))
    assert found.classes == ("0", "1", "10")
    assert found.counts.spots == 60


def test_more_spots_than_allowed_are_sampled_evenly(world):
    found = run_probe(world, ProbeSettings(label="region", max_spots=60, C=1.0))
    assert found.counts.spots == 60
    assert any(note.startswith("60 of 240 spots were used") for note in found.notes)
    per_slide = found.to_pandas()["slide_id"].value_counts()
    assert per_slide.min() >= 13
    assert per_slide.max() <= 17


def test_a_class_that_a_fold_lacks_is_left_out_of_its_numbers_and_noted(tmp_path):
    rng = np.random.default_rng(0)
    kinds = [["a", "b"] * 20, ["a", "b", "c", "c"] * 10, ["c", "b"] * 20]
    slides = [probe_slide(f"S{i}", kind) for i, kind in enumerate(kinds)]
    store = probe_store(tmp_path, slides, [unit(rng.normal(size=(40, 4))) for _ in slides])
    found = run_probe(store, ProbeSettings(label="region", C=1.0))
    assert "Fold 1 holds out no spot of 'c'; its numbers are over the other classes." in found.notes
    frame = found.to_pandas()
    first = frame[frame["fold"] == 1]
    recall = first.groupby("truth")["right"].mean()
    assert found.folds[0].scores["balanced_accuracy"] == pytest.approx(recall.mean())
    assert len(recall) == 2


def test_a_single_training_slide_has_its_c_chosen_between_its_blocks(tmp_path):
    store = random_world(tmp_path, n_slides=2, n=100)
    found = run_probe(store, ProbeSettings(label="region", block_um=300.0))
    assert any("chosen between blocks" in note for note in found.notes)
    coarse = run_probe(store, ProbeSettings(label="region", block_um=1e6))
    assert [fold.C for fold in coarse.folds] == [1.0, 1.0]
    assert any("C is 1 where" in note for note in coarse.notes)


def test_a_store_of_one_encoder_version_is_named_in_the_result(world, result):
    assert result.source.store_id == world.store_id
    assert result.source.store_version == world.version
    assert result.source.fingerprint == world.card.fingerprint
    other = run_probe(world, ProbeSettings(gene="CD8A", C=0.01))
    assert other.source.split_hash == result.source.split_hash  # the same spots in the same folds
    by_spot = run_probe(world, ProbeSettings(label="region", split="spot", C=1.0))
    assert by_spot.source.split_hash != result.source.split_hash


@pytest.mark.parametrize("asked", [{"label": "region", "C": 1.0}, {"gene": "G0", "C": 1.0}])
def test_a_result_is_read_back_from_its_json_as_it_was(tmp_path, asked):
    from stamp_index.evaluate.probe.reading import result_from_json

    store = random_world(tmp_path)
    if "gene" in asked:
        asked = {**asked, "gene": store.genes[0]}
    found = run_probe(store, ProbeSettings(**asked))
    again = result_from_json(found.to_json(predictions=True))
    assert again.to_json(predictions=True) == found.to_json(predictions=True)
    assert again.settings == found.settings
    assert again.to_python() == found.to_python()
    pd.testing.assert_frame_equal(again.to_pandas(), found.to_pandas(), check_dtype=False)


def test_features_are_scaled_by_one_number_so_that_loud_directions_stay_loud():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 3)) * [10.0, 1.0, 0.0] + [5.0, -2.0, 7.0]).astype(np.float32)
    train, test = np.arange(300), np.arange(300, 400)
    fit, held = scaled(x, train, test)
    np.testing.assert_allclose(fit.mean(axis=0), 0, atol=1e-5)
    assert fit.var(axis=0).mean() == pytest.approx(1)
    assert fit[:, 0].std() / fit[:, 1].std() == pytest.approx(
        x[train, 0].std() / x[train, 1].std(), rel=1e-4
    )
    np.testing.assert_allclose(held - fit[0], (x[test] - x[0]) * (fit[1, 0] - fit[0, 0]) / (x[1, 0] - x[0, 0]), atol=1e-4)  # fmt: skip


def test_features_that_never_vary_are_centred_and_left():
    fit, held = scaled(np.ones((30, 2), np.float32), np.arange(20), np.arange(20, 30))
    assert not fit.any()
    assert not held.any()
