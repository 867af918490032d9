"""The loop: kills and resumes, early stopping, averaged weights, full disks."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stamp_index.encoders.features import FeatureCache
from tests.trainer_world import TINY, fresh_model, small_slides, tiny_world
from trainer import state
from trainer.loop import Run, train
from trainer.recipe_file import load_recipe
from trainer.state import LOG, STATE, read_log
from trainer.validation import Validator

ROOT = Path(__file__).resolve().parent.parent
EMA = ("optimiser.ema=0.9", "validation.patience=2", "validation.k=3", "optimiser.epochs=4")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def world(features):
    return tiny_world(features)


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """A run that nothing happened to: its model and its log."""
    folder = tmp_path_factory.mktemp("whole")
    model = _run(world, folder)
    return model, numbers(folder)


class Killed(BaseException):
    """Stands for the end of the process."""


def scripted(recalls):
    """A validator that gives these recalls, and remembers the weights that it was shown."""
    shown = []

    def validate(model):
        assert not model.training
        shown.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"recall": recalls[len(shown) - 1]}

    validate.shown = shown
    return validate


def by_weights(model):
    """A validator of a kind: what the weights say, so that a run that goes on elsewhere is found out."""
    return {"recall": float(model.state_dict()["heads.gene.weight"].abs().mean()) % 1}


def _run(world, folder, **kwargs):
    """Train a fresh model into a folder; returns the model."""
    return _kept(world, folder, **kwargs)[0]


def _kept(world, folder, *, recipe=None, validate=None, seed=0, **kwargs):
    """Train a fresh model into a folder; returns the model and the epoch that its weights are of."""
    recipe = recipe or world.recipe
    folder.mkdir(exist_ok=True)
    model = fresh_model(recipe, world.gene_input, seed)
    run = Run(folder, 0, quiet=True, **kwargs)
    return model, train(recipe, model, world.data, run, validate=validate)


def assert_same_weights(one, other):
    others = other.state_dict() if isinstance(other, torch.nn.Module) else other
    for name, value in one.state_dict().items():
        assert torch.equal(value, others[name]), name


def numbers(folder):
    """The log without how long it took."""
    records = read_log(folder)
    assert all(record.pop("seconds") >= 0 for record in records)
    return records


def killed_at(model, call):
    """Let the model die in its n-th forward pass of training."""
    left = [call]

    def dies(module, inputs):
        left[0] -= module.training
        if left[0] < 0:
            raise Killed

    model.register_forward_pre_hook(dies)
    return model


# Kills


@pytest.mark.parametrize("call", [0, 1, 7, 10, 14])
@pytest.mark.parametrize("save_minutes", [0.0, 10.0])
def test_a_run_that_dies_anywhere_ends_where_a_whole_one_does(
    tmp_path, world, whole, call, save_minutes
):
    halves = tmp_path / "halves"
    halves.mkdir()
    model = killed_at(fresh_model(world.recipe, world.gene_input), call)
    run = Run(halves, 0, quiet=True, save_minutes=save_minutes)
    with pytest.raises(Killed):
        train(world.recipe, model, world.data, run)
    # From a saved state the fresh weights do not matter, and without one the run starts again.
    again = _run(world, halves, seed=5 if (halves / STATE).exists() else 0)
    assert_same_weights(whole[0], again)
    assert numbers(halves) == whole[1]
    assert [record["epoch"] for record in numbers(halves)] == [1, 2, 3]


def test_an_epoch_that_was_done_but_not_saved_is_logged_once(tmp_path, world, whole, monkeypatch):
    def dies(*args):
        raise Killed

    monkeypatch.setattr("trainer.loop.save_state", dies)
    with pytest.raises(Killed):
        _run(world, tmp_path / "halves")
    assert len(read_log(tmp_path / "halves")) == 1
    monkeypatch.undo()
    assert_same_weights(whole[0], _run(world, tmp_path / "halves"))
    assert numbers(tmp_path / "halves") == whole[1]


def test_a_run_that_dies_between_state_and_log_loses_no_epoch(tmp_path, world, whole, monkeypatch):
    original = state.append_log

    def dies_in_the_second_epoch(folder, record, *, epoch):
        if epoch == 2:
            raise Killed
        original(folder, record, epoch=epoch)

    monkeypatch.setattr("trainer.loop.append_log", dies_in_the_second_epoch)
    with pytest.raises(Killed):
        _run(world, tmp_path / "halves")
    monkeypatch.undo()
    _run(world, tmp_path / "halves")
    assert numbers(tmp_path / "halves") == whole[1]


SCRIPT = """
import os, pathlib, signal, sys
from tests.test_trainer_loop import scripted_world
from trainer import loop

features, folder, at = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
recipe, model, data, validate = scripted_world(features, sys.argv[4:])
step = loop._Training._step
def killed(self, batch):
    if self.progress.step == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch)
loop._Training._step = killed
loop.train(recipe, model, data, loop.Run(folder, 0, quiet=True, save_minutes=0.0), validate=validate)
"""


def scripted_world(features, overrides):
    """What the killed process and this one train: two slides, and a third to validate on."""
    *slides, other = small_slides(3)
    world = tiny_world(features, *overrides, slides=slides)
    validate = None
    if world.recipe.validation.patience:
        cache = FeatureCache(features, world.model)
        validate = Validator([other], world.gene_input, cache, world.recipe.validation.k)
    return world.recipe, world.model, world.data, validate


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("overrides", [(), EMA], ids=["plain", "average and early stopping"])
def test_a_run_killed_in_the_middle_of_an_epoch_ends_with_the_same_weights_and_log(
    tmp_path, features, overrides
):
    at = 8  # of five steps an epoch
    folders = [tmp_path / "whole", tmp_path / "halves"]
    models = []
    for folder in folders:
        folder.mkdir()
        if folder.name == "halves":
            command = [sys.executable, "-c", SCRIPT, features, folder, str(at), *overrides]
            done = subprocess.run(command, cwd=ROOT, check=False)
            assert done.returncode == -signal.SIGKILL
            saved = torch.load(folder / STATE, weights_only=True)
            assert saved["progress"]["step"] == at
        recipe, model, data, validate = scripted_world(features, overrides)
        train(recipe, model, data, Run(folder, 0, quiet=True), validate=validate)
        models.append(model)
    assert_same_weights(*models)
    assert numbers(folders[0]) == numbers(folders[1])
    assert ("validation_recall" in numbers(folders[0])[0]) == bool(overrides)


# What training starts from


def test_a_start_that_no_epoch_is_better_than_is_kept(tmp_path, world):
    validate = scripted([0.5, 0.5, 0.4, 0.3])
    model, kept = _kept(world, tmp_path / "run", validate=validate)
    assert kept == 0
    assert_same_weights(model, fresh_model(world.recipe, world.gene_input))
    assert [record["epoch"] for record in read_log(tmp_path / "run")] == [0, 1, 2, 3]
    start = read_log(tmp_path / "run")[0]
    assert (start["step"], start["validation_recall"]) == (0, 0.5)
    assert "loss" not in start


def test_patience_counts_from_the_start(tmp_path, world):
    recipe = load_recipe("stamp", (*TINY, "optimiser.epochs=9", "validation.patience=2"))
    validate = scripted([0.5, 0.4, 0.4, 0.9])
    _, kept = _kept(world, tmp_path / "run", recipe=recipe, validate=validate)
    assert (len(validate.shown), kept) == (3, 0)


def test_the_last_epoch_is_kept_where_nothing_validates(tmp_path, world):
    assert _kept(world, tmp_path / "run")[1] == 3
    assert _kept(world, tmp_path / "run", seed=5)[1] == 3


@pytest.mark.parametrize("dies_in", ["append_log", "save_state", "_Training._batches"])
def test_a_run_that_dies_around_the_measurement_of_its_start_ends_where_a_whole_one_does(
    tmp_path, world, monkeypatch, dies_in
):
    def dies(*args, **kwargs):
        raise Killed

    recipe = load_recipe("stamp", (*TINY, "optimiser.ema=0.5"))
    whole, kept = _kept(world, tmp_path / "whole", recipe=recipe, validate=by_weights)
    monkeypatch.setattr(f"trainer.loop.{dies_in}", dies)
    with pytest.raises(Killed):
        _run(world, tmp_path / "halves", recipe=recipe, validate=by_weights)
    monkeypatch.undo()
    measured = (tmp_path / "halves" / STATE).exists()
    assert measured == dies_in.endswith("_batches")
    shown = []

    def validate(model):
        shown.append(model)
        return by_weights(model)

    # From the saved state of the start the fresh weights do not matter, and it is not measured again.
    again = _kept(
        world, tmp_path / "halves", recipe=recipe, validate=validate, seed=5 if measured else 0
    )
    assert again[1] == kept
    assert len(shown) == 4 - measured
    assert_same_weights(again[0], whole)
    assert numbers(tmp_path / "halves") == numbers(tmp_path / "whole")
    assert [record["epoch"] for record in numbers(tmp_path / "halves")] == [0, 1, 2, 3]


def test_a_run_without_steps_measures_its_start_once(tmp_path, world):
    recipe = load_recipe("stamp", (*TINY, "optimiser.epochs=0"))
    for recalls in ([0.5], []):
        validate = scripted(recalls)
        assert _kept(world, tmp_path / "run", recipe=recipe, validate=validate)[1] == 0
        assert len(validate.shown) == len(recalls)
        assert [record["epoch"] for record in read_log(tmp_path / "run")] == [0]


# Early stopping and averages


def test_training_ends_after_as_many_worse_epochs_as_it_may_and_leaves_the_best(tmp_path, world):
    recipe = load_recipe("stamp", (*TINY, "optimiser.epochs=9", "validation.patience=2"))
    recalls = [0.1, 0.3, 0.5, 0.4, 0.5]
    validate = scripted([*recalls, 0.9])
    model, kept = _kept(world, tmp_path / "run", recipe=recipe, validate=validate)
    assert len(validate.shown) == 5
    assert_same_weights(model, validate.shown[2])
    assert kept == 2
    records = read_log(tmp_path / "run")
    assert [record["epoch"] for record in records] == [0, 1, 2, 3, 4]
    assert [record["validation_recall"] for record in records] == recalls
    assert not model.training


def test_a_run_that_stopped_early_is_not_trained_further_when_called_again(tmp_path, world):
    recipe = load_recipe("stamp", (*TINY, "optimiser.epochs=9", "validation.patience=1"))
    first = _run(world, tmp_path / "run", recipe=recipe, validate=scripted([0.3, 0.2]))
    log = (tmp_path / "run" / LOG).read_text()
    again = _run(world, tmp_path / "run", recipe=recipe, validate=scripted([0.9] * 9), seed=5)
    assert_same_weights(again, first)
    assert (tmp_path / "run" / LOG).read_text() == log


def test_a_finished_run_is_not_trained_further_when_called_again(tmp_path, world):
    first = _run(world, tmp_path / "run")
    before = (tmp_path / "run" / STATE).read_bytes()
    assert_same_weights(_run(world, tmp_path / "run", seed=5), first)
    assert (tmp_path / "run" / STATE).read_bytes() == before


def test_without_patience_every_epoch_is_trained_and_the_best_is_kept(tmp_path, world):
    validate = scripted([0.1, 0.9, 0.1, 0.2])
    model, kept = _kept(world, tmp_path / "run", validate=validate)
    assert len(validate.shown) == 4
    assert_same_weights(model, validate.shown[1])
    assert kept == 1


def test_looking_at_validation_slides_does_not_change_training(tmp_path, world, features):
    plain = _run(world, tmp_path / "plain")
    validator = Validator(world.slides, world.gene_input, FeatureCache(features, world.model), 3)

    def last_is_best(model):
        found = validator(model)
        return {**found, "recall": len(read_log(tmp_path / "checked")) / 10}

    assert_same_weights(_run(world, tmp_path / "checked", validate=last_is_best), plain)
    record = read_log(tmp_path / "checked")[0]
    assert 0 <= record["validation_image_to_gene"] <= 1
    assert 0 <= record["validation_gene_to_image"] <= 1


def test_what_is_left_and_validated_is_the_moving_average_of_the_weights(tmp_path, world):
    recipe = load_recipe("stamp", (*TINY, "optimiser.ema=0.8", "optimiser.epochs=1"))
    model, weights = fresh_model(recipe, world.gene_input), []
    name = "heads.gene.weight"

    def remember(module, inputs):
        weights.append(module.state_dict()[name].clone())

    model.register_forward_pre_hook(remember)
    folder = tmp_path / "run"
    folder.mkdir()
    train(recipe, model, world.data, Run(folder, 0, quiet=True))
    last = torch.load(folder / STATE, weights_only=True)["model"][name]
    after = [*weights[1:], last]  # as each step left them
    slow = after[0]
    for value in after[1:]:
        slow = 0.8 * slow + 0.2 * value
    torch.testing.assert_close(model.state_dict()[name], slow)
    assert not torch.allclose(model.state_dict()[name], last, atol=1e-6)

    validate = scripted([0.1, 0.5])
    checked = _run(world, tmp_path / "checked", recipe=recipe, validate=validate)
    torch.testing.assert_close(validate.shown[1][name], slow)
    assert_same_weights(checked, validate.shown[1])


# The log, and what cannot be written


def test_the_log_holds_the_means_of_an_epochs_losses_and_the_schedule(tmp_path, world):
    _run(world, tmp_path / "run")
    records = read_log(tmp_path / "run")
    assert [record["step"] for record in records] == [5, 10, 15]
    names = [term.name for term in world.recipe.losses]
    for record in records:
        total = sum(term.weight * record[term.name] for term in world.recipe.losses)
        assert record["loss"] == pytest.approx(total, rel=1e-5)
        assert set(names) <= set(record)
    assert records[-1]["lr"] < records[0]["lr"]
    assert records[-1]["loss"] < records[0]["loss"]


def test_a_full_disk_ends_the_run_and_it_goes_on_from_the_state_before(
    tmp_path, world, whole, monkeypatch
):
    original, calls = torch.save, []

    def full_the_second_time(values, file):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"x" * 1000)
            raise OSError(28, "No space left on device")
        original(values, file)

    monkeypatch.setattr(torch, "save", full_the_second_time)
    with pytest.raises(OSError, match="No space left on device"):
        _run(world, tmp_path / "halves")
    monkeypatch.undo()
    assert_same_weights(whole[0], _run(world, tmp_path / "halves", seed=5))
    assert numbers(tmp_path / "halves") == whole[1]
