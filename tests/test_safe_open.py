from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from stamp_index.errors import ImageFormatError
from stamp_index.slides import safe_open

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def encoded(kind: str, pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pixels_come_back_as_they_were(kind: str) -> None:
    np.testing.assert_array_equal(safe_open(encoded(kind)), PIXELS)


def test_a_jpeg_and_a_path_are_read(tmp_path: Path) -> None:
    path = tmp_path / "upload.jpg"
    path.write_bytes(encoded("JPEG"))
    assert safe_open(path).shape == safe_open(str(path)).shape == (30, 40, 3)


def test_transparency_lies_on_white() -> None:
    stream = BytesIO()
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(stream, "PNG")
    assert (safe_open(stream.getvalue()) == 255).all()


def two_frames(kind: str) -> bytes:
    stream = BytesIO()
    frame = Image.fromarray(PIXELS)
    frame.save(stream, kind, save_all=True, append_images=[Image.fromarray(255 - PIXELS)])
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "not a PNG, JPEG or TIFF", id="empty"),
        pytest.param(b"<svg onload=alert(1)>", "not a PNG, JPEG or TIFF", id="svg"),
        pytest.param(encoded("GIF"), "not a PNG, JPEG or TIFF", id="gif"),
        pytest.param(encoded("BMP"), "not a PNG, JPEG or TIFF", id="bmp"),
        pytest.param(encoded("WEBP"), "not a PNG, JPEG or TIFF", id="webp"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0", "not a PNG, JPEG or TIFF", id="eps"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "header is damaged", id="png_magic_alone"),
        pytest.param(b"\xff\xd8\xff\xe0junk", "header is damaged", id="jpeg_magic_alone"),
        pytest.param(b"MM\0*\xff\xff\xff\xff", "header is damaged", id="tiff_magic_alone"),
        pytest.param(
            encoded("PNG")[:800], "PNG file is damaged or cut short: its 40 x 30 px", id="cut_png"
        ),
        pytest.param(
            encoded("JPEG")[:900],
            "JPEG file is damaged or cut short: its 40 x 30 px",
            id="cut_jpeg",
        ),
        pytest.param(
            png_that_claims(13_000, 13_000), "13000 x 13000 px; at most 16,777,216 px", id="bomb"
        ),
        pytest.param(
            png_that_claims(60_000, 60_000),
            "60000 x 60000 px; at most 16,777,216 px",
            id="bomb_above_pillows_error",
        ),
        pytest.param(
            png_that_claims(2_000_000_000, 1),
            "2000000000 x 1 px; at most",
            id="bomb_in_one_direction",
        ),
        pytest.param(
            png_that_claims(4000, 4000),
            "damaged or cut short: its 4000 x 4000 px",
            id="size_without_pixels",
        ),
        pytest.param(two_frames("TIFF"), "holds 2 pictures; expected one", id="two_pages"),
        pytest.param(two_frames("PNG"), "holds 2 pictures; expected one", id="animated_png"),
    ],
)
def test_hostile_files_give_one_plain_sentence(data: bytes, message: str) -> None:
    with pytest.raises(ImageFormatError, match=message) as caught:
        safe_open(data)
    assert "Traceback" not in str(caught.value)


def test_a_decompressed_text_chunk_does_not_grow() -> None:
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))
    data = encoded("PNG")
    with pytest.raises(ImageFormatError, match="damaged"):
        safe_open(data[:33] + bomb + data[33:])


def test_a_file_of_many_bytes_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stamp_index.slides.safe.MAX_UPLOAD_BYTES", 100)
    with pytest.raises(ImageFormatError, match="0 MB are opened here"):
        safe_open(encoded("PNG"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageFormatError, match=r"gone\.png cannot be read \(No such file"):
        safe_open(tmp_path / "gone.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_no_damaged_byte_gives_another_error(kind: str) -> None:
    data = bytearray(encoded(kind))
    rng = np.random.default_rng(0)
    for _ in range(300):
        hurt = bytearray(data)
        for place in rng.integers(0, len(hurt), 3):
            hurt[place] = rng.integers(0, 256)
        try:
            result = safe_open(bytes(hurt))
        except ImageFormatError:
            continue
        assert result.dtype == np.uint8
        assert result.ndim == 3


def test_a_picture_of_sixteen_bits_is_said_to_be_one() -> None:
    sixteen = np.full((30, 40), 40_000, np.uint16)
    with pytest.raises(
        ImageFormatError, match="PNG file cannot be used: mode I;16 has more than 8"
    ):
        safe_open(encoded("PNG", sixteen))
