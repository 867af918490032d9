"""Images of training spots, cached or read at every step, and the worker processes that draw them."""

from __future__ import annotations

import mmap
import os
import pickle
from dataclasses import replace
from multiprocessing import resource_sharer
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

from stamp_index.encoders.features import CENTRE_CELL, FeatureCache, region_offsets_um
from stamp_index.machine import usable_cores
from stamp_index.slides import PatchSpec, read_patches
from tests.support import toy_slide
from tests.trainer_world import (
    PIXELS,
    ST_ALIGN,
    TINY,
    make_world,
    numbered_recipe,
    numbered_set,
    same_batches,
    small_slides,
    with_images,
)
from trainer.data import (
    Steps,
    draw,
    placements,
)
from trainer.images import CachedImages, SlideImages
from trainer.loop import Run, train
from trainer.prepare import worker_count
from trainer.recipe import RecipeError
from trainer.recipe_file import load_recipe
from trainer.runtime import Runtime
from trainer.shared_arrays import Shared


def _rng(seed=0):
    return np.random.default_rng(seed)


class Averages:
    """A preparer whose result tells the image: means of a 4 x 4 grid, as float32."""

    def prepared_id(self, side):
        return f"averages of {side}"

    def prepare(self, images, side):
        n, s = images.shape[:2]
        return images.reshape(n, 4, s // 4, 4, s // 4, 3).mean(axis=(2, 4)).astype(np.float32)


SPECS = (PatchSpec(112.0, 16), PatchSpec(336.0, 24))


def test_a_worker_process_is_sent_the_names_of_cached_files_and_not_their_contents(tmp_path):
    slides = small_slides(2, 12)
    cells = [placements(slide.n_spots, 2, seed) for seed, slide in enumerate(slides)]
    source = CachedImages(FeatureCache(tmp_path, Averages()), slides, SPECS, cells=cells)
    sent = pickle.dumps(source)
    assert len(sent) < 4_000 < source.some_patches().nbytes + 2 * source.some_regions().nbytes
    again = pickle.loads(sent)
    np.testing.assert_array_equal(again.some_patches(), source.some_patches())
    np.testing.assert_array_equal(again.some_regions(), source.some_regions())


def test_a_worker_process_is_sent_slides_without_their_counts():
    slides = small_slides(2, 12)
    source = SlideImages(slides, SPECS, stain=0.2)
    again = pickle.loads(pickle.dumps(source))
    assert [slide.counts.shape for slide in again.slides] == [(12, 0)] * 2
    assert all(slide.counts.nnz for slide in slides)
    where = np.array([1, 0, 1]), np.array([3, 0, 11]), _rng().uniform(-1, 1, (3, 2, 3))
    np.testing.assert_array_equal(again.patches(*where), source.patches(*where))


def test_worker_processes_map_the_arrays_of_a_training_set_and_are_sent_none_of_them(tmp_path):
    data = numbered_set((400, 300), 200)
    recipe = numbered_recipe("optimiser.epochs=1", "sampler.batch_size=64")
    steps = Steps(data, recipe, seed=0)
    sent = ForkingPickler.dumps(Shared(steps, tmp_path))
    arrays = [data.genes.profile, data.genes.niche, data.genes.tokens, data.cells, data.spot_ids]
    assert len(sent) < 20_000 < sum(array.nbytes for array in arrays) / 40
    assert not list(tmp_path.iterdir())  # the file is gone with those who use it
    again = pickle.loads(sent)
    resource_sharer.stop()
    theirs = [again.data.genes.profile, again.data.genes.niche, again.data.genes.tokens]
    for array, own in zip([*theirs, again.data.cells, again.data.spot_ids], arrays, strict=True):
        np.testing.assert_array_equal(array, own)
        assert not array.flags.writeable
        assert isinstance(_owner(array), mmap.mmap)
    for step in (0, 7):
        same_batches(again[step], steps[step])


def test_arrays_that_find_no_room_for_the_workers_are_said_with_what_to_do(tmp_path):
    steps = [np.zeros((1000, 125))]
    with pytest.raises(
        OSError, match=r"arrays, 0\.001 GB, .* to \S*gone: .* Make room, or give --workers 0"
    ):
        Shared(steps, tmp_path / "gone")


def _owner(array):
    """What holds an array's memory."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_run_with_a_worker_process_has_the_weights_of_one_without(tmp_path):
    recipe = load_recipe("clip", (*PIXELS, "images.stain=0.2", "optimiser.epochs=1"))
    weights = []
    for workers in (0, 1):
        world = make_world(recipe, small_slides(2, 12), tmp_path)
        run = Run(tmp_path / str(workers), 0, quiet=True, workers=workers)
        run.folder.mkdir()
        train(recipe, world.model, world.data, run)
        weights.append(world.model.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], value), name


@pytest.mark.parametrize(
    ("name", "overrides", "works"),
    [
        pytest.param("clip", PIXELS, True, id="pixels of slides"),
        pytest.param("clip", (*PIXELS, "images.source=shards"), True, id="shards of pixels"),
        pytest.param("clip", TINY, False, id="features"),
        pytest.param("st_align", ST_ALIGN, False, id="pixels beside features"),
        pytest.param(
            "st_align", (*ST_ALIGN, "images.stain=0.2"), True, id="stain of pixels beside features"
        ),
    ],
)
def test_worker_processes_are_for_pixels_and_not_for_features(
    tmp_path_factory, name, overrides, works
):
    folder = tmp_path_factory.getbasetemp() / "workers"
    world = make_world(load_recipe(name, overrides), small_slides(1, 12), folder)
    runtime = Runtime("fp32")
    runtime.world = 2
    assert worker_count(world.data, runtime) == (max(1, usable_cores() // 2) if works else 0)


def test_workers_share_the_cores_of_their_own_machine(monkeypatch):
    data = replace(numbered_set(), images=SlideImages([], SPECS))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    runtime = Runtime("fp32")
    runtime.world = 16
    assert worker_count(data, runtime) == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert worker_count(data, runtime) == 3


@pytest.mark.parametrize("count", [2, 9])
def test_cached_regions_are_those_of_their_placement(tmp_path, count):
    slides = small_slides(2, 12)
    cells = [placements(slide.n_spots, count, seed) for seed, slide in enumerate(slides)]
    cache = FeatureCache(tmp_path, Averages())
    source = CachedImages(cache, slides, SPECS, cells=cells)
    rng = _rng(count)
    slide, row = rng.integers(0, 2, 20), rng.integers(0, 12, 20)
    cell = np.array([cells[s][r, rng.integers(0, count)] for s, r in zip(slide, row, strict=True)])
    found = source.regions(slide, row, cell, np.zeros((20, 2, 3)))
    patches = source.patches(slide, row, np.zeros((20, 2, 3)))
    for i in range(20):
        offset = region_offsets_um(cell[[i]], 336.0)
        own = slides[slide[i]]
        slow = read_patches(own, SPECS[1], rows=[row[i]], offsets_um=offset)
        np.testing.assert_array_equal(found[i], Averages().prepare(slow, "region")[0])
        slow = read_patches(own, SPECS[0], rows=[row[i]])
        np.testing.assert_array_equal(patches[i], Averages().prepare(slow, "patch")[0])
    centred = np.concatenate([np.full(12, CENTRE_CELL)] * 2)
    numbers = np.repeat([0, 1], 12), np.tile(np.arange(12), 2)
    whole = source.regions(*numbers, centred, np.zeros((24, 2, 3)))
    np.testing.assert_array_equal(source.some_regions(), whole)
    assert source.some_patches().shape == (24, 4, 4, 3)
    means = whole.astype(np.float64).mean(axis=(1, 2))
    np.testing.assert_allclose(source.mean_regions(), means, rtol=1e-5, atol=1e-5)
    assert source.mean_patches().shape == (24, 3)


def test_images_read_at_every_step_are_the_slides_patches():
    slides = small_slides(2, 12)
    source = SlideImages(slides, SPECS, stain=0.0)
    slide, row, cell = np.array([1, 0, 1, 0]), np.array([3, 3, 0, 11]), np.array([4, 0, 8, 2])
    stain = _rng().uniform(-1, 1, (4, 2, 3))
    patches, regions = source.patches(slide, row, stain), source.regions(slide, row, cell, stain)
    for i in range(4):
        own = slides[slide[i]]
        np.testing.assert_array_equal(patches[i], read_patches(own, SPECS[0], rows=[row[i]])[0])
        offset = region_offsets_um(cell[[i]], 336.0)
        slow = read_patches(own, SPECS[1], rows=[row[i]], offsets_um=offset)
        np.testing.assert_array_equal(regions[i], slow[0])
    varied = SlideImages(slides, SPECS, stain=0.2).patches(slide, row, stain)
    assert (varied != patches).any(axis=(1, 2, 3)).all()


def test_pixels_are_read_live_cached_as_shards_or_as_features_as_the_recipe_says(tmp_path):
    pixels = load_recipe("clip", PIXELS)
    slides = small_slides(1, 12)
    live = make_world(pixels, slides, tmp_path).data.images
    assert isinstance(live, SlideImages)
    assert not list(tmp_path.glob("**/*.npy"))
    shards = load_recipe("clip", (*PIXELS, "images.source=shards"))
    cached = make_world(shards, slides, tmp_path).data.images
    assert isinstance(cached, CachedImages)
    where = np.zeros(5, int), np.arange(5), np.zeros((5, 2, 3))
    np.testing.assert_array_equal(cached.patches(*where), live.patches(*where))
    with pytest.raises(RecipeError, match='source = "slides" needs towers that read pixels'):
        make_world(load_recipe("clip", ("images.source=slides", "model.patch_px=96", "model.region_px=96")),
                   slides, tmp_path)  # fmt: skip


def test_the_same_draws_vary_the_stain_of_shards_and_of_slides_alike(tmp_path):
    slides = [toy_slide("A", 12)]
    overrides = (*PIXELS, "images.stain=0.3")
    live = make_world(load_recipe("clip", overrides), slides, tmp_path)
    shards = make_world(load_recipe("clip", (*overrides, "images.source=shards")), slides, tmp_path)
    groups = np.arange(6)[:, None]
    one, other, plain = (
        draw(data, groups, recipe, _rng(7))
        for data, recipe in (
            (live.data, live.recipe),
            (shards.data, live.recipe),
            (with_images(live.data, SlideImages(slides, live.data.images.specs)), live.recipe),
        )
    )
    assert torch.equal(one.inputs.patch, other.inputs.patch)
    assert not torch.equal(one.inputs.patch, plain.inputs.patch)
