"""Training data: sampling, steps that depend on their number alone, gene dropout, and images."""

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
from stamp_index.encoders.gene_input import GeneInput
from stamp_index.genes import PAD, TOKEN_OFFSET, GenePanel, log1p_cp10k
from stamp_index.machine import usable_cores
from stamp_index.slides import PatchSpec, read_patches
from tests.support import toy_slide
from tests.trainer_world import (
    PIXELS,
    ST_ALIGN,
    TINY,
    make_world,
    numbered_set,
    small_slides,
    with_images,
)
from trainer.data import (
    SPARE,
    Batch,
    Steps,
    draw,
    drop_genes,
    fit_gene_input,
    kept_genes,
    placements,
    wide_batches,
)
from trainer.images import CachedImages, SlideImages
from trainer.loop import Run, train
from trainer.prepare import gene_blocks, worker_count
from trainer.recipe import Genes, RecipeError, Sampler
from trainer.recipe_file import load_recipe
from trainer.runtime import Runtime, Shared
from trainer.sampler import epoch_batches, group_size, partners, with_company


def _rng(seed=0):
    return np.random.default_rng(seed)


def numbered_recipe(*overrides):
    """STAMP on a training set that numbers its images."""
    small = ("model.gene_tower.context=4", "sampler.batch_size=4", "optimiser.epochs=3")
    return load_recipe("stamp", (*small, *overrides))


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


def _same(one: Batch, other: Batch) -> None:
    for name in ("patch", "region", "tokens", "profile"):
        torch.testing.assert_close(
            getattr(one.inputs, name), getattr(other.inputs, name), rtol=0, atol=0
        )
    for name in ("label", "target", "place", "row"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)


def test_a_step_is_the_same_whatever_was_drawn_before_it():
    data, recipe = numbered_set(), numbered_recipe()
    steps = Steps(data, recipe, seed=3)
    assert len(steps) == 9
    in_order = [steps[i] for i in range(9)]
    again = Steps(data, recipe, seed=3)
    for i in (8, 0, 4, 4, 7):
        _same(again[i], in_order[i])
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
        _same(replace(one, inputs=replace(one.inputs, profile=other.inputs.profile)), other)


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


# Images


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
        _same(again[step], steps[step])


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
