"""HEST-Benchmark in its published layout: numbers as its own code gives them, and files that are missing or odd."""

from __future__ import annotations

import json
import shutil

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import pearsonr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from stamp_index.cli_benchmark import benchmark
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import hest_corrected
from stamp_index.evaluate.public.features import (
    PatchFeatures,
    backbone_features,
    checkpoint_features,
    sample_features,
)
from stamp_index.evaluate.public.hest_benchmark import (
    CORRECTED,
    PUBLISHED,
    gene_candidates,
    run_hest_benchmark,
)
from stamp_index.evaluate.public.hest_tables import read_task_table
from stamp_index.evaluate.public.hest_task import find_tasks, read_task
from stamp_index.evaluate.public.published_values import hest_rows
from stamp_index.evaluate.suite.compare import compare_reports
from stamp_index.evaluate.suite.report import read_report
from tests.public_files import (
    HEST_GENES,
    HEST_LIST,
    HEST_SPOTS,
    HEST_TASKS,
    write_encoder,
    write_hest,
    write_split,
)


def colours(images):
    """Features that need no network: mean and spread of each channel."""
    flat = images.reshape(len(images), -1, 3).astype(np.float32)
    return np.concatenate([flat.mean(axis=1), flat.std(axis=1)], axis=1)


COLOURS = PatchFeatures("colours", "c010", colours)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return write_hest(tmp_path_factory.mktemp("hest") / "bench_data")


@pytest.fixture(scope="module")
def report(bench, tmp_path_factory):
    return run_hest_benchmark(bench, COLOURS, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def copied(bench, tmp_path):
    """A benchmark of one task, that a test may damage."""
    shutil.copytree(bench / "IDC", tmp_path / "bench" / "IDC")
    return tmp_path / "bench"


def as_hest_does_it(task):
    """Mean Pearson of each fold: predict_single_split and train_test_reg of mahmoodlab/HEST, line by line."""
    genes = json.loads((task / "var_50genes.json").read_text())["genes"]
    means = []
    for fold in range(len(list((task / "splits").iterdir())) // 2):
        held = {}
        for side in ("train", "test"):
            x, y = [], []
            for _, row in pd.read_csv(task / "splits" / f"{side}_{fold}.csv").iterrows():
                with h5py.File(task / row["patches_path"]) as file:
                    barcodes = file["barcode"][:].flatten().astype(str).tolist()
                    x.append(colours(file["img"][:]))
                adata = anndata.read_h5ad(task / row["expr_path"])[barcodes][:, genes]
                y.append(np.log1p(adata.to_df().to_numpy(np.float64)))
            held[side] = np.concatenate(x), np.concatenate(y)
        (x_train, y_train), (x_test, y_test) = held["train"], held["test"]
        pipe = Pipeline(
            [("scaler", StandardScaler()), ("PCA", PCA(n_components=6, random_state=1))]
        )
        x_train = pipe.fit_transform(x_train).astype(np.float32)
        x_test = pipe.transform(x_test).astype(np.float32)
        alpha = 100 / (x_train.shape[1] * y_train.shape[1])
        reg = Ridge(solver="lsqr", alpha=alpha, random_state=1, fit_intercept=False, max_iter=1000)
        predicted = reg.fit(x_train, y_train).predict(x_test)
        means.append(
            np.mean([pearsonr(y_test[:, i], predicted[:, i])[0] for i in range(len(genes))])
        )
    return means


def test_the_published_protocol_gives_what_the_published_code_gives(bench, report):
    rows = {row["task"]: row for row in report.rows(PUBLISHED) if "task" in row}
    assert set(rows) == set(HEST_TASKS)
    for task, row in rows.items():
        slow = as_hest_does_it(bench / task)
        assert row["mean Pearson"] == pytest.approx(np.mean(slow), abs=1e-6)
        assert row["mean Pearson"] > 0.4  # so patches and counts are of the same spots
        assert row["sd of folds"] == pytest.approx(np.std(slow), abs=1e-6)
        assert (row["samples"], row["folds"], row["N"]) == (3, 3, 3 * HEST_SPOTS)
    ours = next(row for row in report.rows(PUBLISHED) if row.get("from") == "measured here")
    assert ours["mean"] == pytest.approx(np.mean([row["mean Pearson"] for row in rows.values()]))


def test_published_numbers_stand_beside_and_are_marked(report):
    beside = [row for row in report.rows(PUBLISHED) if row.get("from") == "published"]
    resnet = next(row for row in beside if row["encoder"] == "ResNet50")
    assert (resnet["IDC"], resnet["SKCM"]) == (0.4741, 0.4822)
    assert resnet["mean"] == pytest.approx((0.4741 + 0.4822) / 2)
    # The README's own means, to its digits.
    every = ["IDC", "PRAD", "PAAD", "SKCM", "COAD", "READ", "CCRCC", "LUNG", "LYMPH_IDC"]
    means = {row["encoder"]: row["mean"] for row in hest_rows(every)}
    said = {"ResNet50": 0.326, "UNI": 0.3862, "H-optimus-0": 0.4146, "CONCH": 0.3709}
    assert {name: means[name] for name in said} == pytest.approx(said, abs=2e-4)
    assert "mean" not in hest_rows(["IDC", "HCC"])[0]  # HCC has no published number there
    assert hest_rows(["MINE"]) == []


def test_the_corrected_protocol_is_that_of_all_genes_without_holding_them_densely(bench, report):
    task = read_task(bench / "IDC")
    held = read_task_table(task)
    assert held.genes == HEST_GENES
    at = gene_candidates(held.counts, held.folds, 5)
    assert 10 <= len(at) < len(HEST_GENES)
    features = np.concatenate([colours(images_of(one.patches)) for one in task.samples])
    patients = [task.patients[name] for name in held.slide]
    every, some = (
        hest_corrected(
            features, held.counts[:, columns].toarray(), [held.genes[i] for i in columns],
            held.folds, patients=patients, n_genes=5,
        )
        for columns in (np.arange(len(HEST_GENES)), at)
    )  # fmt: skip
    assert [fold.genes for fold in some.folds] == [fold.genes for fold in every.folds]
    assert some.mean == every.mean
    rows = {row["task"]: row for row in report.rows(CORRECTED)}
    assert set(rows) == {*HEST_TASKS, "mean of tasks"}
    assert any("tested together count as one patient" in note for note in report.notes)


def images_of(path):
    with h5py.File(path) as file:
        return file["img"][:]


def test_counts_follow_the_barcodes_of_the_patches(bench):
    task = read_task(bench / "SKCM")
    held = read_task_table(task)
    made = anndata.read_h5ad(task.samples[0].counts)
    with h5py.File(task.samples[0].patches) as file:
        names = file["barcode"][:].flatten().astype(str)
    np.testing.assert_array_equal(
        held.published[:HEST_SPOTS], made[names][:, list(HEST_LIST)].X.toarray()
    )
    train, test = held.folds[0]
    assert set(held.slide[test]) == {"B1"}
    assert set(held.slide[train]) == {"B2", "B3"}


def test_metadata_beside_the_tasks_say_whose_samples_are(copied):
    table = pd.DataFrame({"id": ["A1", "A2", "A3"], "patient": ["P1", "P1", ""]})
    table.to_csv(copied / "HEST_v1_1_0.csv", index=False)
    task = read_task(copied / "IDC")
    assert task.patients == {"A1": "P1", "A2": "P1", "A3": "[A3]"}
    found = run_hest_benchmark(copied, COLOURS, cache=copied / "cache")
    assert not found.rows(CORRECTED)
    assert any(
        note.startswith("Not measured: IDC corrected. Patient P1 is on both sides")
        for note in found.notes
    )


def test_samples_with_the_same_counts_are_named(copied):
    for kind, name in (("adata", "h5ad"), ("patches", "h5")):
        content = (copied / "IDC" / kind / f"A1.{name}").read_bytes()
        (copied / "IDC" / kind / f"A3.{name}").write_bytes(content)
    notes = read_task_table(read_task(copied / "IDC")).notes
    assert notes == (
        "IDC: samples A1, A3 have the same counts, some of them are tested against the others.",
    )


def test_features_are_made_once(copied, tmp_path):
    calls = []
    counting = PatchFeatures("counting", "1", lambda images: calls.append(len(images)) or colours(images))  # fmt: skip
    path = copied / "IDC" / "patches" / "A1.h5"
    told = []
    first = sample_features(counting, path, tmp_path / "cache", progress=told.append)
    again = sample_features(counting, path, tmp_path / "cache", progress=told.append)
    np.testing.assert_array_equal(first, again)
    assert (sum(calls), sum(told)) == (HEST_SPOTS, 2 * HEST_SPOTS)
    other = PatchFeatures("other", "2", counting.embed)
    sample_features(other, path, tmp_path / "cache")
    assert sum(calls) == 2 * HEST_SPOTS


def test_an_encoder_of_ours_is_measured_by_one_command(bench, tmp_path):
    encoder = write_encoder(tmp_path / "encoder", HEST_GENES)
    asked = ["hest", bench, "--encoder", encoder, "--task", "IDC", "--out", tmp_path / "out"]
    ran = CliRunner().invoke(benchmark, [*map(str, asked), "--quiet"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert f"## {PUBLISHED}" in ran.output
    made = read_report(tmp_path / "out" / "report.json")
    assert made.encoder["name"] == "ridge"
    assert made.split["test"] == ["IDC/A1", "IDC/A2", "IDC/A3"]
    assert any("resampled from 224 to 96 px" in note for note in made.notes)
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    assert len(list((tmp_path / "out" / "features" / "IDC").glob("*.npy"))) == 3
    rows = compare_reports(made, made)
    assert [row["on"] for row in rows] == [f"{PUBLISHED}, IDC"]
    assert rows[0]["B - A"] == 0.0


def test_patches_are_fitted_to_what_the_encoder_looks_at(tmp_path):
    narrow = checkpoint_features(write_encoder(tmp_path / "narrow", HEST_GENES, width_um=56.0))
    assert any("middle of each patch of 112 um was cut out" in note for note in narrow.notes)
    images = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), np.uint8)
    framed = images.copy()
    framed[:, :50] = 0  # outside the middle 112 px
    np.testing.assert_array_equal(narrow.embed(images), narrow.embed(framed))
    with pytest.raises(EvaluationError, match=r"looks at patches of 200 um.*stores 112 um"):
        checkpoint_features(write_encoder(tmp_path / "wide", HEST_GENES, width_um=200.0))


def test_a_backbone_is_measured_from_weights_that_are_here_alone():
    made = backbone_features("efficientnet_lite0")
    images = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), np.uint8)
    assert made.embed(images).shape == (2, 320)
    assert made.fingerprint == backbone_features("efficientnet_lite0").fingerprint
    for weights in ("", "hub"):
        with pytest.raises(EvaluationError, match="downloads nothing"):
            backbone_features("uni", weights)


def lose(name):
    return lambda task: (task / name).unlink()


def damage(name, content):
    return lambda task: (task / name).write_text(content)


def without_barcode(task):
    with h5py.File(task / "patches" / "A2.h5", "a") as file:
        del file["barcode"]


def small_patches(task):
    with h5py.File(task / "patches" / "A2.h5", "a") as file:
        del file["img"]
        file["img"] = np.zeros((HEST_SPOTS, 96, 96, 3), np.uint8)


def other_spots(task):
    made = anndata.read_h5ad(task / "adata" / "A2.h5ad")
    made.obs_names = [f"other {name}" for name in made.obs_names]
    made.write_h5ad(task / "adata" / "A2.h5ad")


def leads_out(task):
    path = task / "splits" / "train_0.csv"
    path.write_text(path.read_text().replace("patches/A2.h5", "../../A2.h5"))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lose("var_50genes.json"), r"no file .*var_50genes\.json"),
        (damage("var_50genes.json", "{"), "cannot be read as JSON"),
        (damage("var_50genes.json", '["G00"]'), "has no list of gene names"),
        (damage("var_50genes.json", '{"genes": ["G00", "NOT"]}'), r"not each gene.*such as NOT"),
        (lose("splits/train_0.csv"), r"has train_1\.csv, train_2\.csv\. Expected train_0\.csv"),
        (lose("splits/test_1.csv"), r"no file .*test_1\.csv"),
        (damage("splits/test_1.csv", "sample,patches\nA,b\n"), "has no column sample_id"),
        (damage("splits/test_1.csv", "sample_id,patches_path,expr_path\n"), "names no sample"),
        (lambda task: write_split(task, "test_0", ["A1", "A2"]), "trains on and tests 24 rows"),
        (lose("patches/A3.h5"), r"no file .*A3\.h5"),
        (lose("adata/A3.h5ad"), r"no file .*A3\.h5ad"),
        (damage("adata/A3.h5ad", "no"), r"cannot be read as \.h5ad"),
        (damage("patches/A3.h5", "no"), r"patches .*A3\.h5 cannot be read"),
        (without_barcode, "Expected the datasets img and barcode"),
        (small_patches, r"expected \(N, 224, 224, 3\)"),
        (other_spots, "lacks 24 of its 24 patches"),
        (leads_out, r"names the file '\.\./\.\./A2\.h5'"),
    ],
)
def test_a_missing_or_odd_file_is_one_sentence(copied, break_it, words):
    break_it(copied / "IDC")
    with pytest.raises(EvaluationError, match=words):
        run_hest_benchmark(copied, COLOURS, cache=copied / "cache")


def test_folders_without_tasks_are_refused(tmp_path, bench):
    with pytest.raises(EvaluationError, match="There is no folder"):
        find_tasks(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="has no task at all"):
        find_tasks(tmp_path)
    with pytest.raises(EvaluationError, match="has no task PRAD; it has IDC, SKCM"):
        find_tasks(bench, ["PRAD"])
    assert [one.name for one in find_tasks(bench / "SKCM")] == ["SKCM"]
    assert [one.name for one in find_tasks(bench.parent)] == ["IDC", "SKCM"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["hest", "."], "Give either --encoder or --backbone"),
        (["hest", ".", "--encoder", "a", "--weights", "b"], "--weights belongs to --backbone"),
        (["hest", ".", "--encoder", "a", "--slice", "b"], "--slice belongs to dlpfc"),
        (["dlpfc", ".", "--task", "IDC"], "--task belongs to hest"),
        (["her2st", "."], "Give --encoder, or by --store"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path, options, words):
    ran = CliRunner().invoke(benchmark, [*options, "--out", str(tmp_path / "out")])
    assert ran.exit_code == 2
    assert words in ran.output


def test_spavis_says_why_there_is_no_benchmark(tmp_path):
    with pytest.raises(EvaluationError, match="no published test set"):
        CliRunner().invoke(
            benchmark, ["spavis", ".", "--out", str(tmp_path)], catch_exceptions=False
        )
