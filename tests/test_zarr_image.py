"""OME-Zarr images: axes, sizes, chunks, damage."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from stamp_index.errors import ImageFormatError, MissingPixelSizeError
from stamp_index.slides import ArrayImage, ZarrImage, open_image, tile_cache

HEIGHT, WIDTH = 130, 170


def pixels(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, channels), np.uint8)


def write(folder, data, order="cyx", *, zarr_format=3, units=None, n_levels=1, chunk=32):
    """Write an image of (y, x, c) `data` with its axes in `order`."""
    group = zarr.open_group(folder, mode="w", zarr_format=zarr_format)
    axes = [
        {"name": a} if a == "c" or units is None else {"name": a, "unit": units[a]} for a in order
    ]
    datasets = []
    for level in range(n_levels):
        small = data[:: 2**level, :: 2**level]
        stored = small.transpose(["yxc".index(a) for a in order]) if "c" in order else small[..., 0]
        chunks = tuple(1 if a == "c" else chunk for a in order)
        array = group.create_array(
            str(level), shape=stored.shape, chunks=chunks, dtype=stored.dtype
        )
        array[:] = stored
        scale = [1.0 if a == "c" else 0.5 * 2**level for a in order]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    said = {"multiscales": [{"axes": axes, "datasets": datasets}]}
    group.attrs.update({"ome": said} if zarr_format == 3 else said)
    return folder


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("order", ["cyx", "yxc", "xyc", "yx"])
def test_pixels_come_as_they_were_written(tmp_path, order, zarr_format):
    data = pixels(3 if "c" in order else 1)
    image = open_image(write(tmp_path / "image", data, order, zarr_format=zarr_format))
    same = ArrayImage(np.repeat(data, 3, axis=2) if data.shape[2] == 1 else data)
    assert image.size_px == (WIDTH, HEIGHT)
    assert image.mpp is None
    for box in ((0, 0, 170, 170), (31, 30, 5, 5), (-20, 100, 60, 60), (7.3, 9.1, 40.5, 20)):
        assert np.array_equal(image.read(*box), same.read(*box)), box


def test_transparent_pixels_lie_on_white(tmp_path):
    data = pixels(4)
    data[..., 3] = 0
    assert (ZarrImage(write(tmp_path / "image", data)).read(0, 0, 9, 9) == 255).all()


def test_smaller_sizes_are_used_and_know_their_scale(tmp_path):
    data = pixels()
    image = ZarrImage(write(tmp_path / "image", data, n_levels=3))
    assert [level.downsample for level in image.levels] == [1, 2, 4]
    assert np.array_equal(image.read(0, 0, 4 * 20, 20), data[::4, ::4][:20, :20])
    assert image.overview(50).shape == (38, 50, 3)


@pytest.mark.parametrize(
    ("units", "mpp"),
    [
        pytest.param({"x": "micrometer", "y": "micrometer"}, 0.5, id="micrometers"),
        pytest.param({"x": "nanometer", "y": "nanometer"}, None, id="nanometers far too small"),
        pytest.param({"x": "unit", "y": "unit"}, None, id="no unit"),
    ],
)
def test_units_of_the_axes_give_the_pixel_size(tmp_path, units, mpp):
    assert ZarrImage(write(tmp_path / "image", pixels(), units=units)).mpp == mpp


def test_pixel_sizes_that_contradict_are_refused(tmp_path):
    path = write(tmp_path / "image", pixels(), units={"x": "micrometer", "y": "micrometer"})
    meta = json.loads((path / "zarr.json").read_text())
    dataset = meta["attributes"]["ome"]["multiscales"][0]["datasets"][0]
    dataset["coordinateTransformations"][0]["scale"] = [1.0, 0.5, 0.6]
    (path / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(MissingPixelSizeError, match="across"):
        ZarrImage(path)


def test_the_hash_follows_level_0_and_not_the_place(tmp_path):
    one = ZarrImage(write(tmp_path / "a", pixels(), n_levels=2))
    two = ZarrImage(write(tmp_path / "b", pixels(), n_levels=2))
    assert one.content_hash() == two.content_hash()
    other = pixels()
    other[100, 100] ^= 1
    assert ZarrImage(write(tmp_path / "c", other)).content_hash() != one.content_hash()


def test_an_image_travels_to_other_processes_and_is_read_from_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(tile_cache, "_most", [3 * 32 * 32 * 2])  # two chunks
    data = pixels()
    image = pickle.loads(pickle.dumps(ZarrImage(write(tmp_path / "image", data))))
    corners = [(x, y) for x in range(0, 120, 7) for y in range(0, 90, 11)]
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda at: image.read(*at, 33, 33), corners))
    assert all(
        np.array_equal(got, data[y : y + 33, x : x + 33])
        for got, (x, y) in zip(read, corners, strict=True)
    )
    assert image._cache._n_bytes <= 3 * 32 * 32 * 2  # what is kept is bounded
    image.close()
    assert np.array_equal(image.read(3, 4, 5, 5), data[4:9, 3:8])


def _metadata(path, change):
    held = json.loads((path / "0/zarr.json").read_text())
    change(held)
    (path / "0/zarr.json").write_text(json.dumps(held))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda p: (p / "0/zarr.json").unlink(), "cannot be opened", id="no metadata"),
        pytest.param(
            lambda p: _metadata(p, lambda held: held.update(shape=[3, 10**7, 10**7])),
            "smallest size",
            id="a bomb",
        ),
        pytest.param(
            lambda p: _metadata(p, lambda held: held.update(shape=[3, "x", 1])),
            "cannot be opened",
            id="a shape that is text",
        ),
        pytest.param(
            lambda p: _metadata(p, lambda held: held.update(codecs=[{"name": "numcodecs.pickle"}])),
            "pickle",
            id="pickled chunks",
        ),
    ],
)
def test_damaged_metadata_are_refused(tmp_path, damage, said):
    path = write(tmp_path / "image", pixels())
    damage(path)
    with pytest.raises(ImageFormatError, match=said):
        ZarrImage(path)


def test_a_damaged_chunk_is_named_when_it_is_read(tmp_path):
    path = write(tmp_path / "image", pixels())
    chunk = path / "0/c/0/1/2"
    chunk.write_bytes(chunk.read_bytes()[:40])
    image = ZarrImage(path)
    image.read(0, 0, 32, 32)
    with pytest.raises(ImageFormatError, match="row 1, column 2"):
        image.read(64, 32, 32, 32)


@pytest.mark.parametrize(
    ("data", "order", "said"),
    [
        pytest.param(pixels().astype(np.uint16), "cyx", "uint16", id="16 bits"),
        pytest.param(pixels(2), "cyx", "expected one RGB", id="two channels"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, data, order, said):
    with pytest.raises(ImageFormatError, match=said):
        open_image(write(tmp_path / "image", data, order))


def test_a_folder_that_is_no_zarr_is_refused(tmp_path):
    with pytest.raises(ImageFormatError, match="cannot be opened as zarr"):
        open_image(tmp_path)
