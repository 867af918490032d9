from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from stamp_index.readers import read
from stamp_index.slides import ArrayImage, TissueMask, TissueSettings, open_image, tissue_mask
from tests.tissue_files import MPP, slide, stained


def agreement(mask: TissueMask, inside: np.ndarray) -> float:
    """Area of the intersection over the area of the union."""
    rows = (np.arange(mask.tissue.shape[0]) + 0.5) * inside.shape[0] / mask.tissue.shape[0]
    columns = (np.arange(mask.tissue.shape[1]) + 0.5) * inside.shape[1] / mask.tissue.shape[1]
    known = inside[np.ix_(rows.astype(int), columns.astype(int))]
    return float((mask.tissue & known).sum() / (mask.tissue | known).sum())


@pytest.mark.parametrize(
    "glass",
    [
        pytest.param((255, 255, 255), id="white"),
        pytest.param((130, 131, 127), id="grey"),
        pytest.param((240, 215, 228), id="pink"),
        pytest.param((214, 205, 218), id="violet"),
    ],
)
def test_tissue_is_found_on_glass_of_any_colour(glass: tuple[int, int, int]) -> None:
    pixels, inside = slide(glass=glass)
    mask = tissue_mask(ArrayImage(pixels), MPP)
    assert agreement(mask, inside) > 0.95
    assert mask.flags == ()
    assert mask.mpp == pytest.approx(8.0, rel=0.01)
    assert mask.tissue_mm2 == pytest.approx(inside.sum() * MPP**2 / 1e6, rel=0.05)


def test_eosin_that_ran_over_the_glass_is_no_tissue() -> None:
    pixels, inside = slide()
    x = np.mgrid[:900, :1200][1]
    smear = 1 - 0.14 * np.exp(-(((x - 1000) / 200) ** 2))
    pixels[:, :, 1] = pixels[:, :, 1] * smear
    assert agreement(tissue_mask(ArrayImage(pixels), MPP), inside) > 0.93


def test_painted_black_is_no_tissue() -> None:
    pixels, inside = slide()
    pixels[:, :150] = 0
    pixels[:100] = 0
    mask = tissue_mask(ArrayImage(pixels), MPP)
    assert agreement(mask, inside) > 0.95
    assert mask.flags == ("painted background",)


def test_grey_prints_and_shadows_are_no_tissue() -> None:
    pixels, inside = slide()
    pixels[20:80, 20:400] = 90
    y, x = np.mgrid[:900, :1200]
    shadow = 1 - 0.35 * np.exp(-((x - 80) ** 2 + (y - 800) ** 2) / 60**2)
    tint = 1 - (1 - shadow[:, :, None]) * np.array(
        [1.0, 1.0, 0.6]
    )  # a little blue, as out of focus
    assert agreement(tissue_mask(ArrayImage((pixels * tint).astype(np.uint8)), MPP), inside) > 0.94


@pytest.mark.parametrize("level", [255, 238, 130])
def test_bare_glass_has_no_tissue(level: int) -> None:
    noise = np.random.default_rng(0).normal(level, 2, (600, 600, 3))
    mask = tissue_mask(ArrayImage(np.clip(noise, 0, 255).astype(np.uint8)), MPP)
    assert not mask.tissue.any()
    assert mask.share(np.array([600.0]), np.array([600.0]), 100)[0] == 0


def test_a_grey_picture_has_no_tissue() -> None:
    pixels, _ = slide()
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    assert not tissue_mask(ArrayImage(grey), MPP).tissue.any()


def test_a_crop_that_is_all_tissue_keeps_its_paler_half() -> None:
    tissue = stained(600, 600)
    tissue[:, 300:] = 255 - (255 - tissue[:, 300:]) * 0.4
    mask = tissue_mask(ArrayImage(tissue.astype(np.uint8)), MPP)
    assert mask.tissue.mean() > 0.98


@pytest.mark.parametrize(
    "ink",
    [
        pytest.param((20, 60, 190), id="blue"),
        pytest.param((20, 150, 70), id="green"),
        pytest.param((225, 25, 35), id="red"),
        pytest.param((35, 35, 38), id="black"),
    ],
)
def test_ink_is_told_from_stains(ink: tuple[int, int, int]) -> None:
    pixels, inside = slide()
    pixels[400:440, 100:700] = ink  # from glass onto tissue
    mask = tissue_mask(ArrayImage(pixels), MPP)
    assert "pen" in mask.flags
    on, off = np.array([250.0, 600.0]), np.array([600.0, 900.0])
    there, elsewhere = np.full(2, 420.0), np.full(2, 600.0)
    assert (mask.share(on, there, 30, of="pen") == 1).all()
    assert (mask.share(on, there, 30) == 0).all()
    assert (mask.share(off, elsewhere, 30, of="pen") == 0).all()
    assert "pen" not in tissue_mask(ArrayImage(slide()[0]), MPP).flags


def test_what_is_out_of_focus_is_found() -> None:
    pixels, inside = slide()
    blurred = gaussian_filter(pixels, (4, 4, 0))
    pixels[:, 600:] = blurred[:, 600:]
    mask = tissue_mask(ArrayImage(pixels), MPP)
    middle = np.full(2, 450.0)
    np.testing.assert_array_equal(
        mask.share(np.array([420.0, 780.0]), middle, 100, of="blur") > 0.5, [False, True]
    )
    assert not (mask.blur & ~mask.tissue).any()


def test_pale_tissue_is_not_taken_for_blur() -> None:
    pixels, inside = slide()
    pale = 255 - (255.0 - pixels) * 0.4
    pixels[:, 600:] = pale[:, 600:]
    assert not tissue_mask(ArrayImage(pixels), MPP).blur.any()


def test_folds_are_found() -> None:
    pixels, inside = slide()
    pixels[350:550, 580:620] = pixels[350:550, 580:620] * (0.35, 0.1, 0.4)
    mask = tissue_mask(ArrayImage(pixels), MPP)
    assert mask.share(np.array([600.0]), np.array([450.0]), 30, of="fold")[0] == 1
    assert mask.fold.mean() < 0.02


def test_a_coarse_image_says_that_it_shows_no_focus() -> None:
    pixels, inside = slide()
    mask = tissue_mask(ArrayImage(pixels), 6.0)
    assert "too coarse to tell focus" in mask.flags
    assert "out of focus" not in mask.flags
    assert not mask.blur.any()


@settings(deadline=None, max_examples=60)
@given(
    st.floats(-50, 350),
    st.floats(-50, 250),
    st.floats(1, 200),
    st.sampled_from(["tissue", "pen", "blur", "fold"]),
)
def test_shares_equal_the_overlap_of_squares_pixel_by_pixel(
    x: float, y: float, width: float, of: str
) -> None:
    rng = np.random.default_rng(3)
    arrays = rng.random((4, 10, 15)) < 0.5
    mask = TissueMask(*arrays, mpp=8.0, size_px=(300, 200), threshold=0.05)
    covered = 0.0
    for row, column in np.argwhere(getattr(mask, of)):
        across = min(x + width / 2, 20 * column + 20) - max(x - width / 2, 20 * column)
        down = min(y + width / 2, 20 * row + 20) - max(y - width / 2, 20 * row)
        covered += max(across, 0) * max(down, 0)
    share = mask.share(np.array([x]), np.array([y]), width, of=of)
    assert share[0] == pytest.approx(covered / width**2, abs=1e-5)


def test_the_overlay_shows_the_outline_at_any_size() -> None:
    pixels, _ = slide()
    image = ArrayImage(pixels)
    mask = tissue_mask(image, MPP)
    for size in (100, 600):
        overlay = mask.to_overlay(image.overview(size))
        assert overlay.shape == image.overview(size).shape
        assert (overlay == (0, 160, 0)).all(axis=2).any()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"black is -1; expected a number of 0 or more"):
        TissueSettings(black=-1)
    with pytest.raises(ValueError, match=r"min_saturation is 0\.5, above max_saturation"):
        TissueSettings(min_saturation=0.5)
    with pytest.raises(ValueError, match="must be above 0"):
        TissueSettings(mpp=0)
    with pytest.raises(ValueError, match="mpp is 0; expected microns per pixel above 0"):
        tissue_mask(ArrayImage(slide()[0]), 0)
    with pytest.raises(ValueError, match="width_px is 0; a square must be wider"):
        tissue_mask(ArrayImage(slide()[0]), MPP).share(np.zeros(1), np.zeros(1), 0)


@pytest.mark.parametrize("replicate", [1, 5, 9])
def test_annotated_spots_of_the_olfactory_bulb_lie_on_tissue(shared_data, replicate: int) -> None:
    folder = shared_data / "mob_stahl"
    image = open_image(folder / f"images/{replicate:02d}.jpg")
    names = pd.read_csv(folder / f"annotations/{replicate:02d}_01.tsv", sep="\t", index_col=0)
    array = np.array([name.split("_") for name in names.columns], dtype=float)
    xy = (array - 1) / (32, 34) * image.size_px
    mask = tissue_mask(image, 2.76)
    assert (mask.share(*xy.T, 1.0) > 0.5).mean() > 0.95
    assert 0.15 < mask.tissue.mean() < 0.3


def test_selected_spots_of_her2st_lie_on_tissue(shared_data) -> None:
    spots = read(shared_data / "her2st/ST-cnts/C2.tsv.gz")
    mask = tissue_mask(spots.image, spots.mpp)
    assert (mask.share(*spots.xy_px.T, 1.0) > 0.5).mean() > 0.95
    assert mask.tissue.mean() < 0.2
