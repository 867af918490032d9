from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stamp_index.errors import (
    BarcodeMismatchError,
    DuplicateGenesError,
    ImageFormatError,
    MissingPixelSizeError,
    SlideError,
    SpotOutsideImageError,
)
from stamp_index.readers import READERS, SlideOptions, make_slide, read
from tests.space_ranger_run import HEADER, Run

if TYPE_CHECKING:
    from pathlib import Path


def test_an_image_of_another_shape_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(
        SlideError,
        match=r"image\.tif is 4000 x 2500 px, but the slide's image at full resolution is 4000 x 3000 px",
    ):
        read(run.path, SlideOptions(image=run.write_tiff(size=(4000, 2500))))


@pytest.mark.parametrize(
    ("given", "tagged", "message"),
    [
        pytest.param(
            0.25,
            0.5,
            r"given by option or slide\.toml is 0\.25 um/px, but the one from the image's metadata is 0\.5",
            id="given_against_metadata",
        ),
        pytest.param(
            0.25,
            None,
            r"given by option or slide\.toml is 0\.25 um/px, but the one derived from the spots' pitch of 100 um is 0\.5",
            id="given_against_pitch",
        ),
        pytest.param(
            None,
            0.25,
            r"from the image's metadata is 0\.25 um/px, but the one derived from the spots' pitch of 100 um is 0\.5",
            id="metadata_against_pitch",
        ),
    ],
)
def test_contradictory_pixel_sizes_name_both(
    tmp_path: Path, given: float | None, tagged: float | None, message: str
) -> None:
    run = Run(tmp_path)
    with pytest.raises(MissingPixelSizeError, match=message):
        read(run.path, SlideOptions(image=run.write_tiff(mpp=tagged), mpp=given))


def test_positions_outside_the_image_name_their_share(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.positions[5] += 2500
    run.write_positions()
    with pytest.raises(
        SpotOutsideImageError,
        match=r"P1_A: 24 of 63 spots \(38%\) lie outside the image of 2000 x 1500 px, such as B0-10",
    ):
        read(run.path)


def test_barcodes_without_position_are_a_mismatch(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.barcodes[:2] = ["AAA-1", "CCC-1"]
    run.write_h5()
    with pytest.raises(
        BarcodeMismatchError,
        match=r"2 of the 63 spots with counts have no position \(such as AAA-1, CCC-1\); the other file names B0-0",
    ):
        read(run.path)


def test_barcodes_that_repeat_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.barcodes[1] = run.barcodes[0]
    run.write_h5()
    with pytest.raises(
        BarcodeMismatchError, match="1 of the spots with counts stand more than once"
    ):
        read(run.path)
    run.positions.loc[1, 0] = run.positions.loc[2, 0]
    run.write_positions()
    with pytest.raises(BarcodeMismatchError, match=r"name 1 barcodes twice \(B0-4\)"):
        read(run.path)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        pytest.param(
            lambda r: (r.path / "filtered_feature_bc_matrix.h5").write_bytes(b"junk"),
            SlideError,
            "cannot be read as a 10x matrix",
            id="h5_is_junk",
        ),
        pytest.param(
            lambda r: (r.spatial / "tissue_positions.csv").unlink(),
            SlideError,
            "neither tissue_positions.csv nor tissue_positions_list.csv",
            id="no_positions",
        ),
        pytest.param(
            lambda r: (r.spatial / "tissue_positions.csv").write_text("barcode,x\nA,1\n"),
            SlideError,
            "Expected columns barcode, in_tissue",
            id="other_columns",
        ),
        pytest.param(
            lambda r: (r.spatial / "tissue_positions.csv").write_text(HEADER + "A,1,one,2,3,4\n"),
            SlideError,
            "cannot be read .*Expected columns",
            id="not_a_number",
        ),
        pytest.param(
            lambda r: (r.spatial / "scalefactors_json.json").unlink(),
            SlideError,
            "scale factors .* cannot be read",
            id="no_scale_factors",
        ),
        pytest.param(
            lambda r: (r.spatial / "scalefactors_json.json").write_text("{"),
            SlideError,
            "scale factors .* cannot be read",
            id="scale_factors_are_no_json",
        ),
        pytest.param(
            lambda r: (r.spatial / "scalefactors_json.json").write_text("{}"),
            SlideError,
            "no tissue_hires_scalef above 0",
            id="no_scale",
        ),
        pytest.param(
            lambda r: (r.spatial / "tissue_hires_image.png").write_bytes(b"junk"),
            ImageFormatError,
            r"tissue_hires_image\.png is not an image",
            id="image_is_junk",
        ),
        pytest.param(
            lambda r: (r.path / "slide.toml").write_text("mpp = "),
            SlideError,
            r"slide\.toml cannot be read as TOML",
            id="sidecar_is_no_toml",
        ),
        pytest.param(
            lambda r: (r.path / "slide.toml").write_text("patent = 'P1'"),
            SlideError,
            "unknown keys patent; known are slide_id, mpp",
            id="sidecar_key",
        ),
        pytest.param(
            lambda r: (r.path / "slide.toml").write_text("mpp = '0.5'"),
            SlideError,
            "mpp is '0.5'; expected microns per pixel above 0",
            id="sidecar_type",
        ),
        pytest.param(
            lambda r: (r.path / "slide.toml").write_text("mpp = -1"),
            SlideError,
            r"mpp is -1\.0; expected microns",
            id="sidecar_value",
        ),
        pytest.param(
            lambda r: (r.path / "slide.toml").write_text("slide_id = 7"),
            SlideError,
            "slide_id is 7; expected text",
            id="sidecar_text",
        ),
        pytest.param(
            lambda r: (r.path / "slide.toml").write_text("slide_id = 'a:b'"),
            SlideError,
            "slide_id is 'a:b'; expected a name without ':'",
            id="slide_id_with_colon",
        ),
        pytest.param(
            lambda r: (r.path / "slide.toml").write_text("image = 'gone.tif'"),
            ImageFormatError,
            r"gone\.tif cannot be read",
            id="sidecar_image",
        ),
    ],
)
def test_damage_gives_one_clear_error(
    tmp_path: Path, damage: object, error: type, message: str
) -> None:
    run = Run(tmp_path)
    damage(run)
    with pytest.raises(error, match=message):
        read(run.path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda f: (f / "barcodes.tsv.gz").unlink(),
            r"has no barcodes\.tsv \(plain or \.gz\)",
            id="no_barcodes",
        ),
        pytest.param(
            lambda f: (f / "features.tsv.gz").unlink(),
            r"has no features\.tsv or genes\.tsv",
            id="no_features",
        ),
        pytest.param(
            lambda f: (f / "barcodes.tsv.gz").write_bytes(gzip.compress(b"one\n")),
            "63 x 5 numbers for 1 barcodes",
            id="other_barcodes",
        ),
        pytest.param(
            lambda f: (f / "features.tsv.gz").write_bytes(gzip.compress(b"one\n")),
            "lines without two columns",
            id="features_of_one_column",
        ),
        pytest.param(
            lambda f: (f / "matrix.mtx.gz").write_bytes((f / "matrix.mtx.gz").read_bytes()[:200]),
            "cannot be read",
            id="truncated_matrix",
        ),
        pytest.param(
            lambda f: (f / "matrix.mtx.gz").write_bytes(gzip.compress(b"junk")),
            "cannot be read",
            id="matrix_is_junk",
        ),
    ],
)
def test_a_damaged_matrix_folder_is_refused(tmp_path: Path, damage: object, message: str) -> None:
    run = Run(tmp_path, mtx=True)
    damage(run.path / "filtered_feature_bc_matrix")
    with pytest.raises(SlideError, match=message):
        read(run.path)


def test_normalised_counts_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.counts = run.counts / 2
    run.write_h5()
    with pytest.raises(SlideError, match="not whole numbers .* Give the raw UMI counts"):
        read(run.path)


def test_what_no_reader_knows_lists_the_formats(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"There is nothing at .*gone"):
        read(tmp_path / "gone")
    with pytest.raises(SlideError) as caught:
        read(tmp_path)
    for reader in READERS:
        assert f"{reader.name}: {reader.expects}" in str(caught.value)
    Run(tmp_path)
    with pytest.raises(SlideError, match=r"Slides lie below it: P1_A\. Name one\."):
        read(tmp_path)


def test_duplicate_genes_that_reach_the_end_are_refused(tmp_path: Path) -> None:
    slide = read(Run(tmp_path).path)
    doubled = replace(slide, genes=("CD8A", "CD8A", "TBCE"))
    with pytest.raises(DuplicateGenesError, match=r"slide P1_A \(CD8A\)"):
        make_slide(doubled, SlideOptions())
    with pytest.raises(
        BarcodeMismatchError,
        match=r"counts has shape \(63, 2\), but there are 63 spots and 3 genes",
    ):
        make_slide(replace(slide, counts=csr_matrix(np.ones((63, 2)))), SlideOptions())
    with pytest.raises(MissingPixelSizeError, match="P1_A has an image but no microns per pixel"):
        make_slide(replace(slide, mpp=None), SlideOptions())


def test_impossible_options_are_refused() -> None:
    for mpp in (0.0, -0.5, float("nan")):
        with pytest.raises(ValueError, match="expected microns per pixel above 0"):
            SlideOptions(mpp=mpp)
