"""The alignment model: what each output depends on, and its closed-form start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from stamp_index.encoders.model import AlignModel, Inputs
from stamp_index.encoders.model_config import ModelConfig
from stamp_index.encoders.trained_encoder import TrainedEncoder
from stamp_index.errors import EncoderError
from stamp_index.slides import PatchSpec
from tests.trainer_world import TINY, make_world, recipe_of, small_slides, tiny_world
from trainer.data import Steps
from trainer.initialise import standardise_channels, start_from_statistics
from trainer.recipe import RecipeError
from trainer.recipe_file import load_recipe

N_GENES = 12
SMALL = {
    "image_tower": {"kind": "hybrid", "width": 16, "heads": 2},
    "gene_tower": {"kind": "rank_profile", "width": 16, "context": 4, "heads": 2},
}
STAMP = (
    {"kind": "clip", "left": "patch", "right": "gene"},
    {"kind": "clip_one_way", "left": "patch", "right": "region"},
    {"kind": "clip", "left": "region", "right": "gene"},
    {"kind": "locate"},
)


def model_of(*losses, **model):
    torch.manual_seed(0)
    config = recipe_of(*(losses or STAMP), model={**SMALL, **model}).model
    made = AlignModel(config, N_GENES).eval()
    for block in (block for tower in made.towers.values() for block in tower.blocks):
        torch.nn.init.normal_(block.out.weight, std=0.3)  # blocks start as the identity
        torch.nn.init.normal_(block.mlp[-1].weight, std=0.3)
    return made


@pytest.fixture(scope="module")
def inputs():
    rng = torch.Generator().manual_seed(1)
    channels = model_of().towers["image"].summary_width
    return Inputs(
        torch.randn(5, 3, 3, channels, generator=rng),
        torch.randn(5, 3, 3, channels, generator=rng),
        torch.randint(30, 30 + N_GENES, (5, 4), generator=rng),
        torch.randn(5, N_GENES, generator=rng),
        torch.randn(5, N_GENES, generator=rng),
    )


def changed(model, inputs, *fields):
    """Names of the outputs that depend on these inputs."""
    wanted = {"patch", "region", "gene", "reference", "cells"}
    with torch.inference_mode():
        before = model(inputs, wanted)
        after = model(
            replace(inputs, **{name: getattr(inputs, name).flip(0) for name in fields}), wanted
        )
    return {name for name in wanted if not torch.allclose(before[name], after[name], atol=1e-6)}


def test_as_published_the_region_sees_the_thumbnail_of_its_patch(inputs):
    model = model_of(region_ref_leak=True)
    assert changed(model, inputs, "patch") == {"patch", "region", "reference", "cells"}
    assert changed(model, inputs, "region") == {"region", "reference", "cells"}


def test_without_the_leak_a_region_does_not_change_with_its_patch(inputs):
    model = model_of(region_ref_leak=False)
    assert changed(model, inputs, "patch") == {"patch", "reference", "cells"}
    assert changed(model, inputs, "region") == {"region", "reference", "cells"}


def test_genes_do_not_reach_images_nor_images_genes(inputs):
    model = model_of()
    assert changed(model, inputs, "tokens") == {"gene"}
    assert changed(model, inputs, "profile") == {"gene"}
    assert changed(model, inputs, "niche") == set()


@pytest.mark.parametrize("leak", [True, False])
def test_what_is_wanted_alone_is_what_it_is_among_others(inputs, leak):
    model = model_of(region_ref_leak=leak)
    names = ("patch", "region", "gene", "reference", "cells")
    with torch.inference_mode():
        together = model(inputs, names)
        for name in names:
            alone = model(inputs, (name,))
            assert set(alone) == {name}
            torch.testing.assert_close(alone[name], together[name])
    assert together["cells"].shape == (5, 9, 8)


def test_only_what_is_wanted_needs_its_inputs(inputs):
    model = model_of()
    assert set(model(Inputs(patch=inputs.patch), {"patch"})) == {"patch"}
    assert set(model(Inputs(tokens=inputs.tokens, profile=inputs.profile), {"gene"})) == {"gene"}


def test_a_joint_embedding_needs_both_images_and_a_patch_alone_still_has_one(inputs):
    model = model_of({"kind": "clip", "left": "image", "right": "gene"}, retrieval="joint")
    with torch.inference_mode():
        both = model.embed_images(inputs.patch, inputs.region)
        alone = model.embed_images(inputs.patch)
        torch.testing.assert_close(
            both, functional.normalize(model(inputs, {"image"})["image"], dim=1)
        )
        torch.testing.assert_close(
            alone, functional.normalize(model(inputs, {"patch"})["patch"], dim=1)
        )
    for vectors in (both, alone):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    assert not torch.allclose(both, alone, atol=1e-3)


def test_a_patch_retrieval_ignores_the_region(inputs):
    model = model_of(retrieval="patch")
    with torch.inference_mode():
        assert torch.equal(
            model.embed_images(inputs.patch, inputs.region), model.embed_images(inputs.patch)
        )


def test_concatenated_sides_add_their_cosines(inputs):
    niche = {"kind": "profile", "width": 16}
    losses = ({"kind": "clip", "left": "region", "right": "niche"},)
    config = recipe_of(*losses, model={**SMALL, "retrieval": "concat", "niche_tower": niche}).model
    torch.manual_seed(0)
    model = AlignModel(config, N_GENES).eval()
    assert config.embedding_dim == 16
    with torch.inference_mode():
        image = model.embed_images(inputs.patch, inputs.region)
        gene = model.embed_genes(inputs.tokens, inputs.profile, inputs.niche)
        out = model(inputs, config.sides)
        unit = {side: functional.normalize(out[side], dim=1) for side in config.sides}
        expected = (unit["patch"] @ unit["gene"].T + unit["region"] @ unit["niche"].T) / 2
        torch.testing.assert_close(image @ gene.T, expected)
        # Without a region the patch is compared with the genes alone.
        half = model.embed_images(inputs.patch)
        torch.testing.assert_close(half @ gene.T, unit["patch"] @ unit["gene"].T / 2**0.5)


def test_a_tower_of_its_own_reads_the_regions(inputs):
    model = model_of(region_tower={"kind": "hybrid", "width": 24, "heads": 2, "depth": 1})
    assert model.tower_of("region") is not model.tower_of("patch")
    assert model.tower_of("region").width == 24
    assert changed(model, inputs, "region") == {"region", "reference", "cells"}


def test_a_decoder_gives_expression_and_a_vae_brings_its_own():
    losses = [
        {"kind": "clip", "left": "patch", "right": "gene"},
        *({"kind": "reconstruct", "left": side, "form": "mse"} for side in ("patch", "gene")),
        {"kind": "kl"},
    ]
    vae = {"kind": "vae", "hidden": [16], "latent": 16}
    model = {**SMALL, "gene_tower": vae, "decoders": {"patch": {"hidden": 8}, "gene": {}}}
    recipe = recipe_of(*losses, model=model)
    assert recipe.wanted == {"patch", "gene", "decoded_patch", "decoded_gene", "kl_gene"}
    made = AlignModel(recipe.model, N_GENES).eval()
    assert set(made.decoders) == {"patch"}
    channels = made.towers["image"].summary_width
    given = Inputs(
        torch.randn(4, 3, 3, channels), None, torch.zeros(4, 4).int(), torch.randn(4, N_GENES)
    )
    out = made(given, recipe.wanted)
    assert out["decoded_patch"].shape == out["decoded_gene"].shape == (4, N_GENES)
    assert out["kl_gene"].shape == (4,)
    torch.testing.assert_close(
        out["decoded_gene"], made.towers["gene"].decode(made.towers["gene"](None, given.profile))
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sides": ("patch", "gene"), "localised": False}, "no side region, which its retrieval"),
        ({"sides": ("patch", "region", "gene"), "retrieval": "concat"}, "no side niche"),
        ({"sides": ("patch", "region", "gene", "niche")}, "niche needs a .model.niche_tower"),
        ({"retrieval": "best"}, "expected one of patch, joint, concat"),
        ({"dim": 0}, "dim is 0"),
        ({"region": PatchSpec(300.0, 96)}, "region is 300 um wide and the patch 112 um"),
    ],
)
def test_a_model_that_cannot_be_is_refused(changes, message):
    config = ModelConfig(PatchSpec(112.0, 96), PatchSpec(336.0, 96))
    with pytest.raises(ValueError, match=message):
        replace(config, **changes)


# The closed-form start


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


def own_recall(world, k=5):
    """Share of training spots whose own genes are among the k best for their patch, within each slide."""
    encoder = TrainedEncoder(world.model, world.gene_input, name="x", fingerprint="")
    found = []
    for slide in world.slides:
        patches = world.cache.patches(slide, encoder.patch)
        regions = world.cache.regions(slide, encoder.region, np.full(slide.n_spots, 4))
        similarity = encoder.encode_prepared(patches, regions) @ encoder.encode_spots(slide).T
        rank = (similarity > similarity.diagonal()[:, None]).sum(axis=1)
        found.append(rank < k)
    return float(np.mean(np.concatenate(found)))


def test_the_closed_form_start_retrieves_training_spots_and_silences_the_towers(features):
    world = tiny_world(features)
    chance = own_recall(world)
    standardise_channels(world.model, world.data)
    start_from_statistics(world.model, world.data)
    assert own_recall(world) > max(0.3, 2 * chance)
    with torch.inference_mode():
        given = Inputs(torch.from_numpy(world.data.images.some_patches()[:6]))
        summary = world.model.summary("patch", given)
        torch.testing.assert_close(
            world.model(given, {"patch"})["patch"], world.model.direct["patch"](summary)
        )
    images = world.data.images.some_patches(), world.data.images.some_regions()
    flat = np.concatenate([part.reshape(-1, part.shape[-1]).astype(np.float64) for part in images])
    np.testing.assert_allclose(
        world.model.towers["image"].channel_mean, flat.mean(axis=0), atol=1e-3
    )


def test_the_direct_path_reads_the_centred_region_wherever_the_drawn_one_lies(features):
    world = tiny_world(features)
    standardise_channels(world.model, world.data)
    start_from_statistics(world.model, world.data)  # towers have no share yet
    steps = Steps(world.data, world.recipe, seed=0)
    batch = next(
        batch for batch in map(steps.__getitem__, range(20)) if len(set(batch.label.tolist())) > 1
    )
    centred = torch.from_numpy(world.data.images.some_regions()[batch.row.numpy()])
    with torch.inference_mode():
        drawn = world.model.eval()(batch.inputs, {"region", "image"})
        searched = world.model(
            replace(batch.inputs, region=centred, centre=None), {"region", "image"}
        )
        elsewhere = world.model(replace(batch.inputs, centre=None), {"image"})
    for name in ("region", "image"):
        torch.testing.assert_close(drawn[name], searched[name], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(drawn["image"], elsewhere["image"], atol=1e-3)


def test_a_recipe_without_a_region_loss_starts_in_closed_form_too(features):
    n = len(load_recipe("stamp").losses)
    alone = tiny_world(features, *(f"losses.{i}.weight=0" for i in range(1, n)))
    assert alone.recipe.image_sides == {"patch"}
    start_from_statistics(alone.model, alone.data)
    assert own_recall(alone) > 0.3


def test_a_model_without_direct_paths_cannot_start_in_closed_form(features):
    world = tiny_world(features, "model.direct={}")
    with pytest.raises(RecipeError, match=r"needs .model.direct. and .*Use start = .random."):
        start_from_statistics(world.model, world.data)


def test_weights_of_another_architecture_are_refused_in_words(features):
    world = tiny_world(features)
    encoder = TrainedEncoder(world.model, world.gene_input, name="stamp", fingerprint="")
    settings, arrays = encoder.settings(), encoder.arrays_to_save()
    settings["model"]["dim"] = 12
    with pytest.raises(
        EncoderError, match="encoder stamp are of another architecture than its settings"
    ):
        TrainedEncoder.from_parts(settings, encoder.panel, arrays, ("stamp", "0"))


def test_an_encoder_with_scales_and_a_niche_reloads_to_the_same_vectors(features):
    recipe = load_recipe("stamp", (*TINY, "genes.n_genes=30"), ("legacy_st_scales",))
    world = make_world(recipe, small_slides(), features)
    encoder = TrainedEncoder(world.model, world.gene_input, name="stamp", fingerprint="f")
    again = TrainedEncoder.from_parts(
        encoder.settings(), encoder.panel, encoder.arrays_to_save(), ("stamp", "f")
    )
    slide = world.slides[0]
    np.testing.assert_array_equal(again.encode_spots(slide), encoder.encode_spots(slide))
    np.testing.assert_array_equal(
        again.encode_counts(slide.counts, slide.genes),
        encoder.encode_counts(slide.counts, slide.genes),
    )


def test_a_signature_that_is_embedded_like_its_opposite_is_refused_in_words(features):
    world = tiny_world(features)
    encoder = TrainedEncoder(world.model, world.gene_input, name="stamp", fingerprint="")
    high, low = encoder.panel.genes[:2]
    weights = {high: 1.0, low: -1.0}
    assert np.linalg.norm(encoder.encode_signature(weights)) == pytest.approx(1.0)
    with torch.no_grad():
        for layer in (encoder.model.heads["gene"], encoder.model.direct["gene"].linear):
            layer.weight.zero_()
    with pytest.raises(
        EncoderError, match=f"a signature of {high}, {low}, which it embeds like its"
    ):
        encoder.encode_signature(weights)
