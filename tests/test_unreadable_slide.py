"""A slide that cannot be read in the middle of an epoch: named, and fatal or skipped as asked."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from stamp_index.slides import open_image
from tests.support import TOY_MPP, toy_slide
from tests.trainer_world import (
    PIXELS,
    NumberedImages,
    fresh_model,
    make_world,
    numbered_set,
    with_images,
)
from trainer.data import draw
from trainer.images import SlideImages, UnreadableSlideError
from trainer.loop import Run, TrainingStoppedError, train
from trainer.recipe_file import load_recipe
from trainer.state import LOG

RECIPE = load_recipe("clip", (*PIXELS, "optimiser.epochs=2"))


def slide_on_disk(folder, slide_id, seed):
    """A toy slide whose picture is a tiled TIFF that is read tile by tile."""
    slide = toy_slide(slide_id, 20, seed)
    width, height = slide.image.size_px
    path = folder / f"{slide_id}.tif"
    pixels = slide.image.read_box(0, 0, (width, height), (width, height))
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb")
    image = open_image(path)
    return replace(slide, image=image, mpp=TOY_MPP, source=str(path))


def delete(path):
    path.unlink()


def truncate(path):
    os.truncate(path, 3_000)


@pytest.fixture
def world(tmp_path):
    slides = [slide_on_disk(tmp_path, name, seed) for seed, name in enumerate("AB")]
    return make_world(RECIPE, slides, tmp_path / "features")


def breaks_at(world, step, damage):
    """Images whose slide B is damaged on disk when the given batch is drawn."""

    class Images(SlideImages):
        drawn = 0

        def patches(self, slide, row, stain):
            if self.drawn == step:
                self.slides[1].image.close()  # what was read before is not kept
                damage(self.slides[1].image.path)
            self.drawn += 1
            return super().patches(slide, row, stain)

    return with_images(world.data, Images(world.slides, world.data.images.specs))


@pytest.mark.parametrize("damage", [delete, truncate])
def test_a_slide_that_goes_away_in_the_middle_of_an_epoch_is_fatal_and_named(
    tmp_path, world, damage
):
    data = breaks_at(world, 2, damage)
    with pytest.raises(
        UnreadableSlideError, match=r"Slide B \(.*B.tif\) cannot be read any more.*"
    ):
        train(RECIPE, world.model, data, Run(tmp_path, 0, quiet=True, save_minutes=0))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["progress"]["step"] == 2


def test_a_run_goes_on_exactly_when_the_slide_is_back(tmp_path, world):
    whole, halves = (tmp_path / name for name in ("whole", "halves"))
    for folder in (whole, halves):
        folder.mkdir()
    expected = fresh_model(RECIPE, world.gene_input)
    train(RECIPE, expected, world.data, Run(whole, 0, quiet=True))
    path = world.slides[1].image.path
    data = breaks_at(world, 2, lambda path: path.rename(path.with_suffix(".away")))
    with pytest.raises(UnreadableSlideError):
        train(
            RECIPE,
            fresh_model(RECIPE, world.gene_input),
            data,
            Run(halves, 0, quiet=True, save_minutes=0),
        )
    path.with_suffix(".away").rename(path)
    again = fresh_model(RECIPE, world.gene_input, seed=9)
    train(RECIPE, again, world.data, Run(halves, 0, quiet=True))
    for one, two in zip(expected.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("damage", [delete, truncate])
def test_a_slide_that_goes_away_is_skipped_said_once_and_logged(tmp_path, world, damage, capsys):
    data = breaks_at(world, 2, damage)
    run = Run(tmp_path, 0, quiet=True, skip_unreadable=True)
    train(RECIPE, world.model, data, run)
    assert capsys.readouterr().out.count("Slide B cannot be read any more and is left out") == 1
    records = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert all(record["unreadable"] == ["B"] for record in records)
    assert all(np.isfinite(record["loss"]) for record in records)


class BrokenImages(NumberedImages):
    """Slide 1 cannot be read."""

    def _images(self, slide, row, cell):
        if (slide == 1).any():
            error = UnreadableSlideError("gone")
            error.slide_number = 1
            raise error
        return super()._images(slide, row, cell)


def test_a_spot_leaves_with_its_whole_group_and_the_rest_is_as_it_was():
    recipe = load_recipe("stamp", ("model.gene_tower.context=4",))
    data = numbered_set((6, 6))
    groups = np.array([[0, 7], [8, 9], [1, 2], [3, 11], [4, 5]])  # 6 to 11 are slide 1
    whole = draw(data, groups, recipe, np.random.default_rng(0))
    broken = with_images(data, BrokenImages())
    rest = draw(broken, groups, recipe, np.random.default_rng(0), skip_unreadable=True)
    assert rest.row.tolist() == [1, 2, 4, 5]
    assert rest.unreadable == ("B",)
    kept = [4, 5, 8, 9]
    torch.testing.assert_close(rest.inputs.profile, whole.inputs.profile[kept], rtol=0, atol=0)
    torch.testing.assert_close(rest.inputs.patch, whole.inputs.patch[kept], rtol=0, atol=0)
    torch.testing.assert_close(rest.label, whole.label[kept], rtol=0, atol=0)
    with pytest.raises(UnreadableSlideError):
        draw(broken, groups, recipe, np.random.default_rng(0))


def test_a_batch_that_loses_every_spot_is_no_step(tmp_path):
    data = with_images(numbered_set((6, 6)), BrokenImages())
    recipe = load_recipe("stamp", ("model.gene_tower.context=4",))
    empty = draw(data, np.array([[6, 7]]), recipe, np.random.default_rng(0), skip_unreadable=True)
    assert len(empty) == 0
    assert empty.unreadable == ("B",)


def test_every_slide_gone_leaves_the_weights_alone_and_says_that_nothing_was_trained(
    tmp_path, world
):
    before = {name: value.clone() for name, value in world.model.state_dict().items()}
    for slide in world.slides:
        slide.image.close()
        slide.image.path.unlink()
    with pytest.raises(TrainingStoppedError, match="No step of epoch 1 had two spots"):
        train(RECIPE, world.model, world.data, Run(tmp_path, 0, quiet=True, skip_unreadable=True))
    assert all(torch.equal(before[name], value) for name, value in world.model.state_dict().items())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_worker_process_that_finds_a_slide_gone_names_it(tmp_path, world):
    world.slides[1].image.close()
    world.slides[1].image.path.unlink()
    with pytest.raises(UnreadableSlideError, match=r"Slide B \(.*B.tif\) cannot be read any more"):
        train(RECIPE, world.model, world.data, Run(tmp_path, 0, quiet=True, workers=1))
