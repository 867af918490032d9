from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stamp_index.errors import (
    MissingPixelSizeError,
    SlideError,
)
from stamp_index.readers import SlideOptions, find_slides, read
from tests.space_ranger_run import FULL, IDS, PITCH, Run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mtx", [False, True], ids=["h5", "mtx"])
@pytest.mark.parametrize("header", [True, False], ids=["header", "no_header"])
def test_a_run_is_read_whole(tmp_path: Path, mtx: bool, header: bool) -> None:
    run = Run(tmp_path, mtx=mtx, header=header)
    slide = read(run.path)
    assert (slide.slide_id, slide.platform, slide.species, slide.reader) == (
        "P1_A",
        "Visium",
        "human",
        "Space Ranger",
    )
    assert slide.spots.index.tolist() == run.barcodes
    assert slide.genes == ("CD8A", "EPCAM", "TBCE")
    assert slide.gene_ids == tuple(IDS[:3])
    expected = np.stack(
        [run.counts[:, 0], run.counts[:, 1], run.counts[:, 2] + run.counts[:, 3]], 1
    )
    np.testing.assert_array_equal(slide.counts.toarray(), expected)
    assert slide.mpp == pytest.approx(1.0)  # hires has half the pixels
    assert slide.spots.loc["B0-2", ["x_px", "y_px"]].tolist() == [(600 + PITCH) / 2, 250]
    notes = " ".join(slide.notes)
    assert "1 gene symbols stand for several ids; their counts were summed (TBCE)" in notes
    assert "1 features that are not genes were left out" in notes
    assert "Image: tissue_hires_image.png." in notes
    assert "1 um/px, derived from the spots' pitch of 100 um" in notes


def test_h5_and_mtx_give_the_same_slide(tmp_path: Path) -> None:
    one, other = read(Run(tmp_path / "a").path), read(Run(tmp_path / "b", mtx=True).path)
    assert one.counts_hash() == other.counts_hash()
    assert one.genes == other.genes


def test_without_hires_the_lowres_image_is_used_and_named(tmp_path: Path) -> None:
    slide = read(Run(tmp_path, hires=False).path)
    assert slide.image.size_px == (600, 450)
    assert slide.mpp == pytest.approx(0.5 / 0.15)
    assert slide.spots.loc["B0-2", "x_px"] == pytest.approx((600 + PITCH) * 0.15)
    assert any(
        "tissue_hires_image.png is missing" in note and "tissue_lowres_image.png" in note
        for note in slide.notes
    )


def test_a_run_without_any_image_has_counts_and_positions_and_names_the_remedy(
    tmp_path: Path,
) -> None:
    whole = read(Run(tmp_path / "whole").path)
    run = Run(tmp_path / "blind", hires=False)
    (run.spatial / "tissue_lowres_image.png").unlink()
    slide = read(run.path)
    assert slide.image is None
    np.testing.assert_allclose(slide.xy_um, whole.xy_um, atol=0.5)
    assert (slide.counts != whole.counts).nnz == 0
    (note,) = [note for note in slide.notes if note.startswith("No image")]
    assert "neither tissue_hires_image.png nor tissue_lowres_image.png" in note
    assert "slide.toml (image = ...)" in note


@pytest.mark.parametrize(
    ("size", "mpp"),
    [
        pytest.param(FULL, 0.5, id="full_resolution"),
        pytest.param((2000, 1500), 1.0, id="hires_scale"),
        pytest.param((1000, 750), 2.0, id="another_scale"),
    ],
)
@pytest.mark.parametrize("tagged", [True, False], ids=["tagged", "untagged"])
def test_the_scale_of_a_given_image_is_found(
    tmp_path: Path, size: tuple[int, int], mpp: float, tagged: bool
) -> None:
    run = Run(tmp_path)
    slide = read(
        run.path, SlideOptions(image=run.write_tiff(mpp=mpp if tagged else None, size=size))
    )
    assert slide.image.size_px == size
    assert slide.mpp == pytest.approx(mpp, rel=1e-3)
    assert slide.spots.loc["B0-2", "x_px"] == pytest.approx((600 + PITCH) * 0.5 / mpp, rel=1e-3)


def test_a_given_image_needs_a_pixel_size_where_nothing_else_tells_its_scale(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, hires=False)
    (run.spatial / "tissue_lowres_image.png").unlink()
    image = run.write_tiff(mpp=None, size=(2000, 1500))
    with pytest.raises(
        SlideError, match=r"scale of .*image\.tif against the spot positions is unknown.*Give mpp"
    ):
        read(run.path, SlideOptions(image=image))
    slide = read(run.path, SlideOptions(image=image, mpp=1.01))
    assert slide.mpp == 1.01
    assert slide.spots.loc["B0-2", "x_px"] == (600 + PITCH) / 2  # snapped to the known hires scale


def test_a_pixel_size_that_nearly_agrees_is_taken_as_given(tmp_path: Path) -> None:
    slide = read(Run(tmp_path).path, SlideOptions(mpp=1.02))
    assert slide.mpp == 1.02
    assert any(
        "given by option or slide.toml, which agrees with the spots' pitch" in note
        for note in slide.notes
    )


def test_a_given_pixel_size_that_the_images_metadata_bear_out_is_told_in_a_sentence(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path)
    slide = read(run.path, SlideOptions(image=run.write_tiff(mpp=0.5), mpp=0.5))
    said = (
        "given by option or slide.toml, which agrees with the image's metadata and the spots' pitch"
    )
    assert any(said in note for note in slide.notes)


def test_without_neighbours_the_spot_diameter_gives_the_pixel_size(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.positions[3] *= 10
    run.write_positions()
    slide = read(run.path)
    assert slide.mpp == pytest.approx(1.0)
    assert any("spot_diameter_fullres, which spans 65 um" in note for note in slide.notes)
    del run.scale_factors["spot_diameter_fullres"]
    run.write_scale_factors()
    with pytest.raises(MissingPixelSizeError, match="nothing else gives one. Give mpp"):
        read(run.path)
    assert read(run.path, SlideOptions(mpp=1.0)).mpp == 1.0


def test_spots_without_counts_off_tissue_or_empty_are_dropped_with_notes(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.positions.loc[1, 1] = 0  # has counts, off tissue
    run.write_positions()
    run.counts[4] = 0
    run.barcodes, run.counts = run.barcodes[:-1], run.counts[:-1]
    run.write_h5()
    slide = read(run.path)
    assert slide.n_spots == 60
    notes = " ".join(slide.notes)
    assert "spots are not under tissue: dropped" in notes
    assert "1 spots under tissue have no counts and were dropped (B7-15)" in notes
    assert "1 of 61 spots have no counts and were dropped (B0-10)" in notes


def test_a_sidecar_speaks_for_the_slide_and_options_over_it(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_tiff()
    (run.path / "slide.toml").write_text(
        'slide_id = "S9"\npatient_id = "P9"\norgan = "lymph node"\nspecies = "human"\nplatform = "phantom"\nmpp = 0.5\nimage = "image.tif"\n'
    )
    slide = read(run.path, SlideOptions(organ="tonsil"))
    assert (slide.slide_id, slide.patient_id, slide.organ, slide.platform) == (
        "S9",
        "P9",
        "tonsil",
        "phantom",
    )
    assert (slide.image.size_px, slide.mpp) == (FULL, 0.5)


def test_a_run_named_outs_is_called_by_its_folder(tmp_path: Path) -> None:
    run = Run(tmp_path)
    (tmp_path / "sample345").mkdir()
    run.path.rename(tmp_path / "sample345" / "outs")
    assert read(tmp_path / "sample345" / "outs").slide_id == "sample345"
    assert find_slides(tmp_path) == [tmp_path / "sample345" / "outs"]


def test_the_real_visium_folder_without_hires_reads(shared_data: Path) -> None:
    path = shared_data / "visium_muscle" / "Vis5A_2dpi"
    slide = read(path)
    assert (slide.slide_id, slide.species, slide.n_spots) == ("Vis5A_2dpi", "mouse", 982)
    assert slide.mpp == pytest.approx(13.36, abs=0.01)
    assert any("tissue_hires_image.png is missing" in note for note in slide.notes)
    grey = read(path, SlideOptions(image=path / "spatial" / "aligned_fiducials.jpg"))
    assert grey.image.size_px == (2000, 1963)
    assert grey.mpp == pytest.approx(13.36 * 0.3, abs=0.01)
    np.testing.assert_allclose(grey.xy_um, slide.xy_um, rtol=1e-3)
