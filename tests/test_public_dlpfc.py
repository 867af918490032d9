"""The DLPFC slices in the layout in which they are passed around: layers, donors, protocol, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from stamp_index.cli_benchmark import benchmark
from stamp_index.evaluate.domains import evaluate_domains
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.public.dlpfc import run_dlpfc
from stamp_index.evaluate.public.dlpfc_slices import (
    DONORS,
    SLICES,
    find_slices,
    read_layers,
    read_slice,
)
from stamp_index.evaluate.public.published_values import st_align_rows
from stamp_index.evaluate.public.store import store_of
from stamp_index.evaluate.suite.report import read_report
from stamp_index.readers import read
from stamp_index.store import Store
from tests.public_files import LAYERS, write_dlpfc, write_encoder
from tests.space_ranger_run import GENES

PROBE = "Linear probe, leave one donor out"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dlpfc(tmp_path_factory.mktemp("dlpfc") / "DLPFC")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"), ("CD8A", "EPCAM", "TBCE"))


@pytest.fixture(scope="module")
def measured(folder, encoder, tmp_path_factory):
    """Store and report."""
    path = tmp_path_factory.mktemp("store") / "store"
    report = run_dlpfc(folder, path, encoder=encoder, seeds=(0, 1))
    return Store.open(path), report


def test_layers_and_donors_come_from_either_file(folder):
    first, third = (read_slice(folder / name) for name in ("151507", "151669"))
    for slide, donor in ((first, "Br5292"), (third, "Br5595")):
        assert slide.patient_id == donor
        assert slide.mpp is not None
        layers = slide.spots["layer"]
        assert layers.iloc[0] is None  # NA in the file
        assert set(layers.iloc[1:]) == set(LAYERS)
        rows = [int(name[1:].split("-")[0]) for name in slide.spots.index[1:]]
        assert layers.iloc[1:].tolist() == [LAYERS[row // 3] for row in rows]
    assert GENES[0] in first.genes
    assert len(SLICES) == 12
    assert [len(slices) for slices in DONORS.values()] == [4, 4, 4]


def test_a_full_image_beside_is_used(folder, tmp_path):
    from tests.space_ranger_run import Run

    copy = shutil.copytree(folder / "151507", tmp_path / "151507")
    made = Run(tmp_path / "other")
    made.write_tiff("image.tif")
    (made.path / "image.tif").rename(copy / "151507_full_image.tif")
    slide = read_slice(copy)
    assert slide.image.size_px == (4000, 3000)
    assert slide.mpp == pytest.approx(read(folder / "151507").mpp / 5, rel=1e-3)


def test_the_report_has_the_domains_of_each_slice_and_a_probe_by_donor(measured):
    store, report = measured
    titles = [one["title"] for one in report.sections]
    assert titles == ["ARI of the slices", "Spatial domains: layer", PROBE]
    probe = {row["features"]: row for row in report.rows(PROBE) if "chance" in row}
    assert set(probe) == {"image", "gene", "both"}
    assert probe["gene"]["folds"] == 2
    assert probe["gene"]["chance"] == pytest.approx(1 / 3)
    assert probe["gene"]["balanced_accuracy"] > 0.5
    held_out = [row["donor"] for row in report.rows(PROBE) if row["features"] == "gene" and "donor" in row]  # fmt: skip
    assert held_out == ["Br5292", "Br5595"]
    assert store.label("layer").notna().sum() == store.n_spots - 3
    assert report.split["by"] == "donor"
    assert report.split["test"] == ["151507", "151508", "151669"]
    assert any(note.startswith("Of the twelve slices 9 were not measured") for note in report.notes)
    assert any("151669 have pixels wider than 1 um" in note for note in report.notes)
    assert any(note.startswith("151507: Image: tissue_hires_image.png") for note in report.notes)


def test_numbers_of_the_slices_are_those_of_their_domains(measured):
    store, report = measured
    found = evaluate_domains(store, "layer", methods=("kmeans",), features=("gene",), seeds=(0, 1))
    slow = {row["on"]: row["ARI"] for row in found.rows if row["features"] == "gene" and row["scope"] == "slide"}  # fmt: skip
    rows = [row for row in report.rows("ARI of the slices") if row["features"] == "gene" and row["method"] == "kmeans" and row["smoothing"] == "none"]  # fmt: skip
    assert len(rows) == 2  # of the six slices, and of all
    for row in rows:
        assert {name: row[name] for name in slow} == pytest.approx(slow)
        assert row["mean"] == pytest.approx(np.mean(list(slow.values())))


def test_published_numbers_stand_beside_the_six_slices(measured):
    beside = [row for row in measured[1].rows("ARI of the slices") if row["method"] == "published"]
    ours = next(row for row in beside if row["features"] == "ST-Align")
    assert (ours["151507"], ours["151508"], ours["151669"]) == (0.3098, 0.3319, 0.2956)
    means = {row["features"]: row["mean"] for row in st_align_rows(["151507", "151508", "151509", "151669", "151670", "151673"])}  # fmt: skip
    assert means["ST-Align"] == pytest.approx(0.3396, abs=2e-4)
    assert means["UNI"] == pytest.approx(0.1089, abs=2e-4)


def test_a_store_that_has_the_slices_gets_their_layers_and_nothing_twice(folder, encoder, tmp_path):
    from stamp_index.embed.folder import embed_into

    path, slides = tmp_path / "store", [read_slice(folder / name) for name in ("151507", "151669")]
    plain = replace(slides[0], spots=slides[0].spots.drop(columns="layer"))
    embed_into(path, [plain], encoder_path=encoder)
    store = store_of(path, slides, "layer", encoder=encoder)
    assert store.slides()["slide_id"].tolist() == ["151507", "151669"]
    assert store.label("layer").tolist() == [
        one for slide in slides for one in slide.spots["layer"]
    ]
    version = store.version
    assert store_of(path, slides, "layer").version == version
    shifted = slides[0].spots.set_axis([f"X{name}" for name in slides[0].spots.index])
    store.annotate("151507", "layer", [None] * 63, author="test")
    with pytest.raises(EvaluationError, match="a slide 151507 with other spots"):
        store_of(path, [replace(slides[0], spots=shifted)], "layer")
    other = write_encoder(tmp_path / "other", ("CD8A", "EPCAM", "TBCE"), seed=1)
    with pytest.raises(EvaluationError, match="holds embeddings of encoder ridge"):
        store_of(path, slides, "layer", encoder=other)


def test_one_command_goes_from_the_folder_to_the_report(folder, encoder, tmp_path):
    asked = ["dlpfc", folder, "--encoder", encoder, "--slice", "151507", "--out", tmp_path / "out"]
    ran = CliRunner().invoke(benchmark, [*map(str, asked), "--quiet"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    made = read_report(tmp_path / "out" / "report.json")
    assert made.split["test"] == ["151507"]
    assert any("All slides with 'layer' are of one donor" in note for note in made.notes)
    assert "Spatial domains" in (tmp_path / "out" / "report.html").read_text()


def rewrite(name, change):
    def work(path):
        file = path / name
        file.write_text(change(file.read_text()))

    return work


def both_matrices(path):
    shutil.copy(
        path / "filtered_feature_bc_matrix.h5", path / "151507_filtered_feature_bc_matrix.h5"
    )


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda path: (path / "metadata.tsv").unlink(), r"no layers in .*Expected metadata\.tsv"),
        (rewrite("metadata.tsv", lambda text: text.replace("layer_guess", "other")), "no column layer_guess_reordered"),
        (rewrite("metadata.tsv", lambda text: text.replace("Br5292", "Br8100")), "is of Br8100; slice 151507 is of Br5292"),
        (rewrite("metadata.tsv", lambda text: text.replace("B", "X").replace("Xr5292", "Br5292")), "names 0 of the 63 spots"),
        (rewrite("metadata.tsv", lambda text: text + text.splitlines()[1]), "more than once"),
        (lambda path: shutil.rmtree(path / "spatial"), "DLPFC slice 151507: .* is not a slide that can be read"),
        (both_matrices, "has 2 matrices"),
    ],
)  # fmt: skip
def test_a_missing_or_odd_file_is_one_sentence(folder, tmp_path, break_it, words):
    copy = shutil.copytree(folder / "151507", tmp_path / "151507")
    break_it(copy)
    with pytest.raises(EvaluationError, match=words):
        read_slice(copy)


def test_folders_without_slices_are_refused(folder, tmp_path):
    with pytest.raises(EvaluationError, match="There is no folder"):
        find_slices(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="none of the twelve DLPFC slices"):
        find_slices(tmp_path)
    with pytest.raises(EvaluationError, match="has no slice 151676; it has 151507, 151508, 151669"):
        run_dlpfc(folder, tmp_path / "store", slices=["151676"])
    (tmp_path / "151669").mkdir()
    (tmp_path / "151669" / "truth.txt").write_text("AAA\tLayer3\tmore\n")
    with pytest.raises(EvaluationError, match="has 3 columns"):
        read_layers(tmp_path / "151669")
