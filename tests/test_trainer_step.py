"""One step: gradients of micro-batches, the objective, the schedule, and losses that are no number."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.trainer_world import (
    NO_DROPOUT,
    PIXELS,
    TINY,
    fresh_model,
    make_world,
    recipe_of,
    small_slides,
    tiny_world,
)
from trainer.contrastive import clip, clip_one_way, clip_paired, clip_soft, locate
from trainer.data import Steps
from trainer.loop import BAD_BATCH, Run, TrainingStoppedError, train
from trainer.objective import Objective, overlapping
from trainer.recipe import Optimiser
from trainer.recipe_file import load_recipe
from trainer.runtime import Runtime
from trainer.schedule import learning_rate, make_optimiser, set_step, weight_decay
from trainer.step import NonFiniteLossError, gradients


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def batch(world):
    return Steps(world.data, world.recipe, seed=0)[0]


def grads_of(world, recipe, batch, micro_batch=0, model=None):
    """Gradients of a fresh model's and objective's parameters by name, and the values."""
    model = model or fresh_model(recipe, world.gene_input)
    objective = Objective(recipe)
    torch.manual_seed(7)
    values = gradients(
        model.train(), objective, batch,
        wanted=recipe.wanted, runtime=Runtime("fp32"), micro_batch=micro_batch,
    )  # fmt: skip
    named = [*model.named_parameters(), *objective.named_parameters()]
    return {name: p.grad for name, p in named if p.grad is not None}, values


def slow_grads(world, recipe, batch, sizes):
    """The same from a single pass: parts in order, all graphs kept, and one backward through everything."""
    model, objective = fresh_model(recipe, world.gene_input), Objective(recipe)
    torch.manual_seed(7)
    outs, at = [], 0
    for size in sizes:
        outs.append(model.train()(batch.rows(slice(at, at + size)).inputs, recipe.wanted))
        at += size
    assert at == len(batch)
    views = {name: torch.cat([out[name] for out in outs]) for name in outs[0]}
    loss, _ = objective(
        {**views, "label": batch.label, "place": batch.place, "target": batch.target}
    )
    loss.backward()
    named = [*model.named_parameters(), *objective.named_parameters()]
    return {name: p.grad for name, p in named if p.grad is not None}


def assert_same_grads(one, other):
    assert set(one) == set(other)
    assert sum(float(grad.abs().sum()) for grad in one.values()) > 0
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("size", "sizes"), [(4, [4] * 8), (7, [6, 6, 7, 6, 7]), (31, [16, 16]), (1, [2] * 16)]
)
def test_micro_batches_with_dropout_give_the_gradients_of_one_pass_with_the_same_draws(
    world, batch, size, sizes
):
    assert world.recipe.model.image_tower["token_dropout"] > 0
    assert world.recipe.model.gene_tower["dropout"] > 0
    fast, values = grads_of(world, world.recipe, batch, size)
    assert_same_grads(fast, slow_grads(world, world.recipe, batch, sizes))
    assert "log_scale" in fast
    assert values["loss"].item() > 0


@pytest.mark.parametrize("size", [5, 32, 100])
def test_without_dropout_micro_batches_give_the_gradients_of_the_whole_batch(world, batch, size):
    recipe = load_recipe("stamp", (*TINY, *NO_DROPOUT))
    whole, one = grads_of(world, recipe, batch)
    parts, other = grads_of(world, recipe, batch, size)
    assert_same_grads(parts, whole)
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-5)


def test_no_micro_batch_is_a_single_row_which_batch_normalisation_cannot_do_with(tmp_path):
    vae = 'model.gene_tower={kind="vae", hidden=[8], latent=16}'
    world = tiny_world(
        tmp_path, vae, "sampler.kind=uniform", "start=random", slides=small_slides(1, 16)
    )
    batch = Steps(world.data, world.recipe, seed=0)[0]
    assert len(batch) == 16
    grads, _ = grads_of(world, world.recipe, batch, 5)  # 5, 5, 5 and 1 would fail
    assert float(grads["towers.gene.mu.weight"].abs().sum()) > 0


def test_batch_normalisation_counts_every_micro_batch_once(tmp_path):
    recipe = load_recipe("clip", (*PIXELS, "optimiser.micro_batch=4"))
    world = make_world(recipe, small_slides(1), tmp_path)
    batch = Steps(world.data, recipe, seed=0)[0]
    once = fresh_model(recipe, world.gene_input).train()
    with torch.no_grad():
        for start in (0, 4):
            once(batch.rows(slice(start, start + 4)).inputs, recipe.wanted)
    model = fresh_model(recipe, world.gene_input)
    grads_of(world, recipe, batch, micro_batch=4, model=model)
    for name, buffer in once.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(dict(model.named_buffers())[name], buffer, msg=name)
    momenta = {m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert momenta == {0.1}


def test_a_whole_batch_is_one_plain_backward_pass(world, batch):
    assert_same_grads(
        grads_of(world, world.recipe, batch)[0], slow_grads(world, world.recipe, batch, [32])
    )


def test_gradients_are_added_to_those_that_are_there(world, batch):
    recipe = load_recipe("stamp", (*TINY, *NO_DROPOUT))
    model = fresh_model(recipe, world.gene_input)
    once = {
        name: grad.clone() for name, grad in grads_of(world, recipe, batch, model=model)[0].items()
    }
    twice = grads_of(world, recipe, batch, model=model)[0]
    for name in set(once) - {"log_scale"}:  # the objective is made anew
        torch.testing.assert_close(twice[name], 2 * once[name], atol=1e-5, rtol=1e-4)


def test_a_loss_that_is_no_number_gives_no_gradients(world, batch):
    model = fresh_model(world.recipe, world.gene_input)
    profile = batch.inputs.profile.clone()
    profile[3] = math.nan
    broken = replace(batch, inputs=replace(batch.inputs, profile=profile))
    with pytest.raises(NonFiniteLossError, match=r"not finite \(clip\(patch, gene\) = nan"):
        grads_of(world, world.recipe, broken, model=model)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_stops_at_a_nan_names_the_spots_and_keeps_the_weights(tmp_path, world):
    steps = Steps(world.data, world.recipe, seed=0)
    spot = int(steps[3].row[0])
    first = next(i for i in range(4) if spot in steps[i].row)
    profile = world.data.genes.profile.copy()
    profile[spot] = np.nan
    data = replace(world.data, genes=replace(world.data.genes, profile=profile))
    model = fresh_model(world.recipe, world.gene_input)
    seen = {}

    def remember(module, inputs):
        seen.update({name: value.clone() for name, value in module.state_dict().items()})

    model.register_forward_pre_hook(remember)
    with pytest.raises(
        TrainingStoppedError, match=f"Training stopped at step {first}; .*{BAD_BATCH}"
    ):
        train(world.recipe, model, data, Run(tmp_path, 0, quiet=True))
    saved = json.loads((tmp_path / BAD_BATCH).read_text())
    assert saved["step"] == first
    assert saved["spots"] == [str(world.data.spot_ids[row]) for row in steps[first].row]
    assert "nan" in saved["error"]
    assert all(torch.equal(seen[name], value) for name, value in model.state_dict().items())


def test_gradients_that_are_no_numbers_stop_training_before_the_weights_take_them(tmp_path, world):
    model = fresh_model(world.recipe, world.gene_input)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight = model.heads["gene"].weight
    weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(TrainingStoppedError, match="Training stopped at step 0"):
        train(world.recipe, model, world.data, Run(tmp_path, 0, quiet=True))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert (tmp_path / BAD_BATCH).exists()


# The objective


def slow_overlap(place, patch_um):
    n = len(place)
    return torch.tensor(
        [[i != j and place[i][0] == place[j][0] and math.dist(place[i][1:], place[j][1:]) < patch_um
          for j in range(n)] for i in range(n)]
    )  # fmt: skip


@pytest.mark.parametrize("origin", [0.0, 60_000.0])
def test_overlapping_pairs_are_those_of_a_loop_wherever_they_lie_on_the_slide(origin):
    # Pitches of a patch's width and of a little less: 60 mm from the corner rounding must not decide.
    at = [(0, origin, origin), (0, origin + 100.0, origin), (0, origin + 199.5, origin),
          (0, origin, origin), (1, origin, origin), (0, origin + 4_000, origin + 4_000)]  # fmt: skip
    at += [(2, origin + 100.0 * i, origin + 100.0 * (i % 3)) for i in range(40)]
    found = overlapping(torch.tensor(at), 100.0)
    assert torch.equal(found, slow_overlap(at, 100.0))
    assert found[0, 3]
    assert found[1, 2]
    assert not found[0, 1]
    only_the_spot_itself = overlapping(torch.tensor(at), 0.0)
    assert only_the_spot_itself[0, 3]
    assert int(only_the_spot_itself.sum()) == 2


def random_views(b=12, d=8, seed=0):
    rng = torch.Generator().manual_seed(seed)
    views = {
        side: torch.randn(b, d, generator=rng, dtype=torch.float64).float()
        for side in ("patch", "region", "gene", "niche", "fused_spot", "fused_niche", "reference")
    }
    return {
        **views,
        "cells": torch.randn(b, 9, d, generator=rng),
        "label": torch.arange(b) % 9,
        "target": torch.randn(b, 5, generator=rng),
        "place": torch.stack([torch.zeros(b), torch.arange(b) * 90.0, torch.zeros(b)], dim=1),
    }


def test_the_total_is_the_weighted_sum_of_the_losses_with_overlaps_masked():
    recipe = recipe_of(
        {"kind": "clip", "left": "patch", "right": "gene", "weight": 2.0},
        {"kind": "clip_one_way", "left": "patch", "right": "region"},
        {"kind": "clip", "left": "region", "right": "gene", "weight": 0.5},
        {"kind": "clip_soft", "left": "region", "right": "gene", "weight": 0.0},
        {"kind": "locate"},
    )
    views = random_views()
    total, values = Objective(recipe)(views)
    same = overlapping(views["place"], 112.0)
    assert same.sum() == 22  # each spot and its next neighbour
    scale = 1 / 0.07
    expected = {
        "clip(patch, gene)": clip(views["patch"], views["gene"], scale, same),
        "clip_one_way(patch, region)": clip_one_way(views["patch"], views["region"], scale, same),
        "clip(region, gene)": clip(views["region"], views["gene"], scale, same),
        "locate": locate(views["reference"], views["cells"], scale, views["label"]),
    }
    assert set(values) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value)
    torch.testing.assert_close(
        total, sum(w * v for w, v in zip((2.0, 1.0, 0.5, 1.0), expected.values(), strict=True))
    )


def test_soft_and_reconstruction_losses_see_what_they_are_meant_to():
    recipe = recipe_of(
        {"kind": "clip_soft", "left": "patch", "right": "gene"},
        {"kind": "reconstruct", "left": "patch", "form": "mse"},
        model={"decoders": {"patch": {}}},
        scale={"start": 1.0},
    )
    views = random_views()
    views["decoded_patch"] = views["target"] + 2.0
    _, values = Objective(recipe)(views)
    torch.testing.assert_close(
        values["clip_soft(patch, gene)"], clip_soft(views["patch"], views["gene"], 1.0)
    )
    assert values["mse(patch)"].item() == pytest.approx(4.0)


@pytest.mark.parametrize("both_ways", [True, False])
def test_paired_losses_contrast_each_anchor_with_its_own_group(both_ways):
    recipe = recipe_of(
        {"kind": "clip_paired", "left": "patch", "right": "gene", "both_ways": both_ways},
        sampler={"kind": "cluster_negatives", "clusters": 4},
        scale={"start": 10.0, "learnable": False},
    )
    views = random_views()
    views["place"][:, 1] *= 100
    views["place"][5, 1:] = views["place"][4, 1:]  # a negative at its anchor's place does not count
    left, right = views["patch"].reshape(3, 4, 8), views["gene"].reshape(3, 4, 8)
    same = torch.zeros(3, 3, dtype=torch.bool)
    same[1, 0] = True
    expected = clip_paired(
        left[:, 0], right[:, 0], right[:, 1:], 10.0,
        left_negatives=left[:, 1:] if both_ways else None, same=same,
    )  # fmt: skip
    _, values = Objective(recipe)(views)
    torch.testing.assert_close(values["clip_paired(patch, gene)"], expected)


def test_the_scale_starts_where_the_recipe_says_is_clamped_and_may_stand_still():
    objective = Objective(load_recipe("clip", ("scale.start=5.0", "scale.largest=50.0")))
    assert objective.scale.item() == pytest.approx(5.0)
    objective.log_scale.data.fill_(9.0)
    assert objective.scale.item() == pytest.approx(50.0)
    still = Objective(load_recipe("clip", ("scale.learnable=false",)))
    assert not still.log_scale.requires_grad
    loss, _ = still(
        {
            name: view.requires_grad_() if name == "patch" else view
            for name, view in random_views().items()
        }
    )
    loss.backward()
    assert still.log_scale.grad is None


@pytest.mark.parametrize("start", [10.0, 14.3, 20.0, 50.0])
def test_a_scale_at_its_clamp_can_still_come_down(start):
    objective = Objective(load_recipe("clip", (f"scale.start={start}", "scale.largest=100.0")))
    with torch.no_grad():
        objective.log_scale.fill_(5.0)
    objective.hold_scale()
    objective.scale.backward()
    assert float(objective.log_scale.grad) > 1
    assert float(objective.scale.detach()) == pytest.approx(100.0)


def test_half_precision_outputs_are_compared_in_float32():
    recipe = load_recipe("clip")
    views = random_views()
    rounded = {
        name: view.bfloat16() if name in ("patch", "gene") else view for name, view in views.items()
    }
    total, _ = Objective(recipe)(rounded)
    assert total.dtype == torch.float32


# The schedule


def test_learning_rate_warms_up_and_ends_at_zero_for_good():
    settings = Optimiser(lr=1.0, warmup_share=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(120)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0) == max(rates)
    assert np.all(np.diff(rates[9:101]) <= 0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert rates[119] == pytest.approx(0.0)


def test_weight_decay_stays_or_moves_along_a_cosine_to_its_end():
    assert weight_decay(Optimiser(weight_decay=0.05), 70, 100) == 0.05
    moving = Optimiser(weight_decay=0.04, weight_decay_end=0.4)
    found = [weight_decay(moving, step, 101) for step in range(101)]
    assert found[0] == pytest.approx(0.04)
    assert found[50] == pytest.approx(0.22)
    assert found[100] == pytest.approx(0.4)


def test_only_the_towers_matrices_are_decayed_and_every_group_follows_the_schedule(world):
    model, objective = fresh_model(world.recipe, world.gene_input), Objective(world.recipe)
    for parameter in model.towers["gene"].parameters():
        parameter.requires_grad_(requires_grad=False)
    optimiser = make_optimiser((model, objective), world.recipe.optimiser)
    decayed, plain, direct = (group["params"] for group in optimiser.param_groups)
    assert all(parameter.ndim >= 2 for parameter in decayed)
    for alone in (objective.log_scale, model.towers["image"].position, model.heads["gene"].bias):
        assert any(parameter is alone for parameter in plain)
    assert {id(parameter) for parameter in direct} == {id(p) for p in model.direct.parameters()}
    learned = [p for p in (*model.parameters(), *objective.parameters()) if p.requires_grad]
    assert len(decayed) + len(plain) + len(direct) == len(learned)
    settings = Optimiser(lr=0.5, direct_share=0.1, warmup_share=0.0, weight_decay_end=0.3)
    for step in (0, 50, 99):
        set_step(optimiser, settings, step, 100)
        rate, decay = learning_rate(settings, step, 100), weight_decay(settings, step, 100)
        found = [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups]
        assert found == [(rate, decay), (rate, 0.0), (pytest.approx(0.1 * rate), 0.0)]
