"""Two processes on the CPU: the gradients, weights and log of one process with the joined batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.trainer_world import NO_DROPOUT, fresh_model, tiny_world
from trainer.data import Steps
from trainer.loop import Run, train
from trainer.objective import Objective
from trainer.runtime import Runtime
from trainer.state import read_log
from trainer.step import gradients

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parent.parent
# 80 spots in batches of 5 and their partners: one rank has three groups, the other two.
OVERRIDES = (*NO_DROPOUT, "sampler.batch_size=5", "optimiser.epochs=1", "optimiser.lr=1e-4")
STEP = 3
SCRIPT = """
import pathlib, sys, torch
from tests.test_distributed import STEP, both_gradients, prepared
from trainer.loop import Run, train
from trainer.runtime import Runtime
import torch.distributed as dist

features, out = map(pathlib.Path, sys.argv[1:])
runtime = Runtime("fp32")
world = prepared(features)
found = {"world": runtime.world, "gradients": both_gradients(world, runtime)}
views = {"x": torch.full((2 + runtime.rank, 3), float(runtime.rank)), "n": torch.arange(2 + runtime.rank)}
found["joined"] = runtime.join(views)
found["agreed"] = [runtime.agree(flag=flag) for flag in (runtime.rank == 1, False)]
run = Run(out / "run", 0, quiet=True)
if runtime.is_main:
    run.folder.mkdir()
runtime.wait()
def validate(model):
    return {"recall": 0.5}
train(world.recipe, world.model, world.data, run, validate=validate, runtime=runtime)
found["weights"] = world.model.state_dict()
torch.save(found, out / f"{runtime.rank}.pt")
runtime.finish()
"""


def prepared(features):
    """The same data and weights in every process."""
    return tiny_world(features, *OVERRIDES)


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
        # What one process has no gradient for is zero, not missing, where gradients are summed.
        assert not any(float(grads[name].abs().max()) for name in set(grads) - set(alone["grads"]))
        for name, value in alone["values"].items():
            torch.testing.assert_close(values[name], value, atol=1e-5, rtol=1e-5)


def test_rows_are_joined_in_rank_order_whatever_their_number_and_type(ranks):
    for one in ranks[0]:
        assert one["joined"]["x"].tolist() == [[0.0] * 3] * 2 + [[1.0] * 3] * 3
        assert one["joined"]["n"].tolist() == [0, 1, 0, 1, 2]
        assert one["joined"]["n"].dtype == torch.int64


def test_what_one_rank_knows_is_agreed_by_all(ranks):
    assert [one["agreed"] for one in ranks[0]] == [[True, False], [True, False]]


def test_a_run_of_two_processes_has_the_weights_and_log_of_one(ranks, tmp_path):
    found, features, out = ranks
    world = prepared(features)
    train(world.recipe, world.model, world.data, Run(tmp_path, 0, quiet=True))
    for name, value in world.model.state_dict().items():
        assert torch.equal(found[0]["weights"][name], found[1]["weights"][name]), name
        torch.testing.assert_close(found[0]["weights"][name], value, atol=2e-4, rtol=1e-3, msg=name)
    (theirs,), (ours,) = read_log(out / "run"), read_log(tmp_path)
    assert theirs["step"] == ours["step"] == 16
    assert theirs["validation_recall"] == 0.5
    for term in world.recipe.losses:
        assert theirs[term.name] == pytest.approx(ours[term.name], rel=1e-3)
