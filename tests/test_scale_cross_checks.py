from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from stamp_index.errors import MissingPixelSizeError, SlideError
from stamp_index.readers import SlideOptions, read
from stamp_index.readers.common.image_scale import same_shape_scale
from stamp_index.readers.common.visium_array import neighbour_steps, visium_pitch
from tests.anndata_files import PITCH as H5AD_PITCH
from tests.anndata_files import visium
from tests.space_ranger_run import PITCH, Run
from tests.visium_hd_files import HdRun

if TYPE_CHECKING:
    from pathlib import Path


def scale(run: Run, **factors: float) -> Path:
    run.scale_factors.update(factors)
    run.write_scale_factors()
    return run.path


@pytest.mark.parametrize("kind", ["hires", "lowres"])
def test_images_of_which_one_has_a_wrong_scale_factor_are_refused_by_name(
    tmp_path: Path, kind: str
) -> None:
    run = Run(tmp_path)
    name = f"tissue_{kind}_scalef"
    path = scale(run, **{name: run.scale_factors[name] * 1.05})
    both = r"tissue_hires_image\.png and tissue_hires_scalef give .* but tissue_lowres_image\.png and tissue_lowres_scalef"
    with pytest.raises(SlideError, match=both):
        read(path)
    with pytest.raises(SlideError, match=both):
        read(path, SlideOptions(image=run.write_tiff()))


def test_scale_factors_within_3_percent_agree(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert read(scale(run, tissue_lowres_scalef=0.15 * 1.02)).mpp == pytest.approx(1.0)


def test_a_lowres_image_of_another_slide_is_refused_on_visium_hd(tmp_path: Path) -> None:
    run = HdRun(tmp_path)
    path = run.folder(16) / "spatial/tissue_lowres_image.png"
    Image.new("RGB", (45, 40), (200, 130, 180)).save(path)
    assert read(run.path).n_spots == 20
    Image.new("RGB", (60, 40), (200, 130, 180)).save(path)
    with pytest.raises(SlideError, match="tissue_hires_scalef give .* but tissue_lowres"):
        read(run.path)


def test_pictures_of_different_size_inside_an_h5ad_are_refused(tmp_path: Path) -> None:
    adata = visium()
    adata.uns["spatial"]["P1"]["scalefactors"]["tissue_lowres_scalef"] = 0.1
    adata.write_h5ad(tmp_path / "P1.h5ad")
    with pytest.raises(SlideError, match="hires and tissue_hires_scalef give .* but lowres and ti"):
        read(tmp_path / "P1.h5ad")


@pytest.mark.parametrize("um", [65.0, 64.0, 55.0])
def test_a_spot_diameter_of_65_or_55_um_agrees_with_the_pitch(tmp_path: Path, um: float) -> None:
    slide = read(scale(Run(tmp_path), spot_diameter_fullres=PITCH * um / 100))
    assert slide.mpp == pytest.approx(1.0)
    said = f"which agrees with spot_diameter_fullres, which spans {65 if um > 60 else 55} um"
    assert any(said in note for note in slide.notes)


@pytest.mark.parametrize("um", [32.5, 60.0, 75.0, 130.0])
def test_a_spot_diameter_that_contradicts_the_pitch_is_refused_naming_both(
    tmp_path: Path, um: float
) -> None:
    both = r"derived from the spots' pitch of 100 um is .* derived from spot_diameter_fullres, which spans 65 um \(or 55"
    with pytest.raises(MissingPixelSizeError, match=both):
        read(scale(Run(tmp_path), spot_diameter_fullres=PITCH * um / 100))
    adata = visium()
    adata.uns["spatial"]["P1"]["scalefactors"]["spot_diameter_fullres"] = H5AD_PITCH * um / 100
    adata.write_h5ad(tmp_path / "P1.h5ad")
    with pytest.raises(MissingPixelSizeError, match=both):
        read(tmp_path / "P1.h5ad")


def test_positions_stretched_one_way_give_no_pixel_size(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.positions[4] *= 1.1
    run.write_positions()
    with pytest.raises(MissingPixelSizeError, match="px apart in the directions of the array"):
        read(run.path)


def test_shuffled_positions_give_no_pixel_size(tmp_path: Path) -> None:
    run = Run(tmp_path)
    order = np.random.default_rng(0).permutation(len(run.positions))
    run.positions[[4, 5]] = run.positions[[4, 5]].to_numpy()[order]
    run.write_positions()
    with pytest.raises(MissingPixelSizeError, match="px apart|spot_diameter_fullres"):
        read(run.path)


def places(rows: int, columns: int) -> np.ndarray:
    return np.array([(r, c) for r in range(rows) for c in range(r % 2, columns, 2)])


def test_the_pitch_is_seen_on_turned_and_mirrored_arrays_with_holes() -> None:
    array = places(9, 14)
    xy = array[:, ::-1] * (25.0, 50 * 0.75**0.5)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]]) @ np.diag([1, -1])
    kept = np.arange(len(array)) % 5 > 0
    assert visium_pitch(array[kept], xy[kept] @ turn.T + 300) == pytest.approx(50)
    assert neighbour_steps(array, xy) == pytest.approx([50, 50, 50])


@pytest.mark.parametrize(
    ("array", "step"),
    [
        pytest.param(places(6, 8), (94.0, 105.0), id="the_staggered_array_of_legacy_st"),
        pytest.param(np.argwhere(np.ones((6, 6))), (50.0, 50.0), id="a_square_array"),
    ],
)
def test_other_arrays_are_not_taken_for_visium(
    array: np.ndarray, step: tuple[float, float]
) -> None:
    assert visium_pitch(array, array[:, ::-1] * step) is None


def test_spots_without_neighbours_have_no_steps() -> None:
    array = np.array([(0, 0), (6, 6), (2, 10)])
    assert neighbour_steps(array, array * 10.0) == []
    assert neighbour_steps(array[:0], array[:0] * 10.0) == []


def test_a_scale_is_one_where_the_full_size_is_not_known_better() -> None:
    assert same_shape_scale((4000, 3000), (4020.0, 3012.0), known_to=0.01) == 1.0
    assert same_shape_scale((4000, 3000), (4020.0, 3015.0)) == pytest.approx(0.995, abs=1e-3)
    assert same_shape_scale((4000, 3000), (4000.0, 2900.0)) is None
