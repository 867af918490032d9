from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.errors import (
    BarcodeMismatchError,
    MissingPixelSizeError,
    SlideError,
    SpotOutsideImageError,
)
from stamp_index.readers import SlideOptions, read
from stamp_index.readers.tenx.xenium_image import place_image, read_alignment
from tests.xenium_files import PIXEL, XeniumRun, alignment, write_alignment, write_he

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CELLS = SlideOptions(spots="cells")
ALIGNMENT = "he_imagealignment.csv"


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change(run: XeniumRun, column: str, value: object) -> None:
    run.transcripts[column] = value
    run.write_transcripts()


def drop(run: XeniumRun, column: str) -> None:
    run.transcripts = run.transcripts.drop(columns=column)
    run.write_transcripts()


def say(run: XeniumRun, **fields: object) -> None:
    run.experiment.update(fields)
    run.write_experiment()


def change_cells(run: XeniumRun, column: str, value: object, *, csv: bool = False) -> None:
    if value is None:
        run.cells = run.cells.drop(columns=column)
    else:
        run.cells[column] = value
    run.write_cells(csv=csv)


def repeat_a_cell(run: XeniumRun) -> None:
    run.cells.loc[1, "cell_id"] = run.cells.loc[0, "cell_id"]
    run.write_cells()


def link_out(path: Path) -> None:
    outside = path.parents[1] / f"elsewhere_{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        pytest.param(
            lambda r: cut(r.path / "transcripts.parquet"),
            SlideError,
            r"transcripts .*transcripts\.parquet cannot be read as Parquet",
            id="cut",
        ),
        pytest.param(
            lambda r: drop(r, "qv"), SlideError, "lack the columns qv; there are", id="no_qv"
        ),
        pytest.param(
            lambda r: drop(r, "feature_name"),
            SlideError,
            "lack the columns feature_name",
            id="no_name",
        ),
        pytest.param(
            lambda r: change(r, "qv", 19.9),
            SlideError,
            r"no transcripts of genes with qv of 20 or more \(4000 have less\)",
            id="all_unsure",
        ),
        pytest.param(
            lambda r: change(r, "qv", "high"),
            SlideError,
            "column qv is .*string.*; expected numbers of type float64",
            id="qv_is_text",
        ),
        pytest.param(
            lambda r: (setattr(r, "transcripts", r.transcripts[:0]), r.write_transcripts()),
            SlideError,
            r"no transcripts of genes .*\(0 have less\)",
            id="no_transcripts",
        ),
        pytest.param(
            lambda r: change(r, "feature_name", "NegControlProbe_00001"),
            SlideError,
            "no transcripts of genes",
            id="controls_only",
        ),
        pytest.param(
            lambda r: change(r, "feature_name", "Gad1"),
            BarcodeMismatchError,
            r"of the \d+ transcripts .* are of features that the cell matrix does not have",
            id="another_panel",
        ),
        pytest.param(
            lambda r: change(r, "x_location", np.nan),
            SlideError,
            r"\d+ transcripts have no x_location or y_location",
            id="no_position",
        ),
        pytest.param(
            lambda r: change(r, "y_location", 1e9),
            SlideError,
            r"transcripts lie up to 1e\+09 um away; expected 1e\+06 um at most",
            id="far_away",
        ),
        pytest.param(
            lambda r: change(r, "feature_name", None),
            SlideError,
            "column feature_name is null .*; expected text in every row",
            id="names_missing",
        ),
        pytest.param(
            lambda r: (r.path / "cell_feature_matrix.h5").unlink(),
            SlideError,
            "neither cell_feature_matrix.h5 nor a folder cell_feature_matrix",
            id="no_matrix",
        ),
        pytest.param(
            lambda r: cut(r.path / "cell_feature_matrix.h5"),
            SlideError,
            "cannot be read as a 10x matrix",
            id="cut_matrix",
        ),
        pytest.param(
            lambda r: (r.path / "experiment.xenium").write_text("{"),
            SlideError,
            r"experiment\.xenium cannot be read",
            id="experiment_is_no_json",
        ),
        pytest.param(
            lambda r: (r.path / "experiment.xenium").write_text("[1]"),
            SlideError,
            "cannot be read .it holds a list.",
            id="experiment_is_a_list",
        ),
        *(
            pytest.param(
                lambda r, value=value: say(r, pixel_size=value),
                MissingPixelSizeError,
                "says pixel_size = .*; expected microns per pixel of 0.02 to 20",
                id=f"pixel_size_{value}",
            )
            for value in (None, "0.2125", 0, -0.2125, 2125.0)
        ),
        *(
            pytest.param(
                lambda r, name=name: link_out(r.path / name),
                SlideError,
                f"{name} is a link to .*elsewhere_{name}, which lies outside the slide's folder",
                id=f"link_{name}",
            )
            for name in ("transcripts.parquet", "cell_feature_matrix.h5", "experiment.xenium")
        ),
    ],
)
def test_a_damaged_run_is_refused_with_its_reason(
    tmp_path: Path, damage: Callable[[XeniumRun], None], error: type[Exception], message: str
) -> None:
    run = XeniumRun(tmp_path)
    damage(run)
    with pytest.raises(error, match=message):
        read(run.path)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        pytest.param(
            lambda r: r.write_matrix([f"foreign{i}-1" for i in range(60)]),
            BarcodeMismatchError,
            r"cells\.parquet: 60 of the 60 cells with counts have no row \(such as foreign0-1, foreign1-1",
            id="foreign_cells",
        ),
        pytest.param(repeat_a_cell, BarcodeMismatchError, "name 1 cells twice", id="twice"),
        pytest.param(
            lambda r: (r.path / "cells.parquet").unlink(),
            SlideError,
            "neither cells.parquet nor cells.csv.gz",
            id="no_cells",
        ),
        pytest.param(
            lambda r: cut(r.path / "cells.parquet"), SlideError, "as Parquet", id="cut_parquet"
        ),
        pytest.param(
            lambda r: (r.write_cells(csv=True), cut(r.path / "cells.csv.gz")),
            SlideError,
            r"cells .*cells\.csv\.gz cannot be read",
            id="cut_csv",
        ),
        pytest.param(
            lambda r: (
                r.write_cells(csv=True),
                (r.path / "cells.csv.gz").write_bytes(gzip.compress(b"\xff\xfe\x00cell")),
            ),
            SlideError,
            r"cells\.csv\.gz cannot be read",
            id="csv_of_bytes",
        ),
        pytest.param(
            lambda r: change_cells(r, "x_centroid", None), SlideError, "lack the columns", id="no_x"
        ),
        pytest.param(
            lambda r: change_cells(r, "x_centroid", None, csv=True),
            SlideError,
            "it lacks the columns x_centroid",
            id="no_x_in_csv",
        ),
        pytest.param(
            lambda r: change_cells(r, "x_centroid", "left", csv=True),
            SlideError,
            "cannot be read .could not convert",
            id="x_is_text",
        ),
        pytest.param(
            lambda r: change_cells(r, "y_centroid", np.nan),
            SlideError,
            "60 have no position, such as aaaaaaaa-1",
            id="no_position",
        ),
        pytest.param(
            lambda r: change_cells(r, "cell_area", None),
            SlideError,
            r"no cell_area above 0.*Read bins \(spots = 'bins'\)",
            id="no_area",
        ),
        pytest.param(
            lambda r: change_cells(r, "cell_area", 0.0), SlideError, "no cell_area", id="area_0"
        ),
    ],
)
def test_damaged_cells_are_refused_with_their_reason(
    tmp_path: Path, damage: Callable[[XeniumRun], None], error: type[Exception], message: str
) -> None:
    run = XeniumRun(tmp_path)
    damage(run)
    with pytest.raises(error, match=message):
        read(run.path, CELLS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "0 lines of  numbers", id="empty"),
        pytest.param("1,0\n0,1\n", "2 lines of 2 numbers", id="two_by_two"),
        pytest.param("1,0,0,0\n0,1,0,0\n0,0,1,0\n", "3 lines of 4 numbers", id="three_by_four"),
        pytest.param("1,0,0\n0,1\n0,0,1\n", "3 lines of 2, 3 numbers", id="ragged"),
        pytest.param("a,b,c\n1,0,0\n0,1,0\n0,0,1\n", "could not convert", id="header"),
        pytest.param("1;0;0\n0;1;0\n0;0;1\n", "could not convert", id="semicolons"),
        pytest.param("1,0,0\n0,1,0\n0.1,0,1\n", "no affine map", id="perspective"),
        pytest.param("1,0,nan\n0,1,0\n0,0,1\n", "no affine map", id="nan"),
        pytest.param("1,2,0\n2,4,0\n0,0,1\n", "cannot be inverted", id="singular"),
        pytest.param("0,0,0\n0,0,0\n0,0,1\n", "cannot be inverted", id="nothing"),
        pytest.param("1,0,0\n0,1.1,0\n0,0,1\n", "stretches or shears .*1.1 and 1 ", id="stretch"),
        pytest.param("1,0.2,0\n0,1,0\n0,0,1\n", "stretches or shears", id="shear"),
        pytest.param("1" * 20_000, "20000 bytes", id="another_file"),
    ],
)
def test_an_alignment_that_cannot_be_right_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / ALIGNMENT
    path.write_text(text)
    with pytest.raises(SlideError, match=message):
        read_alignment(path)


def with_he(run: XeniumRun, name: str = "he_image.ome.tif") -> np.ndarray:
    matrix = alignment()
    write_he(run.path / name, matrix)
    return matrix


def test_an_image_without_alignment_is_refused_and_the_file_named(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    with_he(run)
    with pytest.raises(SlideError, match="has no alignment. Put .* as he_imagealignment.csv"):
        read(run.path)


def test_two_images_must_be_chosen_from(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    matrix = with_he(run)
    with_he(run, "b_he_image.tif")
    with pytest.raises(SlideError, match=r"2 H&E images \(b_he_image.tif, he_image.ome.tif\)"):
        read(run.path)
    write_alignment(run.path / "b_he_imagealignment.csv", matrix)
    assert read(run.path, SlideOptions(image=run.path / "b_he_image.tif")).n_spots == 80


def test_the_morphology_image_is_never_taken_for_he(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    with_he(run, "morphology_focus.ome.tif")
    write_alignment(run.path / ALIGNMENT, np.eye(3))
    with pytest.raises(SlideError, match="morphology image, which shows fluorescence"):
        read(run.path, SlideOptions(image=run.path / "morphology_focus.ome.tif"))
    assert read(run.path).image is None


def test_an_alignment_of_another_scale_than_the_image_is_refused(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    with_he(run)
    write_alignment(run.path / ALIGNMENT, alignment(he_mpp=0.25))
    with pytest.raises(
        MissingPixelSizeError,
        match=r"metadata is 0\.5 um/px, but the one derived from the alignment .* is 0\.25",
    ):
        read(run.path)


def test_an_alignment_that_lays_the_section_off_the_image_is_refused(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    matrix = with_he(run)
    matrix[0, 2] += 600 / PIXEL
    write_alignment(run.path / ALIGNMENT, matrix)
    with pytest.raises(SpotOutsideImageError, match="80 of 80 spots"):
        read(run.path)


def test_a_pixel_size_that_contradicts_xeniums_is_refused(tmp_path: Path) -> None:
    run = XeniumRun(tmp_path)
    with pytest.raises(MissingPixelSizeError, match="pixel_size of experiment.xenium is 0.2125"):
        read(run.path, SlideOptions(mpp=0.5))


@pytest.mark.parametrize("name", ["he_image.ome.tif", ALIGNMENT])
def test_image_and_alignment_lie_in_the_folder(tmp_path: Path, name: str) -> None:
    run = XeniumRun(tmp_path)
    write_alignment(run.path / ALIGNMENT, with_he(run))
    link_out(run.path / name)
    with pytest.raises(SlideError, match=f"{name} is a link to .*outside the slide's folder"):
        read(run.path)


@given(
    st.floats(-180, 180),
    st.booleans(),
    st.floats(0.1, 2.0),
    st.tuples(st.floats(0, 480), st.floats(0, 384)),
)
@settings(max_examples=25, deadline=None)
def test_a_point_placed_on_the_image_comes_back_through_the_alignment(
    tmp_path_factory: pytest.TempPathFactory,
    degrees: float,
    mirrored: bool,
    he_mpp: float,
    point: tuple[float, float],
) -> None:
    folder = tmp_path_factory.mktemp("he")
    matrix = alignment(degrees, mirrored=mirrored, he_mpp=he_mpp)
    write_alignment(folder / ALIGNMENT, matrix)
    write_he(folder / "he_image.ome.tif", matrix, bin_um=400, mpp=None)
    placed = place_image(folder, PIXEL, SlideOptions())
    assert placed.mpp == pytest.approx(he_mpp)
    x, y = placed.place(np.array([point]))[0]
    back = matrix @ np.array([x, y, 1.0]) * PIXEL
    np.testing.assert_allclose(back[:2], point, atol=1e-6)
