"""A store measured as a whole: every part, its files, what it cannot answer, and what it refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from stamp_index.cli import main
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import hest_published
from stamp_index.evaluate.retrieval.rows import near_chance
from stamp_index.evaluate.split import make_split, split_by_patient
from stamp_index.evaluate.suite.asked import SuiteSettings
from stamp_index.evaluate.suite.report import read_report
from stamp_index.evaluate.suite.run import evaluate_store
from stamp_index.store import Store
from tests.plain_world import mixed_store
from tests.probe_world import CLASSES, probe_slide, probe_store, random_world, unit

TESTED = ("--test-patient", "P3", "--test-patient", "P4")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four patients; images and genes have the same embedding, so that everything is found."""
    return random_world(tmp_path_factory.mktemp("suite"), n_slides=4, n=60, signal=2.0)


@pytest.fixture(scope="module")
def report(store):
    split = split_by_patient(store.slides(), ["P3", "P4"])
    return evaluate_store(store, split)


def run(*arguments: object):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_every_part_that_can_be_measured_is_there(report, store):
    titles = [one["title"] for one in report.sections]
    assert titles[:3] == ["Retrieval", "Retrieval within each slide", "What the hits are like"]
    assert titles[3:5] == ["Expression", "Expression gene by gene"]
    assert "Linear probe" in titles
    assert any(title.startswith("Spatial domains") for title in titles)
    assert any("has no image index" in note for note in report.notes)
    assert report.split["test"] == ["S3", "S4"]
    assert report.store["version"] == store.version
    labels = [one["label"] for one in report.genes]
    assert {"HVG-50", "all"} <= set(labels)
    assert len(set(labels)) == len(labels), "one list of each kind, for all parts"


def test_what_is_the_same_on_both_sides_is_found_and_baselines_stand_beside(report, store):
    rows = [row for row in report.rows("Retrieval") if row["gallery"] == "all"]
    found = {(row["encoder"], row["direction"]): row for row in rows}
    ours = found[store.encoder, "image_to_gene"]
    assert ours["R@1"] == 1.0
    assert (ours["queries"], ours["N"], ours["patients"]) == (120, "120", 2)
    assert ours["test spots of"] == "patients not known to be new"
    assert found["random", "image_to_gene"]["R@10"] < 0.3
    names = {name for name, _ in found}
    assert {"random", "mean of training", "PCA + ridge on its images", "CCA on its images"} <= names
    (probe,) = [row for row in report.rows("Linear probe") if row["features"] == "image"]
    assert probe["held out by"] == "patient"
    assert probe["balanced_accuracy"] > probe["chance"] + 0.2


def test_published_protocols_are_measured_on_the_splits_own_spots(report, store):
    (hest, corrected) = report.rows("HEST-Benchmark's protocol")
    assert (hest["protocol"], corrected["protocol"]) == ("hest", "hest corrected")
    assert (hest["N test"], hest["N train"]) == (120, 120)
    (genes,) = [one["names"] for one in report.genes if one["label"] == "HVG-50"]
    rows = np.concatenate([np.arange(120), np.arange(120, 240)])
    counts = store.counts(genes, rows)
    fold = np.arange(120), np.arange(120, 240)
    slow = hest_published(store.vectors("image", rows).astype(np.float32), counts, genes, [fold])
    assert hest["mean Pearson"] == pytest.approx(slow.mean, nan_ok=True)
    (leaking,) = report.rows("ST-Align's protocol")
    assert (leaking["slides"], leaking["N"]) == (2, 120)
    assert leaking["MSE of the training mean"] > 0


def test_the_command_line_writes_three_files_that_can_be_compared(store, tmp_path):
    ran = run("evaluate", store.path, *TESTED, "--suite", "retrieval", "--out", tmp_path, "--quiet")
    assert ran.exit_code == 0, ran.output
    assert "Wrote" in ran.output
    assert "## Retrieval" in (tmp_path / "report.md").read_text()
    made = read_report(tmp_path / "report.json")
    assert [one["title"] for one in made.sections][0] == "Retrieval"
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert made.to_markdown_row().count("|") == 17
    json_path = tmp_path / "report.json"
    compared = run("compare", json_path, json_path)
    assert compared.exit_code == 0, compared.output
    assert "| R@10 | patients not known to be new | image_to_gene | 120 |" in compared.output
    held = json.loads(json_path.read_text())
    held["split"]["test"] = ["S1"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(held))
    refused = run("compare", json_path, other)
    assert refused.exit_code == 1
    assert "other test slides" in refused.output


def test_the_same_store_gives_the_same_report(store, report):
    split = split_by_patient(store.slides(), ["P3", "P4"])
    again = evaluate_store(store, split, SuiteSettings(parts=("retrieval", "expression")))
    assert again.rows("Retrieval") == report.rows("Retrieval")
    assert again.paired["expression"] == report.paired["expression"]


def test_sections_of_a_patient_that_was_learnt_from_stand_apart(tmp_path):
    store = random_world(tmp_path, n_slides=4, n=30, n_patients=3)
    split = make_split(store.slides(), ["S1"], ["S2", "S4"], by="section")
    found = evaluate_store(store, split, SuiteSettings(parts=("retrieval",)))
    kinds = {
        row["slide"]: row["test spots of"] for row in found.rows("Retrieval within each slide")
    }
    assert kinds == {"S2": "patients not known to be new", "S4": "patients that were learnt from"}
    assert {row["N"] for row in found.rows("Retrieval")} == {"30"}
    assert any("sections of a patient look alike" in note for note in found.notes)


def test_parts_that_a_store_cannot_answer_are_said(tmp_path):
    store, _, _ = mixed_store(tmp_path)
    found = evaluate_store(store, None, SuiteSettings(parts=("retrieval", "expression", "probe")))
    assert any(
        "Not in retrieval, as they lack images or gene profiles: W" in n for n in found.notes
    )
    assert any(note.startswith("Not measured: expression.") for note in found.notes)
    assert any("no slide that the encoder is known to have learnt from" in n for n in found.notes)
    plain = make_split(store.slides(), [], ["W"])
    with pytest.raises(EvaluationError, match="Nothing could be measured"):
        evaluate_store(store, plain, SuiteSettings(parts=("retrieval", "expression")))


def test_a_class_of_one_patient_alone_is_left_out_of_the_probe_and_said(tmp_path):
    store = random_world(tmp_path, n_slides=3, n=60, signal=2.0)
    rows = np.flatnonzero(store.mask_of(store.slides()["slide_id"].eq("S2").to_numpy()))
    names = store.label("region", rows).to_numpy().copy()
    names[:10] = "rare"
    store.annotate("S2", "region", list(names), author="test", source="test")
    split = make_split(store.slides(), [], ["S1", "S2", "S3"])
    found = evaluate_store(Store.open(store.path), split, SuiteSettings(parts=("probe",)))
    assert {row["held out by"] for row in found.rows("Linear probe")} == {"patient"}
    assert any("as one patient alone has them: rare" in note for note in found.notes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--label", "nothing"), "no label 'nothing'"),
        (("--test-patient", "P9"), "no patient 'P9'"),
        (("--mpp", "0.5"), "--mpp belongs to a run"),
        (("--gene", "NOSUCH", *TESTED, "--suite", "expression"), "NOSUCH"),
        (("--exclude", "nothing", *TESTED, "--suite", "domains"), "no class 'nothing'"),
    ],
)
def test_bad_questions_are_refused_in_a_sentence(store, arguments, words):
    ran = run("evaluate", store.path, *arguments, "--quiet")
    assert ran.exit_code != 0
    assert words in ran.output
    assert "Traceback" not in ran.output


def test_options_of_a_store_mean_nothing_for_a_run(store, tmp_path):
    ran = run("evaluate", store.path, tmp_path, "--label", "x", "--quiet")
    assert ran.exit_code == 2
    assert "--label belongs to a store" in ran.output


def test_what_is_no_store_is_said(tmp_path):
    ran = run("evaluate", tmp_path, "--quiet")
    assert ran.exit_code == 1
    assert "Traceback" not in ran.output


def test_unknown_parts_are_refused():
    with pytest.raises(EvaluationError, match="no part speed"):
        SuiteSettings(parts=("speed",))


def test_a_class_to_leave_out_that_is_not_there_is_refused(store):
    settings = SuiteSettings(parts=("retrieval",), label="region", exclude=("fatt",))
    split = split_by_patient(store.slides(), ["P3", "P4"])
    with pytest.raises(EvaluationError, match="no class 'fatt' to leave out: label 'region' has"):
        evaluate_store(store, split, settings)
    with pytest.raises(TypeError, match=r"Store.open\(path\)"):
        evaluate_store(str(store.path), split)


def test_probes_hold_out_each_patient_where_they_are_few_and_slides_where_none_is_known(tmp_path):
    known = random_world(tmp_path / "known", n_slides=4, n=60, signal=2.0)
    (row,) = evaluate_store(known, None, SuiteSettings(parts=("probe",))).rows("Linear probe")[:1]
    assert (row["held out by"], row["folds"]) == ("patient", 4)
    assert row["majority"] == pytest.approx(1 / 3, abs=0.05)
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, (4, 60))
    slides = [
        probe_slide(f"S{at}", [CLASSES[one] for one in kind[at]], patient="P1" if at == 0 else "")
        for at in range(4)
    ]
    vectors = [unit(np.eye(3, 8)[one] * 2 + rng.normal(size=(60, 8))) for one in kind]
    nobody = probe_store(tmp_path / "nobody", slides, vectors)
    (row,) = evaluate_store(nobody, None, SuiteSettings(parts=("probe",))).rows("Linear probe")[:1]
    assert row["held out by"] == "slide"


def test_near_spots_have_a_chance_of_their_own():
    sizes, m, k = np.array([20, 20]), np.array([1, 5]), np.array([10, 10])
    found = near_chance(sizes, m, k)
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(20)[:10] for _ in range(4000)]
    assert found[0] == pytest.approx(0.5)
    assert found[1] == pytest.approx(np.mean([(one < 5).any() for one in drawn]), abs=0.02)


def test_a_label_that_measures_is_refused_before_anything_is_computed(store, tmp_path):
    split = split_by_patient(store.slides(), ["P3", "P4"])
    copy = Store.open(shutil.copytree(store.path, tmp_path / "copy"))
    for slide in copy.slides()["slide_id"]:
        copy.annotate(slide, "depth", [at / 7 for at in range(60)], author="test")
    copy.refresh()
    with pytest.raises(EvaluationError, match="'depth' is a measurement"):
        evaluate_store(copy, split, SuiteSettings(label="depth"))


def test_a_gene_that_is_constant_on_the_tested_slides_takes_nothing_else_away(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(20.0, (4, 30, 3))
    counts[3, :, 0] = 0
    slides = [
        probe_slide(f"S{at}", ["a"] * 30, patient=f"P{at}", counts=counts[at]) for at in range(4)
    ]
    store = probe_store(tmp_path, slides, [unit(rng.normal(size=(30, 8))) for _ in range(4)])
    split = split_by_patient(store.slides(), ["P3"])
    zero = SuiteSettings(parts=("retrieval", "expression"), genes=store.genes[:1])
    flat = evaluate_store(store, split, zero)
    assert {"Retrieval", "Expression"} <= {one["title"] for one in flat.sections}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"parts": "retrieval"}, "parts is 'retrieval'"),
        ({"parts": ("ann", "ann")}, "names each once"),
        ({"genes": ("CD8A", "CD8A")}, "names each once"),
        ({"exclude": "fat"}, "exclude is 'fat'"),
        ({"seed": -1}, "seed is -1"),
        ({"parts": ("speed",)}, "no part speed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed, message):
    with pytest.raises(EvaluationError, match=message):
        SuiteSettings(**changed)


def test_a_folder_that_cannot_hold_a_report_is_refused_before_it_is_measured(store, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    for folder in (file, tmp_path / "taken"):
        ran = run("evaluate", store.path, *TESTED, "--out", folder, "--quiet")
        assert ran.exit_code == 1
        assert "cannot be saved" in ran.output
    only = run("evaluate", store.path, *TESTED, "--suite", "retrieval", "--gene", "CD8A")
    assert only.exit_code == 2
    assert "--gene is of the part expression" in only.output
