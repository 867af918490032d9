"""HER2ST in its repository's layout: expression and regions with patients held out, and what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from stamp_index.cli_benchmark import benchmark
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import evaluate_expression
from stamp_index.evaluate.public.her2st_full import TITLE, run_her2st
from stamp_index.evaluate.public.her2st_sections import (
    data_folder,
    find_sections,
    label_file,
    read_labels,
    read_section,
)
from stamp_index.evaluate.split import split_by_patient
from stamp_index.evaluate.suite.report import read_report
from stamp_index.store import Store
from tests.her2st_files import GENES
from tests.public_files import REGIONS, write_encoder, write_her2st

PROBE = "Linear probe, leave one patient out"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return write_her2st(tmp_path_factory.mktemp("her2st"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"), GENES)


@pytest.fixture(scope="module")
def measured(clone, encoder, tmp_path_factory):
    """Report of one command, and the store that it made."""
    folder = tmp_path_factory.mktemp("measured")
    asked = ["her2st", clone, "--encoder", encoder, "--store", folder / "store", "--out", folder / "out"]  # fmt: skip
    ran = CliRunner().invoke(benchmark, [*map(str, asked), "--quiet"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert "<svg" in (folder / "out" / "report.html").read_text()
    return read_report(folder / "out" / "report.json"), folder / "store"


def test_labels_are_joined_by_place(clone):
    data = data_folder(clone)
    slide = read_section(data, "A1", find_sections(data)["A1"])
    x = np.array([int(name.split("x")[0]) for name in slide.spots.index])
    expected = ["undetermined", "adipose tissue", *(REGIONS[int(one >= 6)] for one in x[2:])]
    assert slide.spots["region"].tolist() == expected
    assert "region" not in read_section(data, "A2", find_sections(data)["A2"]).spots
    assert data_folder(data) == data  # the data folder alone is taken too


def test_every_patient_is_predicted_from_the_others(measured):
    report, path = measured
    store = Store.open(path)
    rows = [row for row in report.rows(TITLE) if row.get("patient")]
    assert list(dict.fromkeys(row["patient"] for row in rows)) == ["A", "B", "C"]
    alone = evaluate_expression(store, split_by_patient(store.slides(), ["A"]))
    slow = {(row["genes"], row["method"]): row["mean Pearson"] for row in alone.rows if row["on"] == "all test"}  # fmt: skip
    found = {(row["genes"], row["method"]): row["mean Pearson"] for row in rows if row["patient"] == "A"}  # fmt: skip
    assert found == slow
    means = [row for row in report.rows(TITLE) if "patients" in row]
    for row in means:
        values = [one["mean Pearson"] for one in rows if (one["genes"], one["method"]) == (row["genes"], row["method"])]  # fmt: skip
        held = [value for value in values if value is not None]
        assert row["patients"] == len(values)
        if held:
            assert row["mean Pearson"] == pytest.approx(np.mean(held))
        if len(held) > 1:
            assert row["low"] <= row["mean Pearson"] <= row["high"]
    assert {"HVG-50, A held out", "HVG-50, C held out"} <= {one["label"] for one in report.genes}


def test_regions_are_probed_without_what_is_undetermined(measured):
    report, path = measured
    rows = [row for row in report.rows(PROBE) if "chance" in row]
    assert [row["features"] for row in rows] == ["image", "gene", "both"]
    assert {row["folds"] for row in rows} == {3}
    assert {row["classes"] for row in rows} == {2}
    # 23 spots of each of three sections have counts; one of each is undetermined, and one of A alone is fat
    assert {row["N"] for row in rows} == {65}
    assert any("one patient alone has them: adipose tissue" in note for note in report.notes)
    assert rows[1]["balanced_accuracy"] > 0.7
    assert any("HER2ST has eight patients; 3 are here" in note for note in report.notes)
    assert report.store["n_slides"] == 4


def test_given_genes_are_predicted_from_a_store_that_is_there(clone, measured):
    version = Store.open(measured[1]).version
    report = run_her2st(clone, measured[1], genes=["ERBB2", "COL1A1"])
    assert {row["genes"] for row in report.rows(TITLE)} == {"given"}
    assert {len(one["names"]) for one in report.genes} == {2}
    assert report.store["version"] == version  # nothing was embedded again
    genes = next(iter(report.paired["expression"].values()))
    assert set(genes) == {"ERBB2", "COL1A1"}


def test_what_cannot_be_measured_is_said(clone, encoder, tmp_path):
    copy = shutil.copytree(clone, tmp_path / "clone")
    shutil.rmtree(copy / "data" / "ST-imgs")
    report = run_her2st(copy, tmp_path / "store", encoder=encoder)
    assert not report.rows(TITLE)
    assert any(note.startswith("Not measured: expression of patient A.") for note in report.notes)
    assert [row["features"] for row in report.rows(PROBE) if "chance" in row] == ["gene"]
    shutil.rmtree(copy / "data" / "ST-pat")
    with pytest.raises(EvaluationError, match=r"Nothing could be measured.*no table of the pathol"):
        run_her2st(copy, tmp_path / "store 2", encoder=encoder)


def test_labels_where_the_readme_says_are_found_too(clone, tmp_path):
    copy = shutil.copytree(clone, tmp_path / "clone")
    (copy / "res").mkdir()
    (copy / "data" / "ST-pat").rename(copy / "res" / "ST-pat")
    assert label_file(copy / "data", "A1") == copy / "res/ST-pat/lbl/A1_labeled_coordinates.tsv"


def test_missing_and_odd_files_are_one_sentence(clone, tmp_path):
    copy = shutil.copytree(clone, tmp_path / "clone")
    data = copy / "data"
    counts = find_sections(data)
    table = data / "ST-pat" / "lbl" / "A1_labeled_coordinates.tsv"
    text = table.read_text()
    for changed, words in (
        (text.replace("label", "said"), "has no column label"),
        (text + text.splitlines()[2] + "\n", "labels a place twice"),
        ("x\ty\tlabel\n", "has no place with a label"),
        ("x\ty\tlabel\n" + "".join(f"{i}\t40\tfat\n" for i in range(30)), "labels 0 of the 23"),
    ):
        table.write_text(changed)
        with pytest.raises(EvaluationError, match=words):
            read_section(data, "A1", counts["A1"])
    table.write_text(text)
    (data / "ST-spotfiles" / "A1_selection.tsv").unlink()
    with pytest.raises(EvaluationError, match=r"no file .*A1_selection\.tsv"):
        read_section(data, "A1", counts["A1"])
    with pytest.raises(EvaluationError, match="There is no folder"):
        data_folder(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="neither data/ST-cnts nor ST-cnts"):
        data_folder(tmp_path)
    (tmp_path / "ST-cnts").mkdir()
    with pytest.raises(EvaluationError, match="has no counts"):
        find_sections(tmp_path)


def test_one_patient_is_refused(tmp_path, encoder):
    clone = write_her2st(tmp_path / "clone", sections=("A1", "A2"), labelled=())
    with pytest.raises(EvaluationError, match="of patient A, so none can be held out"):
        run_her2st(clone, tmp_path / "store", encoder=encoder)


def test_real_tables_of_the_pathologist_name_the_spots_of_their_sections(shared_data):
    data = data_folder(shared_data / "her2st")
    counts = find_sections(data)
    for name, n in (("A1", 346), ("C1", 176)):
        slide = read_section(data, name, counts[name])
        assert slide.spots["region"].notna().sum() == n == slide.n_spots
    with pytest.raises(EvaluationError, match="has no column x"):
        read_labels(data / "ST-cluster" / "motivation.csv")
