"""The trainer: losses against loops, samplers, augmentation, resume, and a model that learns."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from stamp_index.encoders import FeatureCache, load_encoder
from stamp_index.encoders.model import AlignModel
from stamp_index.genes import PAD, TOKEN_OFFSET
from tests.support import toy_slide
from trainer.data import (
    _turn,
    _turned_cells,
    assemble,
    draw,
    drop_genes,
    fit_gene_input,
    overlapping,
)
from trainer.initialise import start_from_statistics
from trainer.loop import LOG, Run, learning_rate, parameter_groups, train, training_step
from trainer.losses import clip, clip_one_way, locate
from trainer.recipe import Optimiser, RecipeError, Sampler, load_recipe
from trainer.sampler import batches, partners
from trainer.split import make_split
from trainer.train import main

TINY = (
    "model.patch_px=96",
    "model.region_px=96",
    "model.dim=16",
    "model.image_tower.width=32",
    "model.gene_tower.width=32",
    "model.gene_tower.context=8",
    "genes.n_genes=40",
    "n_placements=2",
    "sampler.batch_size=16",
    "optimiser.epochs=3",
)


def _units(n, d, seed):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


def test_clip_equals_a_loop_that_skips_masked_negatives():
    a, b, scale = _units(6, 4, 0), _units(6, 4, 1), torch.tensor(5.0)
    same = torch.zeros(6, 6, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    total = 0.0
    for left, right in ((a, b), (b, a)):
        for i in range(6):
            kept = [j for j in range(6) if not same[i, j]]
            logits = [float(scale * left[i] @ right[j]) for j in kept]
            top = float(scale * left[i] @ right[i])
            total += -top + math.log(sum(math.exp(value) for value in logits))
    assert clip(a, b, scale, same).item() == pytest.approx(total / 12, rel=1e-5)


def test_one_way_clip_is_not_symmetric_and_clip_is():
    a, b, scale, none = _units(5, 3, 2), _units(5, 3, 3), torch.tensor(4.0), torch.zeros(5, 5) > 0
    assert clip(a, b, scale, none).item() == pytest.approx(clip(b, a, scale, none).item())
    assert clip_one_way(a, b, scale, none) != clip_one_way(b, a, scale, none)


def test_orthogonal_pairs_have_the_closed_form_loss():
    eye, none = torch.eye(8), torch.zeros(8, 8) > 0
    expected = -math.log(math.exp(3) / (math.exp(3) + 7))
    assert clip(eye, eye, torch.tensor(3.0), none).item() == pytest.approx(expected, rel=1e-5)


def test_locate_equals_a_loop_and_chance_is_log_nine():
    reference, cells = _units(4, 5, 4), _units(36, 5, 5).reshape(4, 9, 5)
    label = torch.tensor([0, 4, 8, 2])
    slow = 0.0
    for i in range(4):
        logits = [float(2 * reference[i] @ cells[i, k]) for k in range(9)]
        slow += -logits[label[i]] + math.log(sum(map(math.exp, logits)))
    assert locate(reference, cells, torch.tensor(2.0), label).item() == pytest.approx(slow / 4)
    assert locate(reference, cells, torch.tensor(0.0), label).item() == pytest.approx(math.log(9))


def test_permuting_the_batch_does_not_change_the_losses():
    a, b, none, scale = _units(7, 4, 6), _units(7, 4, 7), torch.zeros(7, 7) > 0, torch.tensor(9.0)
    order = torch.randperm(7)
    assert clip(a, b, scale, none).item() == pytest.approx(
        clip(a[order], b[order], scale, none).item(), rel=1e-5
    )


def test_partners_are_other_spots_of_the_same_slide():
    rng = np.random.default_rng(0)
    slide_of = np.repeat([0, 1, 2], [1, 5, 20])
    spots = rng.permutation(26)
    for _ in range(20):
        found = partners(spots, slide_of, rng)
        assert np.array_equal(slide_of[found], slide_of[spots])
        alone = slide_of[spots] == 0
        assert np.all(found[~alone] != spots[~alone])


def test_an_epoch_draws_every_spot_once_before_partners():
    sampler = Sampler("same_slide_partner", 8)
    slide_of = np.repeat([0, 1], [10, 11])
    drawn = [
        batch[: len(batch) // 2] for batch in batches(sampler, slide_of, np.random.default_rng(1))
    ]
    assert sorted(np.concatenate(drawn)) == list(range(21))


@pytest.mark.parametrize("turn", range(8))
def test_the_label_follows_its_cell_through_every_symmetry(turn):
    grid = np.arange(9).reshape(1, 3, 3)
    turned = _turn(grid, turn).ravel()
    for cell in range(9):
        assert turned[_turned_cells(turn)[cell]] == cell


def test_eight_symmetries_are_all_different():
    grid = np.arange(9).reshape(1, 3, 3)
    assert len({_turn(grid, turn).tobytes() for turn in range(8)}) == 8


def test_dropped_genes_leave_tokens_and_profile_and_ranks_move_up():
    tokens = np.array([[3, 1, 2, 0]]) + TOKEN_OFFSET
    tokens[0, 3] = PAD
    profile = np.array([[1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
    kept = np.array([[True, False, True, True]])
    moved, left = drop_genes(tokens.astype(np.int32), profile, kept, 3)
    assert moved.tolist() == [[3 + TOKEN_OFFSET, 2 + TOKEN_OFFSET, PAD]]
    assert left.tolist() == [[1.0, 0.0, 3.0, 4.0]]


def test_learning_rate_warms_up_and_ends_at_zero_for_good():
    settings = Optimiser(lr=1.0, warmup_share=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(120)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert rates[119] == pytest.approx(0.0)


@pytest.fixture(scope="module")
def slides():
    return [toy_slide(name, n_spots=40, seed=seed) for seed, name in enumerate("AB")]


@pytest.fixture
def prepared(slides, tmp_path):
    torch.manual_seed(0)
    recipe = load_recipe("stamp", TINY)
    gene_input = fit_gene_input(recipe, slides)
    model = AlignModel(recipe.model, len(gene_input.panel))
    data = assemble(
        recipe, slides, gene_input, FeatureCache(tmp_path / "features", model.image), seed=0
    )
    return recipe, gene_input, model, data


def test_overlap_masks_the_same_spot_and_near_spots_of_its_slide_only(prepared):
    _, _, _, data = prepared
    spots = np.array([0, 1, 0, 40])
    same = overlapping(data, spots, 112.0)
    assert same[0, 2]
    assert same[2, 0]
    assert same[0, 1]  # 100 um apart, closer than a patch
    assert not same[0, 3]
    assert not same.diagonal().any()


def test_the_model_overfits_one_batch(prepared):
    recipe, gene_input, model, data = prepared
    start_from_statistics(model, data, gene_input.context)
    model.train()
    optimiser = torch.optim.AdamW(parameter_groups(model, recipe.optimiser), lr=3e-3)
    batch = draw(data, np.arange(0, 80, 5), recipe, np.random.default_rng(0))
    values = [training_step(recipe, model, optimiser, batch) for _ in range(60)]
    assert set(values[0]) == {
        "loss", "clip(patch, gene)", "clip_one_way(patch, region)", "clip(region, gene)", "locate",
    }  # fmt: skip
    assert values[-1]["clip(patch, gene)"] < 0.3 * math.log(16)
    assert values[-1]["loss"] < 0.5 * values[0]["loss"]


def test_only_matrices_are_decayed(prepared):
    recipe, _, model, _ = prepared
    decayed, plain = parameter_groups(model, recipe.optimiser)
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    assert any(parameter is model.log_scale for parameter in plain["params"])
    assert any(parameter is model.image.position for parameter in plain["params"])


def test_an_interrupted_run_ends_where_a_whole_one_does(prepared, slides, tmp_path):
    recipe, gene_input, _, data = prepared

    def fresh():
        torch.manual_seed(0)
        return AlignModel(recipe.model, len(gene_input.panel))

    whole, folder = fresh(), tmp_path / "whole"
    folder.mkdir()
    train(recipe, whole, data, Run(folder, 0, quiet=True))

    class Killed(Exception):
        pass

    halves, folder = fresh(), tmp_path / "halves"
    folder.mkdir()
    forward, calls = halves.embed_genes, []

    def dies_in_epoch_two(*inputs):
        calls.append(1)
        if len(calls) == 8:  # five steps make an epoch
            raise Killed
        return forward(*inputs)

    halves.embed_genes = dies_in_epoch_two
    with pytest.raises(Killed):
        train(recipe, halves, data, Run(folder, 0, quiet=True))
    again = fresh()
    train(recipe, again, data, Run(folder, 0, quiet=True))
    for one, two in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    assert [json.loads(line)["epoch"] for line in (folder / LOG).read_text().splitlines()] == [
        1,
        2,
        3,
    ]


def test_split_by_patient_and_by_section_say_which_they_are(slides):
    one, two = slides[0], toy_slide("B", n_spots=40, seed=1)
    object.__setattr__(one, "patient_id", "P1")
    object.__setattr__(two, "patient_id", "P2")
    assert make_split([one, two], ["P2"], []).by == "patient"
    object.__setattr__(two, "patient_id", "P1")
    split = make_split([one, two], [], ["B"])
    assert (split.by, split.held_out) == ("section", ("B",))
    assert "by section only" in split.describe()


@pytest.mark.parametrize(
    ("patients", "names", "message"),
    [
        (["P9"], [], "No patient P9 among the slides"),
        ([], ["Z"], "No slide Z among the slides; there are A, B"),
        ([], ["A", "B"], "Every slide is held out"),
    ],
    ids=["patient", "slide", "all"],
)
def test_a_split_that_cannot_be_made_says_why(slides, patients, names, message):
    with pytest.raises(RecipeError, match=message):
        make_split(slides, patients, names)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.epoch=3", "unknown fields: epoch; expected epochs"),
        ("optimiser.epochs=0", "Out of range in the recipe: optimiser.epochs"),
        (
            "model.image_tower.kind=resnet",
            "Unknown image tower 'resnet'; expected one of hybrid, vit",
        ),
        ("sampler.kind=cluster", "Unknown sampler 'cluster'"),
        ("colour=red", "unknown fields: colour"),
        ("model.dim=0", "dim is 0"),
        ("sampler.batch_size=2.5", "sampler.batch_size is 2.5; expected a value of type int"),
        ("optimiser.epochs=many", "optimiser.epochs is 'many'; expected a value of type int"),
    ],
)
def test_a_wrong_recipe_value_is_named(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("stamp", (override,))


def test_a_recipe_that_extends_another_may_change_the_kind_of_tower(tmp_path):
    path = tmp_path / "vit.toml"
    path.write_text(
        'extends = "stamp"\n[model.image_tower]\nkind = "vit"\nmodel = "vit_tiny_patch16_224"\n'
    )
    tower = load_recipe(path).model.image_tower
    assert tower == {"kind": "vit", "model": "vit_tiny_patch16_224"}


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(
        RecipeError, match="no recipe 'stmp'. Known recipes: demo, legacy_st, stamp"
    ):
        load_recipe("stmp")


@pytest.mark.parametrize("name", ["stamp", "demo", "legacy_st"])
def test_every_recipe_loads_and_holds_the_four_losses(name):
    recipe = load_recipe(name)
    assert [term.kind for term in recipe.losses] == ["clip", "clip_one_way", "clip", "locate"]


def test_the_command_trains_a_phantom_writes_a_run_and_refuses_another_recipe(tmp_path):
    from stamp_index.phantom import make_phantom

    paths = make_phantom(
        tmp_path / "slides", n_patients=2, slides_per_patient=1, spots_per_slide=40, workers=1
    )
    out = tmp_path / "run"
    sets = [part for override in TINY for part in ("--set", override)]
    arguments = [*map(str, paths), "--out", str(out), "--hold-out-patient", "P2", "--quiet", *sets]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert load_encoder(out / "encoder").name == "stamp"
    assert load_encoder(out / "ridge").name == "ridge"
    assert (out / "losses.png").stat().st_size > 5000
    assert json.loads((out / "split.json").read_text())["held_out"] == ["P2_A"]
    other = CliRunner().invoke(main, [*arguments, "--seed", "5"])
    assert other.exit_code == 1
    assert "holds a run with another recipe, seed, split, panel or slides" in other.output
    swapped = [*map(str, paths), "--out", str(out), "--hold-out-patient", "P1", "--quiet", *sets]
    before = (out / "split.json").read_text()
    assert CliRunner().invoke(main, swapped).exit_code == 1
    assert (out / "split.json").read_text() == before
    unknown = CliRunner().invoke(main, [*arguments, "--gene", "ERBB22"])
    assert unknown.exit_code == 1
    assert "cannot hold ERBB22" in unknown.output
    assert "ERBB2" in unknown.output
