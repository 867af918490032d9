from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stamp_index.errors import SlideError
from stamp_index.readers import SlideOptions, find_slides, read
from stamp_index.readers.tenx.counts import read_features
from stamp_index.readers.tenx.xenium_transcripts import pool_transcripts
from tests.xenium_files import (
    HE_SIZE,
    N_CELLS,
    PIXEL,
    XeniumRun,
    alignment,
    write_alignment,
    write_he,
)

if TYPE_CHECKING:
    from pathlib import Path

CELLS = SlideOptions(spots="cells")


def with_he(run: XeniumRun, degrees: float = 0.0, *, mirrored: bool = False) -> None:
    matrix = alignment(degrees, mirrored=mirrored)
    write_he(run.path / "R1_he_image.ome.tif", matrix)
    write_alignment(run.path / "R1_he_imagealignment.csv", matrix)


@pytest.mark.parametrize("first", [False, True], ids=["names", "version_1"])
def test_transcripts_are_pooled_into_bins(tmp_path: Path, first: bool) -> None:
    run = XeniumRun(tmp_path, first=first)
    slide = read(run.path)
    expected = run.binned()
    assert slide.spots.index.tolist() == list(expected)
    assert slide.genes == ("CD8A", "EPCAM", "TBCE")
    assert slide.gene_ids == tuple(f"ENSG0000000000{i}" for i in (1, 2, 3))
    np.testing.assert_array_equal(slide.counts.toarray(), list(expected.values()))
    np.testing.assert_array_equal(slide.spots["n_transcripts"], slide.counts.sum(axis=1).A1)
    assert (slide.slide_id, slide.platform, slide.species, slide.organ, slide.reader) == (
        "output-XETG1__001__R1",
        "Xenium",
        "human",
        "breast",
        "Xenium",
    )
    assert slide.spot_diameter_um == 48.0
    assert slide.parameters == {
        "spots": "bins",
        "pooled": "transcripts",
        "bin_um": 48.0,
        "min_qv": 20.0,
    }
    assert [path.name for path in slide.files] == [
        "experiment.xenium",
        "cell_feature_matrix.h5",
        "transcripts.parquet",
        "cells.parquet",
    ]


def test_what_was_left_out_is_counted(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    notes = " ".join(read(run.path).notes)
    table = run.transcripts
    good = table[table["qv"] >= 20]
    genes = good["feature_name"].isin(["CD8A", "EPCAM", "TBCE"])
    assert f"{genes.sum()} transcripts of genes with qv of 20 or more were pooled" in notes
    assert f"{len(table) - len(good)} transcripts with qv below 20 were left out." in notes
    assert f"{(~genes).sum()} transcripts of controls were left out." in notes
    assert "5 features that are not genes were left out (1 Negative Control Probe" in notes
    assert "1 gene symbols stand for several ids" in notes


@pytest.mark.parametrize("batch_rows", [1, 100, 10**6])
def test_batches_of_every_size_give_the_same_bins(tmp_path: Path, batch_rows: int) -> None:
    run = XeniumRun(tmp_path)
    run.transcripts = run.transcripts[:500]
    run.write_transcripts()
    features = read_features(run.path / "cell_feature_matrix.h5")
    pooled = pool_transcripts(
        run.path / "transcripts.parquet",
        features,
        ["CD8A", "EPCAM", "TBCE"],
        bin_um=48,
        batch_rows=batch_rows,
    )
    expected = run.binned()
    assert pooled.bins.barcodes(48) == list(expected)
    np.testing.assert_array_equal(pooled.counts.toarray(), list(expected.values()))
    pooled.counts.check_format(full_check=True)


def test_the_width_of_bins_is_a_choice(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    slide = read(run.path, SlideOptions(bin_um=100.5))
    expected = run.binned(100.5)
    assert slide.spots.index.tolist() == list(expected)
    np.testing.assert_array_equal(slide.counts.toarray(), list(expected.values()))
    assert slide.spot_diameter_um == 100.5


def test_without_he_positions_are_in_morphology_pixels_and_the_note_says_why(
    tmp_path: Path,
) -> None:
    run = XeniumRun(tmp_path)
    (run.path / "morphology.ome.tif").write_bytes(b"never opened")
    slide = read(run.path)
    assert slide.image is None
    assert slide.mpp == PIXEL
    first = slide.spots.loc["b48um_00000_00001"]
    np.testing.assert_allclose(first[["x_px", "y_px"]].tolist(), [72 / PIXEL, 24 / PIXEL])
    (note,) = [note for note in slide.notes if note.startswith("No image")]
    assert "fluorescence" in note
    assert "he_image.ome.tif" in note


@pytest.mark.parametrize("mirrored", [False, True], ids=["turned", "mirrored"])
@pytest.mark.parametrize("degrees", [0.0, 17.0, 90.0, -135.0])
def test_bins_lie_on_the_landmarks_of_the_he_image(
    tmp_path: Path, degrees: float, mirrored: bool
) -> None:
    run = XeniumRun(tmp_path)
    with_he(run, degrees, mirrored=mirrored)
    slide = read(run.path)
    assert slide.image.size_px == HE_SIZE
    assert slide.mpp == pytest.approx(0.5)
    assert slide.n_spots == 80
    width = 20 / slide.mpp
    for x, y in slide.xy_px:
        patch = slide.image.read(x - width / 2, y - width / 2, width, 40)[..., 0]
        dark = np.argwhere(patch < 128)
        assert len(dark) > 0
        np.testing.assert_allclose(dark.mean(axis=0) + 0.5, [20, 20], atol=2)
    notes = " ".join(slide.notes)
    assert "Image: R1_he_image.ome.tif, placed by R1_he_imagealignment.csv." in notes
    assert "from the image's metadata, which agrees with the alignment" in notes
    assert slide.files[-1].name == "R1_he_imagealignment.csv"


def test_the_alignment_gives_the_pixel_size_of_an_image_without_one(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    matrix = alignment(30, he_mpp=0.4)
    write_he(run.path / "he_image.ome.tif", matrix, mpp=None)
    write_alignment(run.path / "he_imagealignment.csv", matrix)
    assert read(run.path).mpp == pytest.approx(0.4)


def test_a_given_image_is_placed_by_the_alignment_beside_it_or_in_the_folder(
    tmp_path: Path,
) -> None:
    run = XeniumRun(tmp_path / "run")
    matrix = alignment(5)
    (tmp_path / "scans").mkdir()
    image = tmp_path / "scans" / "S1.tif"
    write_he(image, matrix)
    write_alignment(tmp_path / "scans" / "S1alignment.csv", matrix)
    beside = read(run.path, SlideOptions(image=image))
    (tmp_path / "scans" / "S1alignment.csv").rename(run.path / "R1_he_imagealignment.csv")
    inside = read(run.path, SlideOptions(image=image))
    np.testing.assert_array_equal(beside.xy_px, inside.xy_px)
    assert any("S1.tif, as given, placed by S1alignment.csv" in note for note in beside.notes)


def test_a_few_bins_off_the_image_are_dropped(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    matrix = alignment()
    matrix[0, 2] += (650 * 0.5 - 240 + 90) / PIXEL  # 90 um of the section lie left of the image
    write_he(run.path / "he_image.ome.tif", matrix)
    write_alignment(run.path / "he_imagealignment.csv", matrix)
    slide = read(run.path)
    assert slide.n_spots == 72  # the first of ten columns is centred 66 um off the image
    assert any("8 of 80 spots (10.0%) lie off the image" in note for note in slide.notes)


@pytest.mark.parametrize("first", [False, True], ids=["names", "numbers"])
@pytest.mark.parametrize("csv", [False, True], ids=["parquet", "csv"])
def test_cells_are_spots_on_request(tmp_path: Path, first: bool, csv: bool) -> None:
    run = XeniumRun(tmp_path, first=first)
    run.cells = run.cells.sample(frac=1, random_state=0)  # the matrix has an order of its own
    run.write_cells(csv=csv)
    slide = read(run.path, CELLS)
    cells = run.cells.assign(cell_id=run.cells["cell_id"].astype(str)).set_index("cell_id")
    assert slide.n_spots == N_CELLS
    assert (
        slide.spots.index.tolist() == cells.sort_index(key=lambda i: i.map(_order)).index.tolist()
    )
    cells = cells.loc[slide.spots.index]
    np.testing.assert_allclose(slide.xy_um, cells[["x_centroid", "y_centroid"]], rtol=1e-6)
    for label, column in (
        ("cell_area", "cell_area"),
        ("nucleus_area", "nucleus_area"),
        ("n_transcripts", "transcript_counts"),
    ):
        np.testing.assert_allclose(slide.spots[label], cells[column])
    genes = np.column_stack([run.counts[:, 0], run.counts[:, 1], run.counts[:, 2:4].sum(axis=1)])
    np.testing.assert_array_equal(slide.counts.toarray(), genes)
    area = float(run.cells["cell_area"].median())
    assert slide.spot_diameter_um == pytest.approx(2 * np.sqrt(area / np.pi))
    assert slide.parameters == {"spots": "cells"}


def _order(cell: str) -> tuple[int, str]:
    return len(cell), cell


def test_without_transcripts_bins_pool_cells(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    (run.path / "transcripts.parquet").unlink()
    slide = read(run.path)
    assert slide.parameters["pooled"] == "cells"
    assert slide.spots["n_cells"].sum() == N_CELLS
    assert slide.counts.sum() == run.counts[:, :4].sum()
    assert any("transcripts.parquet is missing: 60 cells were pooled" in n for n in slide.notes)
    row, col = (run.cells[axis] // 48 for axis in ("y_centroid", "x_centroid"))
    expected = {f"b48um_{int(r):05d}_{int(c):05d}" for r, c in zip(row, col, strict=True)}
    assert set(slide.spots.index) == expected


def test_the_matrix_folder_serves_as_well(tmp_path: Path) -> None:
    one, other = (XeniumRun(tmp_path / name, mtx=name == "b") for name in "ab")
    for options in (SlideOptions(), CELLS):
        assert read(one.path, options).counts_hash() == read(other.path, options).counts_hash()


def test_a_matrix_folder_may_not_lead_out_of_the_slide(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path, mtx=True)
    features = run.path / "cell_feature_matrix" / "features.tsv.gz"
    features.rename(tmp_path / "features.tsv.gz")
    features.symlink_to(tmp_path / "features.tsv.gz")
    with pytest.raises(SlideError, match=r"features\.tsv\.gz is a link to"):
        read(run.path)


def test_empty_fields_of_the_experiment_are_no_words(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    run.experiment |= {"panel_tissue_type": "N/A", "panel_organism": "N/A"}
    run.write_experiment()
    slide = read(run.path)
    assert slide.organ == ""
    assert slide.species == "human"  # from the Ensembl ids


def test_options_win_over_files(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    (run.path / "slide.toml").write_text('organ = "lung"\nspots = "cells"\n')
    slide = read(run.path, SlideOptions(slide_id="S", platform="Xenium 5K"))
    assert (slide.slide_id, slide.organ, slide.platform) == ("S", "lung", "Xenium 5K")
    assert slide.n_spots == N_CELLS


def test_a_folder_of_regions_is_searched(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    with_he(run)
    assert find_slides(tmp_path) == [run.path]
