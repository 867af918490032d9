from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from stamp_index.errors import ImageFormatError
from stamp_index.slides import PlainImage, open_image
from stamp_index.slides.openslide_image import OpenSlideImage
from stamp_index.slides.tiff_image import TiffImage
from tests.image_files import PIXELS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_plain_files_are_decoded_once_and_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"slide.{suffix}"
    Image.fromarray(PIXELS).save(path, quality=95) if suffix == "jpg" else Image.fromarray(
        PIXELS
    ).save(path)
    image = open_image(path)
    assert isinstance(image, PlainImage)
    assert image.mpp is None
    assert np.abs(image.read(10, 20, 60, 60).astype(int) - PIXELS[20:80, 10:70]).mean() <= (
        8 if suffix == "jpg" else 0
    )
    path.rename(tmp_path / "moved")
    assert image.read(0, 0, 5, 5).shape == (5, 5, 3)


def test_fast_and_slow_jpeg_decoding_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "slide.jpg"
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        Image.fromarray(PIXELS).save(path, **options)
        with Image.open(path) as slow:
            np.testing.assert_array_equal(open_image(path).overview(9999), np.asarray(slow))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        pytest.param("RGBA", (200, 0, 0, 0), (255, 255, 255), id="transparent_is_white"),
        pytest.param("RGBA", (200, 0, 0, 255), (200, 0, 0), id="opaque"),
        pytest.param("L", 90, (90, 90, 90), id="grey"),
        pytest.param("LA", (90, 0), (255, 255, 255), id="transparent_grey"),
        pytest.param("1", 1, (255, 255, 255), id="bilevel"),
    ],
)
def test_every_mode_becomes_rgb_on_white(
    tmp_path: Path, mode: str, colour: object, expected: tuple
) -> None:
    path = tmp_path / "slide.png"
    Image.new(mode, (20, 10), colour).save(path)
    assert (open_image(path).overview(20) == expected).all()


def test_grey_and_cmyk_jpegs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "slide.jpg"
    Image.new("L", (20, 10), 90).save(path)
    assert np.abs(open_image(path).overview(20).astype(int) - 90).max() <= 2
    Image.new("RGB", (20, 10), (200, 40, 40)).convert("CMYK").save(path)
    assert np.abs(open_image(path).overview(20).astype(int) - (200, 40, 40)).max() <= 12


def test_sixteen_bits_are_refused_and_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "slide.png"
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(path)
    with pytest.raises(ImageFormatError, match="more than 8 bits per channel"):
        open_image(path).read(0, 0, 2, 2)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_truncated_file_is_refused_by_its_path(tmp_path: Path, suffix: str) -> None:
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    Image.fromarray(PIXELS).save(whole)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ImageFormatError, match=rf"cut\.{suffix} is damaged"):
        open_image(path).read(0, 0, 50, 50)


def test_a_jpeg_that_is_closed_too_early_is_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(PIXELS).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    # libjpeg fills the rest in without an error; this test records that nothing worse happens.
    assert open_image(path).read(0, 0, 50, 50).shape == (50, 50, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", r"first bytes are b''", id="empty"),
        pytest.param(b"just text", r"first bytes are b'just tex'", id="text"),
        pytest.param(b"GIF89a" + bytes(40), "not an image that can be read", id="gif"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(10), "is damaged", id="png_without_header"),
        pytest.param(b"\xff\xd8\xff\xe0", "is damaged", id="jpeg_without_header"),
        pytest.param(b"II*\0" + bytes(20), "is damaged", id="tiff_without_pages"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "slide.png"
    path.write_bytes(content)
    with pytest.raises(ImageFormatError, match=message):
        open_image(path)


def test_a_missing_image_is_named() -> None:
    with pytest.raises(ImageFormatError, match=r"nowhere\.svs cannot be read \(No such file"):
        open_image("nowhere.svs")


def test_an_image_too_large_without_tiles_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "slide.png"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr("stamp_index.slides.plain.MAX_PLAIN_PX", 1000)
    with pytest.raises(
        ImageFormatError,
        match=r"900 x 700 px; an image without tiles may have 1,000 px at most.*vips tiffsave",
    ):
        open_image(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("broken.svs", r"broken\.svs is not an image that can be read", id="broken"),
        pytest.param(
            "unreadable.svs",
            r"unreadable\.svs opens, but its pixels cannot be read at x 0, y 0",
            id="unreadable",
        ),
        pytest.param(
            "unopenable.tiff",
            r"OpenSlide cannot open .*unopenable\.tiff \(Unsupported TIFF compression",
            id="unopenable",
        ),
    ],
)
def test_broken_slides_are_refused_by_their_path(
    shared_data: Path, name: str, message: str
) -> None:
    for _ in range(2):  # the second try says the same as the first
        with pytest.raises(ImageFormatError, match=message):
            open_image(shared_data / "wsi" / name).read(0, 0, 10, 10)


@pytest.mark.parametrize(
    ("name", "kind", "size", "mpp"),
    [
        ("cmu-1-small-region.svs", OpenSlideImage, (2220, 2967), 0.499),
        ("tcga-cr-7395-01a-01-ts1.svs", OpenSlideImage, (4443, 3567), None),
        ("kidney-48-5.tif", PlainImage, (1493, 901), None),
        ("boxes.tiff", TiffImage, (300, 250), None),
        ("boxes_dicom/boxes_0.dcm", OpenSlideImage, (16, 16), 0.499),
    ],
)
def test_real_slides_open_and_read(
    shared_data: Path, name: str, kind: type, size: tuple[int, int], mpp: float | None
) -> None:
    with open_image(shared_data / "wsi" / name) as image:
        assert (type(image), image.size_px, image.mpp) == (kind, size, mpp)
        overview = image.overview(120)
        assert max(overview.shape) == min(120, max(size))
        assert overview.std() > 1


def test_a_large_trusted_jpeg_opens_without_a_warning(shared_data: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    path = shared_data / "her2st/ST-imgs/C/C2/5714_HE_BT_C2.jpg"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_image(path) as image:
            assert image.size_px == (9274, 9911)
            patch = image.read(4000, 5000, 900, 224)
    assert patch.std() > 10
    assert limit == Image.MAX_IMAGE_PIXELS
