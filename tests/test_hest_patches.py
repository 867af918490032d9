from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.errors import (
    BarcodeMismatchError,
    ImageFormatError,
    MissingPixelSizeError,
    SlideError,
)
from stamp_index.readers import SlideOptions, read
from stamp_index.readers.hest_1k.patch_image import PatchImage
from stamp_index.slides import PatchSpec, read_patches
from tests.hest_files import Sample, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def patched(root: Path, *, mpp: float = 0.25, order: list[int] | None = None) -> Sample:
    sample = Sample(root, mpp=mpp)
    sample.write(wsi=False)
    sample.write_patches(order)
    return sample


def spec() -> PatchSpec:
    return PatchSpec(width_um=112.0, size_px=224)


def test_a_sample_without_its_image_is_read_from_its_patches(tmp_path: Path) -> None:
    sample = Sample(tmp_path, mpp=0.25)
    sample.write(wsi=False)
    order = np.random.default_rng(3).permutation(30).tolist()
    images = sample.write_patches(order)
    slide = read(sample.path)
    assert isinstance(slide.image, PatchImage)
    assert slide.image.size_px == sample.size
    assert slide.mpp == pytest.approx(0.25)
    # Patches are joined by barcode, and come through unchanged at their own scale.
    np.testing.assert_array_equal(read_patches(slide, spec())[order], images)
    assert "put together from TENX1.h5" in " ".join(slide.notes)
    assert "the patches' width of 112 um" in " ".join(slide.notes)


def test_spots_without_a_patch_are_dropped(tmp_path: Path) -> None:
    sample = patched(tmp_path, order=list(range(4, 30)))
    slide = read(sample.path)
    assert slide.spots.index.tolist() == sample.obs.index[4:].tolist()
    np.testing.assert_array_equal(slide.counts.toarray(), sample.x[4:])
    assert "4 of 30 spots have no patch" in " ".join(slide.notes)


def test_the_image_of_the_sample_wins_over_its_patches(tmp_path: Path) -> None:
    sample = patched(tmp_path, mpp=1.0, order=[0, 1])
    sample.write_wsi()
    slide = read(sample.path)
    assert not isinstance(slide.image, PatchImage)
    assert slide.n_spots == 30


def test_a_given_image_wins_over_patches(tmp_path: Path) -> None:
    sample = patched(tmp_path, mpp=1.0, order=[0, 1])
    given_image = sample.write_wsi().rename(tmp_path / "other.tif")
    slide = read(sample.path, SlideOptions(image=given_image))
    assert slide.image is not None
    assert slide.image.uri == str(given_image)


def test_patches_alone_give_a_pixel_size(tmp_path: Path) -> None:
    sample = Sample(tmp_path, mpp=0.25)
    sample.write(wsi=False, metadata=False)
    sample.write_patches()
    slide = read(sample.path)
    assert slide.mpp == pytest.approx(0.25, rel=0.01)


def test_the_slide_is_white_between_patches_and_tissue_at_them(tmp_path: Path) -> None:
    slide = read(patched(tmp_path).path)
    assert slide.image is not None
    np.testing.assert_array_equal(slide.image.read(0, 0, 100, 100), 255)
    overview = slide.image.overview(200)
    x, y = (slide.xy_px[12] * 200 / max(slide.image.size_px)).astype(int)
    expected = picture((200, 179))[y, x].astype(int)
    assert np.abs(overview[y, x].astype(int) - expected).max() <= 6


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.7])
def test_any_place_inside_a_patch_shows_the_slide(tmp_path: Path, mpp: float) -> None:
    sample = patched(tmp_path, mpp=mpp)
    slide = read(sample.path)
    assert slide.image is not None
    whole = picture(sample.size)
    for spot in (0, 13, 29):
        x, y = slide.xy_px[spot]
        for out in (16, 64, 180):
            seen = slide.image.read(x - 20, y - 20, 40, out)[out // 2, out // 2].astype(int)
            assert np.abs(seen - whole[int(y), int(x)]).max() <= 3


@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(-200, 3300),
    y=st.floats(-200, 3000),
    width=st.floats(20, 1500),
    out=st.integers(1, 64),
)
def test_any_box_can_be_read(x: float, y: float, width: float, out: int) -> None:
    pixels = PATCHED.read(x, y, width, out)
    assert pixels.shape == (out, out, 3)
    assert pixels.dtype == np.uint8


@pytest.fixture(autouse=True, scope="module")
def _patched_image(tmp_path_factory: pytest.TempPathFactory) -> None:
    global PATCHED
    image = read(patched(tmp_path_factory.mktemp("hest")).path).image
    assert isinstance(image, PatchImage)
    PATCHED = image


PATCHED: PatchImage


def test_a_copy_in_another_process_or_thread_reads_the_same(tmp_path: Path) -> None:
    slide = read(patched(tmp_path).path)
    before = read_patches(slide, spec())
    image = slide.image
    assert image is not None
    copy = pickle.loads(pickle.dumps(image))
    box = (400.0, 400.0, 448.0, 224)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: copy.read(*box), range(8)))
    for result in results:
        np.testing.assert_array_equal(result, image.read(*box))
    image.close()
    np.testing.assert_array_equal(read_patches(slide, spec()), before)
    assert copy.content_hash() == image.content_hash()


def edit(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "a") as file:
            values = change(file[name][:])
            del file[name]
            file[name] = values

    return apply


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def lose_coords(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["coords"]


# HEST-Bench has centres as (row, column) under the same name.
def as_benchmark(corners: np.ndarray) -> np.ndarray:
    return corners[:, ::-1] + 224


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        pytest.param(cut, SlideError, "cannot be read", id="cut short"),
        pytest.param(lose_coords, SlideError, "img, coords and barcode", id="no coords"),
        pytest.param(
            edit("barcode", lambda b: np.full_like(b, b[0])),
            BarcodeMismatchError,
            "stand more than once",
            id="twice",
        ),
        pytest.param(
            edit("barcode", lambda b: np.array([[b"Z%d" % i] for i in range(len(b))])),
            BarcodeMismatchError,
            "30 of the 30 patches have no spot with counts",
            id="foreign",
        ),
        pytest.param(
            edit("barcode", lambda b: b[::-1]), SlideError, "do not lie at the spots", id="shuffled"
        ),
        pytest.param(edit("barcode", lambda b: b[1:]), SlideError, "29 barcodes", id="one too few"),
        pytest.param(
            edit("coords", as_benchmark), SlideError, "not the centres of its benchmark", id="bench"
        ),
        pytest.param(edit("coords", lambda c: c[:, :1]), SlideError, "corner", id="one coordinate"),
        pytest.param(
            edit("img", lambda i: i[:, ::2, ::2]), SlideError, r"\(30, 112, 112, 3\)", id="small"
        ),
        pytest.param(
            edit("img", lambda i: i.astype(np.float32)), ImageFormatError, "of uint8", id="floats"
        ),
    ],
)
def test_patches_that_do_not_belong_are_refused(
    tmp_path: Path, damage: Callable[[Path], None], error: type[SlideError], match: str
) -> None:
    sample = patched(tmp_path, mpp=0.5)
    damage(sample.patches)
    with pytest.raises(error, match=match):
        read(sample.path)


def test_patches_of_another_scale_are_refused(tmp_path: Path) -> None:
    sample = patched(tmp_path, mpp=0.5)
    with h5py.File(sample.patches, "a") as file:
        file["coords"][:] = (sample.xy - 140).astype(int)  # 140 um wide
    with pytest.raises(MissingPixelSizeError, match="the patches' width of 112 um is 0.39"):
        read(sample.path)


def test_a_file_that_goes_away_is_told_when_it_is_read(tmp_path: Path) -> None:
    sample = patched(tmp_path, mpp=0.5)
    slide = read(sample.path)
    assert slide.image is not None
    slide.image.close()
    sample.patches.unlink()
    with pytest.raises(ImageFormatError, match="cannot be read"):
        slide.image.read(0, 0, 500, 100)
