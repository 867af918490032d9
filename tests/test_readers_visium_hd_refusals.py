from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from stamp_index.errors import BarcodeMismatchError, MissingPixelSizeError, SlideError
from stamp_index.readers import SlideOptions, read
from stamp_index.readers.tenx.hd_barcodes import parse_barcodes
from tests.visium_hd_files import MPP, HdRun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def change_positions(run: HdRun, column: str, value: Callable[[np.ndarray], object]) -> None:
    run.positions[8][column] = value(run.positions[8][column].to_numpy().copy())
    run.write_positions(8)


def change_factors(run: HdRun, **values: object) -> None:
    run.factors[8].update(values)
    run.write_factors(8)


def swap(values: np.ndarray) -> np.ndarray:
    values[[0, -1]] = values[[-1, 0]]
    return values


def first(value: object) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[0] = value
        return values

    return change


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change_matrix(run: HdRun, name: str, value: Callable[[np.ndarray], np.ndarray]) -> None:
    with h5py.File(run.folder(8) / "filtered_feature_bc_matrix.h5", "a") as file:
        values = value(file[f"matrix/{name}"][:])
        del file[f"matrix/{name}"]
        file[f"matrix/{name}"] = values


def link_out(path: Path) -> None:
    outside = path.parents[5] / f"elsewhere_{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


def spatial(run: HdRun, name: str) -> Path:
    return run.folder(8) / "spatial" / name


def matrix(run: HdRun) -> Path:
    return run.folder(8) / "filtered_feature_bc_matrix.h5"


POSITIONS = "tissue_positions.parquet"


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        pytest.param(
            lambda r: cut(spatial(r, POSITIONS)), SlideError, "cannot be read as Parquet", id="cut"
        ),
        pytest.param(
            lambda r: spatial(r, POSITIONS).write_bytes(b"junk"),
            SlideError,
            "cannot be read as Parquet",
            id="junk",
        ),
        pytest.param(
            lambda r: spatial(r, POSITIONS).unlink(),
            SlideError,
            r"none of binned_outputs/square_008um has both a matrix .* and spatial/tissue_positions\.parquet",
            id="no_positions",
        ),
        pytest.param(lambda r: matrix(r).unlink(), SlideError, "has both a matrix", id="no_matrix"),
        pytest.param(lambda r: cut(matrix(r)), SlideError, "cannot be read as a 10x", id="cut_h5"),
        pytest.param(
            lambda r: change_matrix(r, "indices", lambda v: v + 5),
            SlideError,
            "cannot be read as a 10x matrix",
            id="features_that_are_not_there",
        ),
        pytest.param(
            lambda r: change_matrix(r, "indptr", lambda v: v[::-1]),
            SlideError,
            "its indptr does not fit",
            id="indptr_backwards",
        ),
        pytest.param(
            lambda r: change_matrix(r, "barcodes", lambda v: v[:-1]),
            SlideError,
            r"numbers for \d+ barcodes",
            id="a_barcode_less",
        ),
        pytest.param(
            lambda r: change_matrix(r, "barcodes", lambda v: np.r_[v[:-1], v[:1]]),
            BarcodeMismatchError,
            "1 barcodes more than once",
            id="barcode_twice",
        ),
        pytest.param(
            lambda r: change_matrix(r, "barcodes", first(b"s_008um_00500_00000-1")),
            BarcodeMismatchError,
            r"1 squares with counts .* have no position \(such as s_008um_00500_00000-1\)",
            id="foreign_square",
        ),
        pytest.param(
            lambda r: change_matrix(r, "barcodes", first(b"AAACCCAAGAAACACT-1")),
            BarcodeMismatchError,
            r"no squares of 8 um, such as AAACCCAAGAAACACT-1; expected s_008um_00000_00000-1",
            id="visium_barcode",
        ),
        pytest.param(
            lambda r: change_matrix(
                r, "barcodes", lambda v: np.array([b.replace(b"008um", b"016um") for b in v])
            ),
            BarcodeMismatchError,
            "no squares of 8 um, such as s_016um",
            id="other_width",
        ),
        pytest.param(
            lambda r: change_matrix(r, "data", lambda v: v * 0.5),
            SlideError,
            "not whole numbers",
            id="normalised",
        ),
        pytest.param(
            lambda r: change_positions(r, "barcode", swap),
            BarcodeMismatchError,
            r"name square s_008um_00023_00035-1 at array row 0 and column 0; .*\(2 rows are wrong\)",
            id="shuffled_barcodes",
        ),
        pytest.param(
            lambda r: change_positions(r, "pxl_row_in_fullres", swap),
            SlideError,
            "do not lie on a straight grid",
            id="shuffled_pixels",
        ),
        pytest.param(
            lambda r: change_positions(r, "pxl_row_in_fullres", first(np.nan)),
            SlideError,
            "squares without pixels",
            id="no_pixel",
        ),
        pytest.param(
            lambda r: change_positions(r, "pxl_row_in_fullres", lambda v: v * 1.5),
            MissingPixelSizeError,
            "um/px in different directions",
            id="stretched",
        ),
        pytest.param(
            lambda r: change_positions(r, "pxl_row_in_fullres", lambda v: v * 0),
            MissingPixelSizeError,
            "um/px in different directions",
            id="flat",
        ),
        pytest.param(
            lambda r: change_positions(r, "in_tissue", lambda v: v * 0),
            SlideError,
            "no square under tissue",
            id="no_tissue",
        ),
        pytest.param(
            lambda r: change_positions(r, "in_tissue", lambda v: v * 2),
            SlideError,
            "in_tissue of 0 to 2; expected 0 or 1",
            id="in_tissue_2",
        ),
        pytest.param(
            lambda r: change_positions(r, "in_tissue", lambda v: np.array(["yes"] * len(v))),
            SlideError,
            "column in_tissue is .*string.*; expected numbers",
            id="in_tissue_is_text",
        ),
        pytest.param(
            lambda r: change_positions(r, "array_row", lambda v: v + 0.5),
            SlideError,
            "column array_row is double",
            id="half_a_row",
        ),
        pytest.param(
            lambda r: change_factors(r, bin_size_um=16.0),
            SlideError,
            r"says bin_size_um = 16, but the squares of square_008um are 8 um wide",
            id="other_bin_size",
        ),
        pytest.param(
            lambda r: change_factors(r, microns_per_pixel=0.0),
            SlideError,
            "microns_per_pixel = 0; expected microns above 0",
            id="no_pixel_size",
        ),
        pytest.param(
            lambda r: change_factors(r, microns_per_pixel=MPP * 1.1),
            MissingPixelSizeError,
            r"microns_per_pixel of the scale factors is 1\.1 um/px, but .* pitch of 8 um is 1 um/px",
            id="pixel_size_against_pitch",
        ),
        pytest.param(
            lambda r: change_factors(r, tissue_hires_scalef=None),
            SlideError,
            "scale factors .* cannot be read",
            id="null_factor",
        ),
        pytest.param(
            lambda r: spatial(r, "scalefactors_json.json").unlink(),
            SlideError,
            "scale factors .* cannot be read",
            id="no_factors",
        ),
        *(
            pytest.param(
                lambda r, name=name: link_out(spatial(r, name)),
                SlideError,
                f"{name} is a link to .*elsewhere_{name}, which lies outside the slide's folder",
                id=f"link_{name}",
            )
            for name in (POSITIONS, "scalefactors_json.json", "tissue_hires_image.png")
        ),
    ],
)
def test_a_damaged_run_is_refused_with_its_reason(
    tmp_path: Path, damage: Callable[[HdRun], None], error: type[Exception], message: str
) -> None:
    run = HdRun(tmp_path, widths=(8,))
    damage(run)
    with pytest.raises(error, match=message):
        read(run.path)


def test_positions_without_a_column_name_it(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    run.positions[8] = run.positions[8].drop(columns="array_col")
    run.write_positions(8)
    with pytest.raises(
        SlideError, match="lack the columns array_col; there are barcode, in_tissue"
    ):
        read(run.path)


def test_positions_that_name_a_square_twice_are_refused(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    run.positions[8].loc[1] = run.positions[8].loc[0]
    run.write_positions(8)
    with pytest.raises(BarcodeMismatchError, match="name 1 squares twice"):
        read(run.path)


def test_positions_in_one_row_give_no_pixel_size(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    run.positions[8] = run.positions[8].query("array_row == 20")
    run.write_positions(8)
    with pytest.raises(MissingPixelSizeError, match="lie in one line of the array"):
        read(run.path)


def test_positions_without_rows_are_refused(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    run.positions[8] = run.positions[8][:0]
    run.write_positions(8)
    with pytest.raises(SlideError, match="list no squares|column barcode is null"):
        read(run.path)


def test_an_array_wider_than_a_slide_is_refused(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    table = run.positions[8]
    table.loc[0, ["barcode", "array_row"]] = ["s_008um_99999_00000-1", 99999]
    run.positions[8] = table.astype({"array_row": int})
    run.write_positions(8)
    with pytest.raises(SlideError, match="span 100000 x 36 squares of 8 um; expected .* 20 mm"):
        read(run.path)


@pytest.mark.parametrize(
    ("bin_um", "widths", "message"),
    [
        pytest.param(7, (2, 8, 16), "squares of 2, 8, 16 um.* such as 6, 8", id="odd"),
        pytest.param(48, (32,), "squares of 32 um.* such as 32, 64", id="custom_square"),
        pytest.param(4, (8,), "squares of 8 um.* such as 8", id="below_a_square"),
        pytest.param(48.5, (2,), "Bins of 48.5 um cannot be made", id="half"),
    ],
)
def test_bins_that_are_no_whole_number_of_squares_are_refused(
    tmp_path: Path, bin_um: float, widths: tuple[int, ...], message: str
) -> None:
    run = HdRun(tmp_path, widths=widths)
    with pytest.raises(SlideError, match=message):
        read(run.path, SlideOptions(bin_um=bin_um))


def test_a_lone_folder_that_does_not_tell_its_width_is_refused(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    change_factors(run, bin_size_um=8.5)
    lone = run.folder(8).rename(tmp_path / "P1_fine")
    with pytest.raises(SlideError, match=r"bin_size_um in scalefactors_json\.json is 8\.5"):
        read(lone)


def test_a_matrix_without_counts_is_refused(tmp_path: Path) -> None:
    run = HdRun(tmp_path, widths=(8,))
    names = run.positions[8]["barcode"].tolist()
    run.write_counts(8, csr_matrix((len(names), 5), dtype=int), names)
    with pytest.raises(SlideError, match="none of its 20 spots has any counts"):
        read(run.path)


@given(st.integers(1, 999), st.integers(0, 99999), st.integers(0, 99999))
@settings(deadline=None)
def test_a_barcode_gives_its_row_and_column(
    tmp_path_factory: pytest.TempPathFactory, square: int, row: int, col: int
) -> None:
    name = f"s_{square:03d}um_{row:05d}_{col:05d}-1".encode()
    path = tmp_path_factory.getbasetemp()
    rows, cols = parse_barcodes(np.array([name]), square, path)
    assert (rows.tolist(), cols.tolist()) == ([row], [col])


@given(st.binary(max_size=30))
@settings(deadline=None, max_examples=200)
def test_what_is_no_barcode_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: bytes
) -> None:
    with pytest.raises(BarcodeMismatchError, match="expected s_002um_00000_00000-1"):
        parse_barcodes(np.array([name], dtype="S30"), 2, tmp_path_factory.getbasetemp())
