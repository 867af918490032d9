"""Two processes on the CPU: the gradients, weights and log of one process with the joined batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.trainer_world import (
    NO_DROPOUT,
    SEAL,
    ST_ALIGN,
    ST_ALIGN_SMALL,
    fresh_model,
    make_world,
    small_slides,
    tiny_world,
)
from trainer.data import Steps
from trainer.images import UnreadableSlideError
from trainer.loop import Run, train
from trainer.objective import Objective
from trainer.recipe_file import load_recipe
from trainer.runtime import Runtime
from trainer.state import read_log
from trainer.step import gradients

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parent.parent
# 80 spots in batches of 5 and their partners: one rank has three groups, the other two.
OVERRIDES = (*NO_DROPOUT, "sampler.batch_size=5", "optimiser.epochs=1", "optimiser.lr=1e-4")
STEP = 3
# Recipes with batch normalisation, a VAE's noise, dropout and negatives that come with their anchor.
OTHERS = {"seal": SEAL, "st_align": ST_ALIGN, "st_align_small": ST_ALIGN_SMALL}
SCRIPT = """
import pathlib, sys, torch
from tests.test_distributed import OTHERS, GoneForOneRank, both_gradients, halves, prepared, summed
from tests.trainer_world import fresh_model, with_images
from trainer.loop import Run, train
from trainer.runtime import Runtime
import torch.distributed as dist

features, out = map(pathlib.Path, sys.argv[1:])
runtime = Runtime("fp32")
world = prepared(features)
found = {"world": runtime.world, "gradients": both_gradients(world, runtime)}
found["others"] = {name: halves(name, features, runtime) for name in OTHERS}
found["union"] = sorted(runtime.union({"A", f"slide {runtime.rank}"}))
found["sums"] = summed(runtime)
layer = torch.nn.BatchNorm1d(2)
for value in layer.state_dict().values():
    value.fill_(runtime.rank + 5)
runtime.broadcast(layer)
found["broadcast"] = layer.state_dict()
views = {"x": torch.full((2 + runtime.rank, 3), float(runtime.rank)), "n": torch.arange(2 + runtime.rank)}
found["joined"] = runtime.join(views)
found["agreed"] = [runtime.agree(flag=flag) for flag in (runtime.rank == 1, False)]
run = Run(out / "run", 0, quiet=True)
if runtime.is_main:
    run.folder.mkdir()
runtime.wait()
recalls = iter((0.25, 0.5))  # before the first step and after the epoch, whose weights are kept
def validate(model):
    return {"recall": next(recalls)}
if not runtime.is_main:
    world.model = fresh_model(world.recipe, world.gene_input, seed=9)  # as if numerics differed
train(world.recipe, world.model, world.data, run, validate=validate, runtime=runtime)
found["weights"] = world.model.state_dict()
run = Run(out / "gone", 0, quiet=True, skip_unreadable=True)
if runtime.is_main:
    run.folder.mkdir()
runtime.wait()
data = with_images(world.data, GoneForOneRank(world.data.images, runtime.rank))
train(world.recipe, world.model, data, run, runtime=runtime)
torch.save(found, out / f"{runtime.rank}.pt")
runtime.finish()
"""


def prepared(features):
    """The same data and weights in every process."""
    return tiny_world(features, *OVERRIDES)


class GoneForOneRank:
    """An image source whose slide B only rank 1 cannot read."""

    def __init__(self, images, rank):
        self.images, self.rank = images, rank

    def patches(self, slide, row, stain):
        self._check(slide)
        return self.images.patches(slide, row, stain)

    def regions(self, slide, row, cell, stain):
        self._check(slide)
        return self.images.regions(slide, row, cell, stain)

    def _check(self, slide):
        if self.rank == 1 and (slide == 1).any():
            error = UnreadableSlideError("gone")
            error.slide_number = 1
            raise error


def summed(runtime):
    """Sums of gradients that no rank has, that rank 1 has, and that both have."""
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    if runtime.rank == 1:
        parameters[1].grad = torch.ones(2)
    parameters[2].grad = torch.full((2,), runtime.rank + 1.0)
    runtime.sum_gradients(parameters, 0.5)
    return [None if one.grad is None else one.grad.tolist() for one in parameters]


def both_gradients(world, runtime):
    """Gradients of one step by parameter, with and without micro-batches, and the loss's values."""
    steps = Steps(world.data, world.recipe, seed=0, rank=runtime.rank, world=runtime.world)
    made = []
    for micro_batch in (0, 3):
        model, objective = fresh_model(world.recipe, world.gene_input), Objective(world.recipe)
        values = gradients(
            model.train(), objective, steps[STEP],
            wanted=world.recipe.wanted, runtime=runtime, micro_batch=micro_batch,
        )  # fmt: skip
        named = [*model.named_parameters(), *objective.named_parameters()]
        grads = {name: p.grad for name, p in named if p.grad is not None}
        made.append({"grads": grads, "values": values, "rows": len(steps[STEP])})
    return made


def halves(name, features, runtime):
    """Gradients of a batch of which every process has a half, or one process two micro-batches."""
    recipe = load_recipe(name, OTHERS[name])
    world = make_world(recipe, small_slides(), features / name)
    first, mine = (
        Steps(world.data, recipe, seed=0, rank=rank, world=n)[1]
        for rank, n in ((0, 2), (runtime.rank, runtime.world))
    )
    model, objective = fresh_model(recipe, world.gene_input), Objective(recipe)
    other = fresh_model(recipe, world.gene_input).train()
    torch.manual_seed(7)
    if runtime.rank:
        other(first.inputs, recipe.wanted)  # draws what one process draws for the first half
    micro_batch = 0 if runtime.world > 1 else len(first)
    values = gradients(
        model.train(), objective, mine,
        wanted=recipe.wanted, runtime=runtime, micro_batch=micro_batch,
    )  # fmt: skip
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"grads": grads, "values": values, "rows": mine.row}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Where two processes wrote what they found, and the features that they shared."""
    features, out = tmp_path_factory.mktemp("features"), tmp_path_factory.mktemp("out")
    prepared(features)
    script = out / "script.py"
    script.write_text(SCRIPT)
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, script, features, out], cwd=ROOT, check=False, capture_output=True, text=True,
        env={**os.environ, **hidden, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return found, features, out


def test_ranks_have_different_rows_of_one_batch(ranks):
    found, _, _ = ranks
    assert [one["world"] for one in found] == [2, 2]
    assert [one["gradients"][0]["rows"] for one in found] == [6, 4]


@pytest.mark.parametrize("part", [0, 1], ids=["whole", "micro-batches"])
def test_two_processes_have_the_gradients_of_one_with_the_joined_batch(ranks, part):
    found, features, _ = ranks
    alone = both_gradients(prepared(features), Runtime("fp32"))[part]
    assert alone["rows"] == 10
    assert "log_scale" in alone["grads"]
    for one in found:
        grads, values = one["gradients"][part]["grads"], one["gradients"][part]["values"]
        for name, grad in alone["grads"].items():
            torch.testing.assert_close(grads[name], grad, atol=1e-5, rtol=1e-4, msg=name)
        assert set(grads) == set(alone["grads"])
        for name, value in alone["values"].items():
            torch.testing.assert_close(values[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_two_processes_with_a_half_each_have_the_gradients_of_one_with_two_micro_batches(
    ranks, name
):
    """Batch normalisation sees the same halves on both ways, and every spot the same noise and dropout.

    In a run each process draws noise from a seed of its own, so its numbers are others than those of one process.
    Here the second process first draws what the first one does, and goes on from there as one process would.
    """
    found, features, _ = ranks
    alone = halves(name, features, Runtime("fp32"))
    shares = [one["others"][name] for one in found]
    assert len(shares[0]["rows"]) == len(shares[1]["rows"]) == len(alone["rows"]) // 2
    assert torch.equal(torch.cat([share["rows"] for share in shares]), alone["rows"])
    for share in shares:
        assert set(share["grads"]) == set(alone["grads"])
        for key, grad in alone["grads"].items():
            torch.testing.assert_close(share["grads"][key], grad, atol=1e-5, rtol=1e-4, msg=key)
        for key, value in alone["values"].items():
            torch.testing.assert_close(share["values"][key], value, atol=1e-5, rtol=1e-5)


def test_rows_are_joined_in_rank_order_whatever_their_number_and_type(ranks):
    for one in ranks[0]:
        assert one["joined"]["x"].tolist() == [[0.0] * 3] * 2 + [[1.0] * 3] * 3
        assert one["joined"]["n"].tolist() == [0, 1, 0, 1, 2]
        assert one["joined"]["n"].dtype == torch.int64


def test_what_one_rank_knows_is_agreed_by_all(ranks):
    assert [one["agreed"] for one in ranks[0]] == [[True, False], [True, False]]


def test_a_gradient_that_no_rank_has_stays_missing(ranks):
    for one in ranks[0]:
        assert one["sums"] == [None, [0.5, 0.5], [1.5, 1.5]]


def test_every_rank_gets_the_parameters_and_buffers_of_the_first(ranks):
    for one in ranks[0]:
        assert {float(value.max()) for value in one["broadcast"].values()} == {5.0}
        assert {float(value.min()) for value in one["broadcast"].values()} == {5.0}


def test_a_slide_that_one_rank_cannot_read_is_in_the_log(ranks):
    found, _, out = ranks
    assert [one["union"] for one in found] == [["A", "slide 0", "slide 1"]] * 2
    assert [record["unreadable"] for record in read_log(out / "gone")] == [["B"]]


def test_a_run_of_two_processes_has_the_weights_and_log_of_one(ranks, tmp_path):
    found, features, out = ranks
    world = prepared(features)
    train(world.recipe, world.model, world.data, Run(tmp_path, 0, quiet=True))
    for name, value in world.model.state_dict().items():
        assert torch.equal(found[0]["weights"][name], found[1]["weights"][name]), name
        torch.testing.assert_close(found[0]["weights"][name], value, atol=2e-4, rtol=1e-3, msg=name)
    (start, theirs), (ours,) = read_log(out / "run"), read_log(tmp_path)
    assert start["validation_recall"] == 0.25
    assert theirs["step"] == ours["step"] == 16
    assert theirs["validation_recall"] == 0.5
    for term in world.recipe.losses:
        assert theirs[term.name] == pytest.approx(ours[term.name], rel=1e-3)
