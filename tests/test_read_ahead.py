"""Patches read ahead: the same pixels, every spot once, by threads or processes."""

from __future__ import annotations

import gc
import io
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stamp_index.embed.thumbnails import SpooledFiles
from stamp_index.errors import ImageFormatError, MissingPixelSizeError, SlideError
from stamp_index.slides import PatchSpec, open_image, read_patches
from stamp_index.slides.read_ahead import _processes, read_ahead, reading_order
from tests.support import toy_slide

SPECS = (PatchSpec(112.0, 32), PatchSpec(336.0, 24))


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    """A slide whose image is a tiled file, with spots in no order."""
    slide = toy_slide("A", n_spots=60, seed=0)
    width, height = slide.image.size_px
    pixels = slide.image.read_box(0, 0, (width, height), (width, height))
    path = tmp_path_factory.mktemp("tiled") / "A.tiff"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb")
    rows = np.random.default_rng(0).permutation(slide.n_spots)
    return replace(slide, image=open_image(path), spots=slide.spots.iloc[rows])


def gathered(slide, **settings):
    found = [np.zeros((slide.n_spots, s.size_px, s.size_px, 3), np.uint8) for s in SPECS]
    seen, thumbnails = [], {}
    for batch in read_ahead(slide, SPECS, **settings):
        for into, patches in zip(found, batch.patches, strict=True):
            into[batch.rows] = patches
        seen += batch.rows.tolist()
        thumbnails |= dict(zip(batch.rows.tolist(), batch.thumbnails, strict=False))
    assert sorted(seen) == list(range(slide.n_spots))
    return found, thumbnails


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_patches_are_those_that_are_read_one_by_one(tiled, monkeypatch, processes):
    if processes:
        monkeypatch.setattr("stamp_index.slides.read_ahead._PROCESSES_FROM", 1)
    found, _ = gathered(tiled, batch_size=7, workers=2)
    for patches, spec in zip(found, SPECS, strict=True):
        assert np.array_equal(patches, read_patches(tiled, spec))


@pytest.mark.parametrize("px", [16, 64], ids=["shrunk", "read"])
def test_thumbnails_show_what_the_first_patch_shows(tiled, px):
    _, thumbnails = gathered(tiled, batch_size=16, workers=1, thumbnail_px=px)
    expected = read_patches(tiled, PatchSpec(SPECS[0].width_um, px)).astype(float)
    for row, jpeg in thumbnails.items():
        with Image.open(io.BytesIO(jpeg)) as picture:
            assert picture.size == (px, px)
            shown = np.asarray(picture).astype(float)
        assert abs(shown.mean(axis=(0, 1)) - expected[row].mean(axis=(0, 1))).max() < 4


def test_a_reader_that_stops_early_leaves_nothing_running(tiled):
    reading = read_ahead(tiled, SPECS, batch_size=4, workers=2)
    next(reading)
    reading.close()
    gc.collect()


def test_a_damaged_file_is_told_from_worker_processes_too(tiled, tmp_path, monkeypatch):
    monkeypatch.setattr("stamp_index.slides.read_ahead._PROCESSES_FROM", 1)
    path = tmp_path / "cut.tiff"
    path.write_bytes(tiled.image.path.read_bytes())
    slide = replace(tiled, image=open_image(path))
    slide.image.close()
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(ImageFormatError, match=r"cut\.tiff"):
        list(read_ahead(slide, SPECS, batch_size=8, workers=2))


def test_what_cannot_be_read_is_refused_at_once(tiled):
    with pytest.raises(SlideError, match="no image"):
        read_ahead(replace(tiled, image=None), SPECS, batch_size=4)
    with pytest.raises(MissingPixelSizeError):
        read_ahead(replace(tiled, mpp=None), SPECS, batch_size=4)
    with pytest.raises(ValueError, match="batch_size is 0 and workers 1"):
        read_ahead(tiled, SPECS, batch_size=0, workers=1)


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)), min_size=1, max_size=60),
    st.floats(1, 1e4),
)
def test_the_order_goes_band_by_band_and_names_every_place_once(places, band):
    xy = np.array(places)
    order = reading_order(xy, band)
    assert sorted(order.tolist()) == list(range(len(xy)))
    bands = np.floor(xy[order, 1] / band)
    assert (np.diff(bands) >= 0).all()
    for one in np.unique(bands):
        assert (np.diff(xy[order, 0][bands == one]) >= 0).all()


def test_spooled_files_come_back_whatever_order_they_came_in():
    contents = [bytes([i]) * (i % 7) for i in range(50)]
    with SpooledFiles(50) as files:
        for at in np.random.default_rng(0).permutation(50).tolist():
            files.put(at, contents[at])
        assert list(files) == contents
        assert files[10:30:3] == contents[10:30:3]
        assert files[-1] == contents[-1]
        with pytest.raises(IndexError):
            files[50]


def test_neighbours_in_the_order_lie_near_each_other():
    x, y = np.meshgrid(np.arange(30) * 100.0, np.arange(30) * 100.0)
    rows = np.random.default_rng(0).permutation(900)
    xy = np.column_stack([x.ravel(), y.ravel()])[rows]
    steps = pd.Series(np.hypot(*np.diff(xy[reading_order(xy, 300.0)], axis=0).T))
    assert steps.median() <= 200


def test_a_worker_process_that_is_killed_is_told_and_the_next_slide_is_read(tiled, monkeypatch):
    monkeypatch.setattr("stamp_index.slides.read_ahead._PROCESSES_FROM", 1)
    reading = read_ahead(tiled, SPECS, batch_size=2, workers=2)
    next(reading)
    for pid in list(_processes(2)._processes):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(SlideError, match="A process that was reading .* ended"):
        list(reading)
    assert sum(len(batch.rows) for batch in read_ahead(tiled, SPECS, batch_size=8, workers=2)) == 60
