"""TIFFs and other files in every kind of colour: read as RGB on white, or refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image

from stamp_index.errors import ImageFormatError
from stamp_index.slides import open_image

if TYPE_CHECKING:
    from pathlib import Path

PINK = (200, 100, 150)
RGB = np.full((300, 400, 3), 255, dtype=np.uint8)
RGB[150:] = PINK
RGBA = np.dstack([RGB, np.full((300, 400), 255, dtype=np.uint8)])
RGBA[:150] = 0  # transparent black, as outside a scanned region
CMYK = np.dstack([255 - RGB, np.zeros((300, 400), dtype=np.uint8)])
INDEX = (RGB[:, :, 1] == 100).astype(np.uint8)
PALETTE = np.zeros((3, 256), dtype=np.uint16)
PALETTE[:, 0], PALETTE[:, 1] = 65_535, np.array(PINK) * 257


@pytest.mark.parametrize("tile", [(128, 128), None], ids=["tiles", "strips"])
@pytest.mark.parametrize(
    ("pixels", "options", "expected"),
    [
        pytest.param(RGBA, {"photometric": "rgb", "extrasamples": [2]}, PINK, id="rgba"),
        pytest.param(RGBA, {"photometric": "rgb", "extrasamples": [1]}, PINK, id="premultiplied"),
        pytest.param(CMYK, {"photometric": "separated"}, PINK, id="cmyk"),
        pytest.param(INDEX, {"photometric": "palette", "colormap": PALETTE}, PINK, id="palette"),
        pytest.param(RGB[:, :, 1], {}, (100, 100, 100), id="grey"),
        pytest.param(255 - RGB[:, :, 1], {"photometric": 0}, (100, 100, 100), id="white_is_zero"),
        pytest.param(
            RGB.astype(np.uint16) * 257, {"photometric": "rgb"}, PINK, id="sixteen_bits_of_rgb"
        ),
    ],
)
def test_every_kind_of_tiff_becomes_rgb_on_white(
    tmp_path: Path, tile: tuple | None, pixels: np.ndarray, options: dict, expected: tuple
) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, tile=tile, **options)
    with open_image(path) as image:
        assert (image.read(100, 50, 40, 40) == 255).all()
        assert np.abs(image.read(100, 200, 40, 40).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [
        pytest.param("P", None, id="palette"),
        pytest.param("P", 0, id="palette_with_a_transparent_colour"),
        pytest.param("LA", None, id="grey_with_alpha"),
    ],
)
def test_every_kind_of_png_becomes_rgb_on_white(
    tmp_path: Path, mode: str, transparency: int | None
) -> None:
    path = tmp_path / "slide.png"
    if mode == "P":
        image = Image.fromarray(INDEX)
        image.putpalette([0, 0, 0, *PINK] if transparency == 0 else [255, 255, 255, *PINK])
    else:
        image = Image.fromarray(RGBA).convert("LA")
    image.save(path, **({} if transparency is None else {"transparency": transparency}))
    with open_image(path) as opened:
        assert (opened.read(100, 50, 40, 40) == 255).all()
        expected = PINK if mode == "P" else (np.dot(PINK, (0.299, 0.587, 0.114)),) * 3
        assert np.abs(opened.read(100, 200, 40, 40).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        pytest.param(
            np.stack([RGB[:, :, 0]] * 5),
            {"ome": True, "metadata": {"axes": "CYX"}},
            "has 5 channels, as fluorescence has",
            id="fluorescence",
        ),
        pytest.param(
            RGB.astype(np.float32), {"photometric": "rgb"}, "cannot be read.*32-bit", id="floats"
        ),
    ],
)
def test_what_is_no_picture_of_stains_is_refused(
    tmp_path: Path, pixels: np.ndarray, options: dict, message: str
) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, tile=(128, 128), **options)
    with pytest.raises(ImageFormatError, match=message):
        open_image(path).read(0, 0, 40, 40)


def test_jpeg_2000_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "slide.jp2"
    Image.fromarray(RGB).save(path)
    with pytest.raises(ImageFormatError, match=r"JPEG 2000, which is not read.*vips tiffsave"):
        open_image(path)
