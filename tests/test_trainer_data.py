"""Training data: sampling, steps that depend on their number alone, and gene dropout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stamp_index.encoders.features import CENTRE_CELL
from stamp_index.encoders.gene_input import GeneInput
from stamp_index.genes import PAD, TOKEN_OFFSET, GenePanel, log1p_cp10k
from tests.trainer_world import (
    PIXELS,
    make_world,
    numbered_recipe,
    numbered_set,
    same_batches,
    small_slides,
)
from trainer.data import (
    SPARE,
    Steps,
    drop_genes,
    fit_gene_input,
    kept_genes,
    placements,
    wide_batches,
)
from trainer.prepare import gene_blocks
from trainer.recipe import Genes, RecipeError, Sampler
from trainer.recipe_file import load_recipe
from trainer.sampler import epoch_batches, group_size, partners, with_company


def _rng(seed=0):
    return np.random.default_rng(seed)


# Sampling


@pytest.mark.parametrize("kind", ["uniform", "same_slide_partner"])
def test_an_epoch_draws_every_spot_once(kind):
    batches = epoch_batches(Sampler(kind=kind, batch_size=8), (), np.zeros(21, int), _rng())
    assert sorted(np.concatenate(batches)) == list(range(21))
    assert [len(batch) for batch in batches] == [8, 8, 5]


@pytest.mark.parametrize("most", [8, 12, 100])
def test_batches_of_one_slide_hold_every_spot_once_and_never_two_slides(most):
    slide_of = np.repeat([0, 1, 2, 3], [20, 1, 7, 12])
    sampler = Sampler(kind="one_slide", batch_size=most)
    drawn = [epoch_batches(sampler, (), slide_of, _rng(seed)) for seed in range(5)]
    for batches in drawn:
        assert sorted(np.concatenate(batches)) == [
            *range(20),
            *range(21, 40),
        ]  # one spot alone is none
        assert all(len(set(slide_of[batch])) == 1 and len(batch) <= most for batch in batches)
        sizes = [len(batch) for batch in batches if slide_of[batch[0]] == 0]
        assert max(sizes) - min(sizes) <= 1
    assert len({len(batches) for batches in drawn}) == 1  # every epoch has as many steps
    assert len({tuple(slide_of[batch[0]] for batch in batches) for batches in drawn}) > 1
    assert group_size(sampler) == 1


@pytest.mark.parametrize("kind", ["uniform", "same_slide_partner"])
@pytest.mark.parametrize(
    ("n", "sizes"), [(65, [32, 33]), (67, [32, 35]), (68, [32, 32, 4]), (1, [1]), (3, [3])]
)
def test_a_last_batch_of_less_than_an_eighth_joins_the_one_before(kind, n, sizes):
    sampler = Sampler(kind=kind, batch_size=32)
    batches = epoch_batches(sampler, (), np.zeros(n, int), _rng())
    assert [len(batch) for batch in batches] == sizes
    assert sorted(np.concatenate(batches)) == list(range(n))


def test_partners_are_other_spots_of_the_same_slide_and_all_are_drawn():
    slide_of = np.repeat([0, 1, 2], [1, 5, 20])
    spots, seen = _rng(1).permutation(26), set()
    for seed in range(60):
        found = partners(spots, slide_of, _rng(seed))
        np.testing.assert_array_equal(slide_of[found], slide_of[spots])
        alone = slide_of[spots] == 0
        assert np.all(found[~alone] != spots[~alone])
        assert found[alone].tolist() == [0]
        seen.update(zip(spots.tolist(), found.tolist(), strict=True))
    assert {(1, other) for other in (2, 3, 4, 5)} <= seen


@pytest.mark.parametrize("sizes", [(4, 20), (3, 9, 12), (1, 23)])
def test_balancing_draws_every_stratum_equally_often_and_spots_of_one_evenly(sizes):
    strata = np.repeat(np.arange(len(sizes)), sizes)
    drawn = np.concatenate(epoch_batches(Sampler(batch_size=5), (strata,), strata, _rng(2)))
    assert len(drawn) == 24
    times = np.bincount(strata[drawn], minlength=len(sizes))
    assert times.max() - times.min() <= 1
    for stratum in range(len(sizes)):
        counts = np.bincount(drawn, minlength=24)[strata == stratum]
        assert counts.max() - counts.min() <= 1


def test_balancing_organs_balances_the_slides_within_each():
    slide_of = np.repeat(np.arange(4), [2, 10, 30, 6])
    organ_of = np.array([0, 0, 0, 1])[slide_of]
    drawn = np.concatenate(
        epoch_batches(Sampler(batch_size=7), (organ_of, slide_of), slide_of, _rng(4))
    )
    assert np.bincount(slide_of[drawn]).tolist() == [8, 8, 8, 24]


@pytest.mark.parametrize(("balance", "n_values"), [("none", []), ("slide", [3]), ("organ", [2, 3])])
def test_what_is_balanced_is_the_recipes_choice(tmp_path, balance, n_values):
    slides = [
        replace(s, organ=o)
        for s, o in zip(small_slides(3, 12), ("liver", "skin", "liver"), strict=True)
    ]
    recipe = load_recipe("clip", (*PIXELS, f"sampler.balance={balance}"))
    levels = make_world(recipe, slides, tmp_path).data.levels
    assert [len(np.unique(level)) for level in levels] == n_values
    if balance == "organ":
        assert levels[0][0] == levels[0][35] != levels[0][20]
        with pytest.raises(RecipeError, match="needs an organ of every slide; B have none"):
            make_world(recipe, [slides[0], replace(slides[1], organ="")], tmp_path)


def test_each_anchor_brings_negatives_of_the_other_clusters_of_its_slide():
    sampler = Sampler(kind="cluster_negatives", batch_size=6, clusters=3)
    data = numbered_set((9, 12))
    anchors = _rng().permutation(21)[:6]
    groups = with_company(sampler, anchors, data.slide_of, data.cluster_of, _rng(1))
    assert groups.shape == (6, group_size(sampler)) == (6, 3)
    np.testing.assert_array_equal(groups[:, 0], anchors)
    for group in groups:
        assert len(set(data.slide_of[group])) == 1
        assert len(set(data.cluster_of[group])) == 3
    with pytest.raises(ValueError, match="needs the clusters"):
        with_company(sampler, anchors, data.slide_of, None, _rng())


# Steps


def test_a_step_is_the_same_whatever_was_drawn_before_it():
    data, recipe = numbered_set(), numbered_recipe()
    steps = Steps(data, recipe, seed=3)
    assert len(steps) == 9
    in_order = [steps[i] for i in range(9)]
    again = Steps(data, recipe, seed=3)
    for i in (8, 0, 4, 4, 7):
        same_batches(again[i], in_order[i])
    other = Steps(data, recipe, seed=4)[0]
    assert other.row.tolist() != in_order[0].row.tolist()
    assert in_order[0].row.tolist() != in_order[3].row.tolist()  # another epoch, another order


def test_an_epoch_of_steps_holds_every_anchor_once():
    steps = Steps(numbered_set(), numbered_recipe(), seed=0)
    for epoch in range(3):
        batches = [steps[epoch * 3 + i] for i in range(3)]
        assert all(batch.group == 2 for batch in batches)
        anchors = torch.cat([batch.row[::2] for batch in batches])
        assert sorted(anchors.tolist()) == list(range(12))


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("kind", ["uniform", "same_slide_partner", "cluster_negatives"])
def test_the_ranks_rows_together_are_those_of_one_process(world, kind):
    recipe = numbered_recipe(f"sampler.kind={kind}", "sampler.clusters=3", "sampler.batch_size=5")
    data = numbered_set()
    whole = Steps(data, recipe, seed=1)
    shares = [Steps(data, recipe, seed=1, rank=rank, world=world) for rank in range(world)]
    for i in range(len(whole)):
        parts = [share[i] for share in shares]
        for name in ("label", "target", "place", "row"):
            joined = torch.cat([getattr(part, name) for part in parts])
            torch.testing.assert_close(joined, getattr(whole[i], name), rtol=0, atol=0)
        for name in ("patch", "region", "tokens", "profile"):
            joined = torch.cat([getattr(part.inputs, name) for part in parts])
            torch.testing.assert_close(joined, getattr(whole[i].inputs, name), rtol=0, atol=0)
        assert all(len(part) % part.group == 0 for part in parts)  # no group is torn


def test_images_and_expression_of_a_row_are_of_one_spot():
    batch = Steps(
        numbered_set(), numbered_recipe("genes.full_share=1.0", "genes.short_share=0.0"), seed=0
    )[0]
    slide, row, _ = batch.inputs.patch[:, 0, 0, :3].long().T
    spot = row + torch.tensor([0, 7])[slide]
    assert spot.tolist() == batch.row.tolist()
    assert (batch.inputs.profile[:, 0].long() - 1).tolist() == batch.row.tolist()
    assert batch.place[:, 0].long().tolist() == slide.tolist()
    assert batch.inputs.region[:, 0, 0, 1].long().tolist() == row.tolist()


def test_only_placements_that_were_prepared_are_drawn_and_all_of_them():
    data = numbered_set(n_cells=3)
    steps = Steps(data, numbered_recipe(), seed=0)
    seen = {int(cell) for i in range(9) for cell in steps[i].inputs.region[:, 0, 0, 2]}
    assert seen == {4, 0, 1}


def test_placements_start_with_the_centre_and_never_repeat():
    for count in (1, 2, 9):
        cells = placements(50, count, 0)
        assert cells.shape == (50, count)
        assert np.all(cells[:, 0] == CENTRE_CELL)
        assert all(len(set(row)) == count for row in cells.tolist())
    assert len(np.unique(placements(50, 2, 0)[:, 1])) == 8


def test_what_no_loss_looks_at_is_not_fetched():
    recipe = numbered_recipe(*(f"losses.{i}.weight=0" for i in (1, 2, 3, 4)))
    batch = Steps(numbered_set(), recipe, seed=0)[0]
    assert batch.inputs.region is None
    assert batch.inputs.niche is None
    assert batch.inputs.patch is not None


def test_a_part_of_a_batch_is_its_rows():
    batch = Steps(numbered_set(), numbered_recipe(), seed=0)[0]
    part = batch.rows(slice(2, 5))
    assert len(part) == 3
    torch.testing.assert_close(part.inputs.profile, batch.inputs.profile[2:5])
    assert part.row.tolist() == batch.row[2:5].tolist()


# Genes


def test_dropped_genes_leave_tokens_profile_and_niche_and_ranks_move_up():
    data = numbered_set((1, 1), n_genes=4, context=2)
    genes = replace(
        data.genes,
        tokens=np.array([[3, 1, 2, -TOKEN_OFFSET], [0, 1, 2, 3]], dtype=np.int32) + TOKEN_OFFSET,
        profile=np.array([[1, 2, 3, 4, 5, 6, 7, 8]] * 2, dtype=np.float32),  # two scales
        niche=np.array([[9, 10, 11, 12]] * 2, dtype=np.float32),
    )
    kept = np.array([[True, False, True, True]])
    tokens, profile, niche = drop_genes(genes, np.array([0]), kept, 3)
    assert tokens.tolist() == [[3 + TOKEN_OFFSET, 2 + TOKEN_OFFSET, PAD]]
    assert profile.tolist() == [[1, 0, 3, 4, 5, 0, 7, 8]]
    assert niche.tolist() == [[9, 0, 11, 12]]
    none = drop_genes(genes, np.array([0, 1]), np.zeros((2, 4), bool), 3)
    assert not any(part.any() for part in none)


def test_gene_dropout_keeps_all_most_or_a_short_panel_in_the_shares_asked_for():
    kept = kept_genes(4_000, 200, Genes(full_share=0.4, short_share=0.2), _rng())
    share = kept.mean(axis=1)
    assert (share == 1).mean() == pytest.approx(0.4, abs=0.03)
    assert (share < 0.25).mean() == pytest.approx(0.18, abs=0.04)
    assert kept[share < 1].sum(axis=1).min() <= 8
    assert kept_genes(50, 200, Genes(full_share=1.0, short_share=0.0), _rng()).all()


def test_the_target_of_a_decoder_keeps_every_gene_and_is_gathered_where_a_loss_decodes():
    short = ("genes.full_share=0.0", "genes.short_share=1.0")
    recipe = load_recipe("umpire", ("model.gene_tower.context=4", "sampler.batch_size=4", *short))
    batch = Steps(numbered_set(), recipe, seed=0)[0]
    assert (batch.inputs.profile == 0).any()
    assert batch.target.shape == (4, 6)
    np.testing.assert_array_equal(batch.target[:, 0].numpy() - 1, batch.row.numpy())
    assert (batch.target > 0).all()
    assert Steps(numbered_set(), numbered_recipe(*short), seed=0)[0].target.shape == (8, 0)


NETWORK = PIXELS[2]  # of an image tower that reads pixels
RANKS = 'model.gene_tower={kind="rank", context=8, width=16, depth=1, heads=2, ffn=16}'
NO_DECODER = ("model.decoders={}", "losses.1.weight=0")


@pytest.mark.parametrize(
    ("name", "overrides", "blocks"),
    [
        pytest.param("stamp", (), ["profile"], id="no side niche"),
        pytest.param("st_align", (), ["profile", "niche"], id="a side niche"),
        pytest.param("clip", (NETWORK, RANKS), [], id="ranks alone"),
        pytest.param("clip", (RANKS,), ["profile"], id="ridge"),
        pytest.param(
            "clip", (NETWORK, RANKS, "model.direct.components=10"), ["profile"], id="direct path"
        ),
        pytest.param("umpire", (NETWORK, RANKS), ["profile"], id="decoder"),
        pytest.param("umpire", (NETWORK, RANKS, *NO_DECODER), [], id="no decoder"),
        pytest.param(
            "clip", (NETWORK, RANKS, "sampler.kind=cluster_negatives"), ["profile"], id="clusters"
        ),
    ],
)
def test_blocks_of_gene_inputs_are_held_where_something_reads_them(name, overrides, blocks):
    assert gene_blocks(load_recipe(name, overrides)) == blocks


def test_what_is_not_held_takes_no_memory_and_changes_no_batch(tmp_path):
    recipe = load_recipe("clip", (*PIXELS, RANKS, "genes.full_share=0.2"))
    world = make_world(recipe, small_slides(2, 12), tmp_path)
    assert world.data.genes.profile.nbytes == world.data.genes.niche.nbytes == 0
    whole = replace(world.data, genes=wide_batches(world.gene_input, world.slides))
    assert whole.genes.profile.shape == whole.genes.niche.shape == (24, 30)
    for step in range(3):
        one, other = Steps(world.data, recipe, seed=0)[step], Steps(whole, recipe, seed=0)[step]
        assert one.inputs.profile is None
        same_batches(replace(one, inputs=replace(one.inputs, profile=other.inputs.profile)), other)


def test_gene_inputs_of_all_slides_are_theirs_one_after_the_other(tmp_path):
    slides = small_slides(2, 12)
    fitted = fit_gene_input(load_recipe("st_align_small", ("genes.n_genes=40",)), slides)
    parts = [replace(fitted, context=fitted.context * SPARE).slide_batch(slide) for slide in slides]
    made = wide_batches(fitted, slides)
    for name in ("tokens", "profile", "niche"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(made, name), joined)
        assert getattr(made, name).dtype == joined.dtype
    assert not np.array_equal(made.niche, made.profile)


def test_a_niche_that_is_the_spot_itself_takes_no_memory_of_its_own():
    slides = small_slides(1, 12)
    batch = fit_gene_input(load_recipe("clip", PIXELS), slides).slide_batch(slides[0])
    assert batch.niche is batch.profile


def test_statistics_that_are_summed_up_slide_by_slide_are_those_of_all_spots_at_once():
    slides = small_slides(3, 25)
    panel = GenePanel.fit(slides, 40)
    there = ~np.isin(slides[1].genes, panel.genes[:5])  # what the second slide measures
    slides[1] = replace(
        slides[1], counts=slides[1].counts[:, there], genes=tuple(np.array(slides[1].genes)[there])
    )
    fitted = GeneInput.fit(panel, slides, 8)
    logs = [log1p_cp10k(panel.align(slide.counts, slide.genes)).toarray() for slide in slides]
    measured = np.concatenate(
        [np.tile(np.isin(panel.genes, slide.genes), (25, 1)) for slide in slides]
    )
    assert 0 < measured.mean() < 1
    within = np.concatenate([part - part.mean(axis=0) for part in logs])
    n_measured = measured.sum(axis=0)
    mean = np.concatenate(logs).sum(axis=0) / n_measured
    std = np.sqrt((within**2).sum(axis=0) / n_measured)
    np.testing.assert_allclose(fitted.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(fitted.std[0], np.maximum(std, 0.05), rtol=1e-6)


def test_a_gene_that_the_panel_cannot_hold_is_named_with_close_ones():
    recipe = load_recipe("clip", PIXELS)
    with pytest.raises(RecipeError, match="cannot hold ERBB22.*ERBB2"):
        fit_gene_input(recipe, small_slides(), always=("ERBB22",))
