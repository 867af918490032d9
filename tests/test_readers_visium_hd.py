from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stamp_index.readers import SlideOptions, find_slides, read
from stamp_index.readers.tenx.hd_counts import pool_counts
from stamp_index.readers.tenx.hd_grid import HdGrid
from stamp_index.readers.tenx.visium_hd import VisiumHdReader
from tests.visium_hd_files import FULL, HIRES, MPP, HdRun

if TYPE_CHECKING:
    from pathlib import Path

    from stamp_index.slides import Slide


def expected_bins(run: HdRun) -> dict[str, np.ndarray]:
    """Counts of CD8A, EPCAM and the summed TBCE of every 48 um bin that has any."""
    counts = run.bin_counts()
    genes = np.stack([counts[..., 0], counts[..., 1], counts[..., 2] + counts[..., 3]], -1)
    return {
        f"b48um_{row:05d}_{col:05d}": genes[row, col]
        for row in range(genes.shape[0])
        for col in range(genes.shape[1])
        if genes[row, col].any()
    }


def check_counts(slide: Slide, run: HdRun) -> None:
    expected = expected_bins(run)
    assert slide.spots.index.tolist() == list(expected)
    assert slide.genes == ("CD8A", "EPCAM", "TBCE")
    np.testing.assert_array_equal(slide.counts.toarray(), np.stack(list(expected.values())))


def test_a_run_is_read_whole(tmp_path: Path) -> None:
    run = HdRun(tmp_path)
    slide = read(run.path)
    check_counts(slide, run)
    assert (slide.slide_id, slide.platform, slide.species, slide.reader, slide.reader_version) == (
        "P1",
        "Visium HD",
        "human",
        "Visium HD",
        1,
    )
    assert slide.spot_diameter_um == 48.0
    assert slide.parameters == {"bin_um": 48.0, "square_um": 16}
    assert slide.mpp == pytest.approx(MPP / HIRES)
    assert slide.counts.dtype == np.float32
    assert [path.name for path in slide.files] == [
        "filtered_feature_bc_matrix.h5",
        "tissue_positions.parquet",
        "scalefactors_json.json",
    ]
    notes = " ".join(slide.notes)
    assert (
        "Squares of 16 um under tissue were pooled into 20 bins of 48 um, 9 squares each." in notes
    )
    assert "1 features that are not genes were left out (1 Antibody Capture)." in notes
    assert "1 gene symbols stand for several ids" in notes
    assert "Image: tissue_hires_image.png." in notes
    assert "agrees with the squares' pitch of 16 um" in notes


@pytest.mark.parametrize("width", [2, 8, 16])
def test_every_width_of_squares_gives_the_same_bins(tmp_path: Path, width: int) -> None:
    run = HdRun(tmp_path, widths=(width,))
    slide = read(run.path)
    check_counts(slide, run)
    for barcode in slide.spots.index:
        row, col = (int(text) for text in barcode.split("_")[1:])
        expected = run.centre_px(row, col) * HIRES
        np.testing.assert_allclose(slide.spots.loc[barcode, ["x_px", "y_px"]].tolist(), expected)
    assert slide.parameters["square_um"] == width


def test_a_bin_at_the_edge_of_the_tissue_lies_where_the_grid_has_it(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    spots = read(run.path).spots
    assert spots.loc["b48um_00000_00000", "n_squares"] == 4  # one block of 16 um, in a corner
    x, y = spots.loc["b48um_00000_00000", ["x_px", "y_px"]]
    np.testing.assert_allclose([x, y], run.centre_px(0, 0) * HIRES)
    counted = spots["n_squares"].to_numpy()
    tissue = run.tissue.reshape(4, 24, 6, 24).sum((1, 3)) // 16
    np.testing.assert_array_equal(counted, tissue[spots["array_row"], spots["array_col"]])


@pytest.mark.parametrize("mirrored", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("degrees", [0.0, 10.0, 90.0, 181.5])
@pytest.mark.parametrize("full", [False, True], ids=["hires", "full_resolution"])
def test_bins_lie_on_the_landmarks_of_the_image(
    tmp_path: Path, degrees: float, mirrored: bool, full: bool
) -> None:
    run = HdRun(tmp_path, degrees=degrees, mirrored=mirrored, widths=(8,))
    options = SlideOptions(image=run.write_full()) if full else SlideOptions()
    slide = read(run.path, options)
    assert slide.mpp == pytest.approx(MPP if full else MPP / HIRES)
    width = 20 / slide.mpp  # 20 um around each centre: a disc of 8 um in the middle
    for x, y in slide.xy_px:
        patch = slide.image.read(x - width / 2, y - width / 2, width, 40)[..., 0]
        dark = np.argwhere(patch < 128)
        assert len(dark) > 0
        np.testing.assert_allclose(dark.mean(axis=0) + 0.5, [20, 20], atol=2)


def test_the_matrix_folder_gives_the_same_slide(tmp_path: Path) -> None:
    one = read(HdRun(tmp_path / "a").path)
    other = read(HdRun(tmp_path / "b", mtx=True).path)
    assert one.counts_hash() == other.counts_hash()
    assert {path.name for path in other.files} >= {"matrix.mtx.gz", "features.tsv.gz"}


@pytest.mark.parametrize("max_entries", [1, 7, 1000, 10**9])
def test_pieces_of_every_size_give_the_same_sums(tmp_path: Path, max_entries: int) -> None:
    run = HdRun(tmp_path, widths=(16,))
    folder = run.folder(16)
    grid = HdGrid.read(folder / "spatial" / "tissue_positions.parquet", 16)
    index = np.arange(24, dtype=np.int64).reshape(4, 6)
    matrix = folder / "filtered_feature_bc_matrix.h5"
    pooled = pool_counts(matrix, grid, index, squares=3, max_entries=max_entries)
    np.testing.assert_array_equal(pooled.counts.toarray(), run.bin_counts().reshape(24, 5)[:, :4])
    pooled.counts.check_format(full_check=True)


def test_a_lone_folder_of_squares_is_a_slide(tmp_path: Path) -> None:
    run = HdRun(tmp_path)
    whole, lone = read(run.path), read(run.folder(8))
    assert lone.parameters["square_um"] == 8
    assert lone.counts_hash() == whole.counts_hash()
    assert lone.slide_id == "P1"
    renamed = run.folder(8).rename(tmp_path / "P1_fine")
    assert read(renamed).parameters["square_um"] == 8
    assert read(renamed).slide_id == "P1_fine"


def test_the_folder_of_all_squares_is_a_slide_and_a_run_is_found_once(tmp_path: Path) -> None:
    run = HdRun(tmp_path)
    assert find_slides(tmp_path) == [run.path]
    assert find_slides(run.path / "binned_outputs") == [run.path / "binned_outputs"]
    assert read(run.path / "binned_outputs").counts_hash() == read(run.path).counts_hash()


@pytest.mark.parametrize(
    ("bin_um", "square"), [(2, 2), (8, 8), (24, 8), (32, 16), (10, 2), (96, 16)]
)
def test_the_widest_squares_that_fill_a_bin_are_taken(
    tmp_path: Path, bin_um: float, square: int
) -> None:
    slide = read(HdRun(tmp_path).path, SlideOptions(bin_um=bin_um))
    assert slide.parameters == {"bin_um": bin_um, "square_um": square}
    assert slide.spot_diameter_um == bin_um
    assert slide.spots.index[0].startswith(f"b{bin_um}um_")


def test_an_image_of_the_whole_run_serves_where_a_square_has_none(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    image = run.folder(8) / "spatial" / "tissue_hires_image.png"
    image.rename(run.path / "spatial" / image.name)
    slide = read(run.path)
    assert slide.image.size_px == tuple(round(side * HIRES) for side in FULL)


def test_without_image_bins_are_in_full_resolution_pixels(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    (run.folder(8) / "spatial" / "tissue_hires_image.png").unlink()
    slide = read(run.path)
    assert slide.image is None
    assert slide.mpp == pytest.approx(MPP)
    np.testing.assert_allclose(slide.xy_px[0], run.centre_px(0, 0))
    assert any(note.startswith("No image") for note in slide.notes)


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    (run.path / "segmented_outputs").mkdir()
    notes = " ".join(read(run.path, SlideOptions(spots="cells")).notes)
    assert "segmented_outputs (cells found on the image) was not read." in notes
    assert "spots = 'cells' does not apply to Visium HD" in notes


def test_squares_with_counts_off_tissue_are_left_out_and_counted(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    names = run.positions[8]["barcode"].tolist()
    run.write_counts(8, csr_matrix(np.ones((len(names), 5), dtype=int)), names)
    slide = read(run.path)
    n_under = int(run.positions[8]["in_tissue"].sum())
    assert slide.counts.sum() == 4 * n_under
    assert any(f"{len(names) - n_under} squares with counts are not" in n for n in slide.notes)
    np.testing.assert_array_equal(slide.counts[:, 0].toarray()[:, 0], slide.spots["n_squares"])


def test_only_hd_runs_are_detected(tmp_path: Path) -> None:
    reader = VisiumHdReader()
    run = HdRun(tmp_path, widths=(8,))
    (tmp_path / "empty").mkdir()
    (tmp_path / "named" / "square_008um").mkdir(parents=True)
    assert reader.detect(run.path)
    assert reader.detect(run.folder(8))
    others = [tmp_path, tmp_path / "empty", tmp_path / "named", run.folder(8) / "spatial"]
    assert not any(map(reader.detect, others))
    assert not reader.detect(run.folder(8) / "filtered_feature_bc_matrix.h5")


def test_positions_of_bytes_and_narrow_integers_are_understood(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    table = run.positions[8]
    table["barcode"] = table["barcode"].str.encode("utf-8")
    narrow = {"in_tissue": "bool", "array_row": "uint16", "array_col": "int32"}
    run.positions[8] = table.astype({**narrow, "pxl_row_in_fullres": "float32"})
    run.write_positions(8)
    check_counts(read(run.path), run)
