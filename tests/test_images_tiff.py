from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from stamp_index.errors import ImageFormatError, MissingPixelSizeError
from stamp_index.slides import PlainImage, open_image
from stamp_index.slides.openslide_image import OpenSlideImage
from stamp_index.slides.tiff_image import TiffImage
from tests.image_files import IMAGE, MPP, PIXELS, slow_crop, write_pyramid

if TYPE_CHECKING:
    from pathlib import Path

KINDS = [
    pytest.param({}, TiffImage, id="pages"),
    pytest.param({"subifds": True}, TiffImage, id="sub_levels"),
    pytest.param({"compression": "zstd"}, TiffImage, id="compression_openslide_lacks"),
    pytest.param({"compression": "deflate", "predictor": True}, TiffImage, id="predictor"),
    pytest.param(
        {"compression": "deflate", "planarconfig": "separate", "planes": True},
        TiffImage,
        id="planes",
    ),
    pytest.param(
        {"tile": None, "rowsperstrip": 16, "compression": None, "n": 0}, PlainImage, id="strips"
    ),
]


@pytest.mark.parametrize(("options", "kind"), KINDS)
def test_every_tiff_reads_as_the_pixels_it_was_made_of(
    tmp_path: Path, options: dict, kind: type
) -> None:
    pixels, options = PIXELS, dict(options)
    if options.pop("planes", False):
        path = tmp_path / "slide.ome.tif"
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        sizes = {
            "PhysicalSizeX": MPP,
            "PhysicalSizeY": MPP,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeYUnit": "µm",
        }
        with tifffile.TiffWriter(path) as writer:
            writer.write(
                planes,
                tile=(256, 256),
                compression="deflate",
                subifds=1,
                metadata={"axes": "CYX", **sizes},
            )
            writer.write(planes[:, ::2, ::2], tile=(256, 256), compression="deflate", subfiletype=1)
    else:
        path = write_pyramid(tmp_path / "slide.tif", pixels, **options)
    with open_image(path) as image:
        assert type(image) is kind
        assert image.size_px == (900, 700)
        assert image.mpp == pytest.approx(MPP, rel=1e-6)
        lossy = options.get("compression", "jpeg") == "jpeg"
        for x, y, width in ((0, 0, 64), (250, 240, 40), (860, 660, 60), (-10, 680, 50)):
            got = image.read(x, y, width, width).astype(int)
            assert np.abs(got - slow_crop(pixels, x, y, width)).mean() <= (8 if lossy else 0)
        shrunk = image.read(100, 100, 400, 100).astype(int)
        assert np.abs(shrunk - IMAGE.read(100, 100, 400, 100)).mean() < 6


def test_openslide_and_our_tiff_reader_agree(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "slide.tif", PIXELS)
    ours, theirs = open_image(path), OpenSlideImage(path)
    assert isinstance(ours, TiffImage)
    assert ours.levels == theirs.levels
    assert theirs.mpp == pytest.approx(MPP, rel=1e-6)
    for width, out_px in ((200, 200), (300, 200), (60, 90)):
        np.testing.assert_array_equal(
            ours.read(205, 130, width, out_px), theirs.read(205, 130, width, out_px)
        )


@pytest.mark.parametrize(("unit", "per_unit"), [("CENTIMETER", 10_000.0), ("INCH", 25_400.0)])
def test_resolution_tags_are_read_in_their_unit(tmp_path: Path, unit: str, per_unit: float) -> None:
    path = tmp_path / "slide.tif"
    options = {"resolution": (per_unit / 0.25,) * 2, "resolutionunit": unit, "photometric": "rgb"}
    tifffile.imwrite(path, PIXELS, tile=(128, 128), compression="jpeg", **options)
    assert open_image(path).mpp == pytest.approx(0.25, rel=1e-6)
    assert OpenSlideImage(path).mpp == pytest.approx(0.25, rel=1e-6)
    tifffile.imwrite(path, PIXELS, rowsperstrip=32, **options)
    assert PlainImage(path).mpp == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize("tile", [(128, 128), None])
def test_a_screens_resolution_is_no_pixel_size(
    tmp_path: Path, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, PIXELS, tile=tile, photometric="rgb", resolution=(72, 72), resolutionunit="INCH"
    )
    assert open_image(path).mpp is None


@pytest.mark.parametrize("tile", [(128, 128), None])
def test_pixel_sizes_that_contradict_are_named(
    tmp_path: Path, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path,
        PIXELS,
        tile=tile,
        photometric="rgb",
        resolution=(20_000, 10_000),
        resolutionunit="CENTIMETER",
    )
    with pytest.raises(
        MissingPixelSizeError, match=r"slide\.tif says 0\.5 um/px across and 1 um/px down"
    ):
        open_image(path)


def test_pixel_sizes_that_differ_a_little_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path,
        PIXELS,
        tile=(128, 128),
        photometric="rgb",
        resolution=(1e4 / 0.50, 1e4 / 0.51),
        resolutionunit="CENTIMETER",
    )
    assert open_image(path).mpp == pytest.approx(0.505)


def test_tiles_that_were_left_out_are_white(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    glass = np.zeros((512, 512, 3), dtype=np.uint8)
    glass[:256, :256] = 100
    tiles = [glass[:256, :256], None, None, None]
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=glass.shape,
        dtype=np.uint8,
        tile=(256, 256),
        photometric="rgb",
        compression="deflate",
    )
    image = open_image(path)
    assert (image.read(0, 0, 256, 256) == 100).all()
    assert (image.read(256, 256, 200, 200) == 255).all()


def test_a_truncated_pyramid_is_refused_where_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, PIXELS, tile=(128, 128), photometric="rgb", compression="jpeg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    image = open_image(path)
    assert image.read(0, 0, 50, 50).shape == (50, 50, 3)
    with pytest.raises(
        ImageFormatError, match=r"cut\.tif opens, but its pixels cannot be read at x 8\d\d"
    ):
        image.read(840, 640, 50, 50)


@pytest.mark.parametrize("tile", [(128, 128), None])
def test_colours_of_other_kinds_are_converted_or_refused(
    tmp_path: Path, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "palette.tif"
    colormap = np.zeros((3, 256), dtype=np.uint16)
    colormap[0] = 65535  # every index is red
    indices = np.arange(256 * 256, dtype=np.uint8).reshape(256, 256)
    options = {"photometric": "palette", "colormap": colormap, "tile": tile}
    tifffile.imwrite(path, indices, **options)
    assert (open_image(path).read(10, 10, 20, 20) == (255, 0, 0)).all()


def test_a_tiff_of_many_channels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "if.ome.tif"
    planes = np.zeros((5, 300, 300), dtype=np.uint8)
    tifffile.imwrite(path, planes, tile=(128, 128), metadata={"axes": "CYX"})
    with pytest.raises(
        ImageFormatError, match=r"axes CYX of shape \(5, 300, 300\); expected one RGB"
    ):
        TiffImage(path)


def test_threads_that_read_a_fresh_file_together_get_the_pixels_that_one_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pyramid(tmp_path / "slide.tif", PIXELS)
    corners = [(x, y) for y in (20, 300) for x in (20, 300, 600)]
    with open_image(path) as alone:
        expected = [alone.read(x, y, 100, 100) for x, y in corners]

    def slow_seek(handle: tifffile.FileHandle, offset: int, /, whence: int = 0) -> int:
        place = seek(handle, offset, whence)
        time.sleep(0.001)  # another thread has its turn between moving to a place and reading there
        return place

    seek = tifffile.FileHandle.seek
    monkeypatch.setattr(tifffile.FileHandle, "seek", slow_seek)
    for _ in range(20):
        with open_image(path) as image, ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda corner, at=image: at.read(*corner, 100, 100), corners))
        np.testing.assert_array_equal(together, expected)
