from __future__ import annotations

import math
import pickle
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stamp_index.slides import ArrayImage, SlideImage, open_image
from stamp_index.slides.array_image import halve
from stamp_index.slides.images import exact_downsample
from stamp_index.slides.openslide_image import OpenSlideImage
from tests.image_files import IMAGE, PIXELS, slow_crop, write_pyramid

if TYPE_CHECKING:
    from pathlib import Path


def slow_resize(
    pixels: np.ndarray, corner: tuple[float, float], width: float, out_px: int
) -> np.ndarray:
    """Triangle filter as wide as an output pixel, written out; white outside the image."""
    scale = width / out_px
    reach = max(scale, 1.0)

    def weights(start: float, size: int) -> np.ndarray:
        table = np.zeros((out_px, size + 2))  # the two last columns: before and behind the image
        for i in range(out_px):
            centre = start + (i + 0.5) * scale
            for k in range(math.floor(centre - reach) - 1, math.ceil(centre + reach) + 1):
                column = k if 0 <= k < size else size
                table[i, column] += max(0.0, 1 - abs(k + 0.5 - centre) / reach)
        return table / table.sum(axis=1, keepdims=True)

    padded = np.full((pixels.shape[0] + 2, pixels.shape[1] + 2, 3), 255.0)
    padded[:-2, :-2] = pixels
    rows, columns = weights(corner[1], pixels.shape[0]), weights(corner[0], pixels.shape[1])
    return np.einsum("ah,bw,hwc->abc", rows, columns, padded)


@settings(deadline=None)
@given(st.integers(-40, 930), st.integers(-40, 730), st.integers(1, 40))
def test_reading_at_level_0_equals_a_crop_pixel_by_pixel(x: int, y: int, width: int) -> None:
    np.testing.assert_array_equal(IMAGE.read(x, y, width, width), slow_crop(PIXELS, x, y, width))


@settings(deadline=None, max_examples=40)
@given(st.floats(-30, 70), st.floats(-30, 50), st.floats(5, 60), st.integers(4, 30))
def test_reading_at_any_scale_equals_the_filter_written_out(
    x: float, y: float, width: float, out_px: int
) -> None:
    if math.isclose(width, out_px, abs_tol=1e-2):
        return  # at the level's own scale pixels come through unchanged; tested above
    small = ArrayImage(PIXELS[:60, :80])  # so small that it has no pyramid
    result = small.read(x, y, width, out_px).astype(float)
    expected = slow_resize(PIXELS[:60, :80], (x, y), width, out_px)
    assert np.abs(result - expected).max() <= 2.0  # Pillow rounds to 8 bits after each axis


def test_the_pyramid_of_an_array_changes_little() -> None:
    direct = slow_resize(PIXELS[:300, :300], (20.5, 10.25), 200.0, 25)
    pyramid = IMAGE.read(20.5, 10.25, 200.0, 25)
    assert np.abs(pyramid - direct).max() < 12
    assert np.abs(pyramid - direct).mean() < 1


def test_a_place_looks_the_same_inside_a_wider_read() -> None:
    wide = IMAGE.read(100, 100, 240, 160)
    part = IMAGE.read(100 + 60, 100 + 60, 120, 80)
    assert np.abs(wide[40:120, 40:120].astype(int) - part).max() <= 1


def test_outside_the_image_is_white() -> None:
    assert (IMAGE.read(-5000, -5000, 100, 20) == 255).all()
    half = IMAGE.read(-50, 100, 100, 20)
    assert (half[:, :9] == 255).all()
    assert (half[:, 11:] != 255).any()


def test_boxes_keep_width_and_height_apart() -> None:
    assert IMAGE.read_box(0, 0, (90, 60), (30, 20)).shape == (20, 30, 3)
    assert IMAGE.overview(300).shape == (233, 300, 3)
    assert IMAGE.overview(5000).shape == PIXELS.shape


def test_impossible_reads_are_refused() -> None:
    with pytest.raises(ValueError, match=r"every number must be finite"):
        IMAGE.read(float("nan"), 0, 10, 10)
    with pytest.raises(ValueError, match=r"\(0, 0\) px into \(10, 10\) px"):
        IMAGE.read(0, 0, 0, 10)
    with pytest.raises(ValueError, match=r"shape \(4, 4\) and dtype float64"):
        ArrayImage(np.zeros((4, 4)))


def test_halving_equals_the_mean_of_four_pixels() -> None:
    small = halve(PIXELS[:5, :7])
    assert small.shape == (3, 4, 3)
    block = PIXELS[2:4, 4:6].reshape(4, 3).mean(axis=0)
    assert np.abs(small[1, 2] - block).max() <= 0.5
    np.testing.assert_array_equal(small[2, 3], PIXELS[4, 6])


def test_a_levels_rounded_size_does_not_blur_its_scale() -> None:
    assert exact_downsample((300, 250), (37, 31)) == 8.0
    assert exact_downsample((4443, 3567), (2221, 1783)) == 2.0
    assert exact_downsample((1000, 1000), (300, 300)) == pytest.approx(10 / 3)


def images(tmp_path: Path) -> list[SlideImage]:
    Image.fromarray(PIXELS).save(tmp_path / "slide.png")
    write_pyramid(tmp_path / "slide.tif", PIXELS)
    return [
        IMAGE,
        open_image(tmp_path / "slide.png"),
        open_image(tmp_path / "slide.tif"),
        OpenSlideImage(tmp_path / "slide.tif"),
    ]


def test_images_travel_to_other_processes_before_and_after_reading(tmp_path: Path) -> None:
    for image in images(tmp_path):
        before = pickle.loads(pickle.dumps(image))
        first = image.read(10, 10, 40, 20)
        after = pickle.loads(pickle.dumps(image))
        for copy in (before, after):
            np.testing.assert_array_equal(copy.read(10, 10, 40, 20), first)
            assert (copy.content_hash(), copy.uri, copy.mpp) == (
                image.content_hash(),
                image.uri,
                image.mpp,
            )


def test_a_closed_image_opens_again(tmp_path: Path) -> None:
    for image in images(tmp_path):
        with image:
            first = image.read(10, 10, 40, 20)
        np.testing.assert_array_equal(image.read(10, 10, 40, 20), first)


def test_the_hash_is_of_the_files_bytes(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    Image.fromarray(255 - PIXELS).save(tmp_path / "c.png")
    a, b, c = (open_image(tmp_path / f"{name}.png").content_hash() for name in "abc")
    assert a == b != c
    assert ArrayImage(PIXELS).content_hash() != ArrayImage(255 - PIXELS).content_hash()
