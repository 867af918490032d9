from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stamp_index.errors import ImageFormatError
from stamp_index.slides import images, open_image
from tests.image_files import PIXELS, write_pyramid
from tests.large_slide import SIDE_PX, tissue_mm2

ROOT = Path(__file__).resolve().parents[1]
PEAK_BYTES = 1.5 * 2**30  # level 0 alone has 10.8 GB


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 x 700 px in one level."""
    path = tmp_path_factory.mktemp("flat") / "slide.tif"
    return write_pyramid(path, PIXELS, n=0, compression="deflate")


@settings(deadline=None, max_examples=40)
@given(
    st.floats(-60, 400),
    st.floats(-60, 300),
    st.floats(200, 900),
    st.floats(200, 700),
    st.integers(5, 120),
    st.integers(1_000, 60_000),
)
def test_reading_in_blocks_equals_reading_as_a_whole(
    flat: Path, x: float, y: float, width: float, height: float, out: int, block: int
) -> None:
    with open_image(flat) as image, pytest.MonkeyPatch.context() as patch:
        whole = image.read_box(x, y, (width, height), (out, out)).astype(int)
        patch.setattr(images, "MAX_WHOLE_PX", 10_000)
        patch.setattr(images, "BLOCK_PX", block)
        parts = image.read_box(x, y, (width, height), (out, out))
        assert np.abs(whole - parts).max() <= 1


def test_an_overview_of_a_flat_slide_reads_blocks_only(
    flat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_image(flat) as image:
        assert len(image.levels) == 1
        whole = image.overview(90).astype(int)
        monkeypatch.setattr(images, "MAX_WHOLE_PX", 10_000)
        monkeypatch.setattr(images, "BLOCK_PX", 5_000)
        areas = []
        read = type(image)._read_level

        def counted(self, level, box):
            areas.append((box[2] - box[0]) * (box[3] - box[1]))
            return read(self, level, box)

        monkeypatch.setattr(type(image), "_read_level", counted)
        assert np.abs(image.overview(90) - whole).max() <= 1
        assert len(areas) > 100
        assert max(areas) < 10_000


def test_a_jpeg_of_four_billion_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "slide.jpg"
    Image.fromarray(PIXELS[:16, :16]).save(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xc0") + 5  # height and width in the frame's header
    data[start : start + 4] = (65_000).to_bytes(2, "big") * 2
    path.write_bytes(bytes(data))
    with pytest.raises(ImageFormatError, match=r"65000 x 65000 px; .*vips tiffsave --tile"):
        open_image(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "pyramid"])
@pytest.mark.timeout(300)
def test_a_slide_of_60000_px_becomes_a_grid_in_little_memory(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-m", "tests.large_slide", str(tmp_path / "slide.tif"), kind]
    done = subprocess.run(
        [*command, str(SIDE_PX)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout)
    assert report["size_px"] == [SIDE_PX, SIDE_PX]
    assert report["n_levels"] == {"flat": 1, "pyramid": 3}[kind]
    assert report["peak_bytes"] < PEAK_BYTES
    places = tissue_mm2() * 1e6 / 112.0**2
    assert places < report["n_spots"] < 1.1 * places
