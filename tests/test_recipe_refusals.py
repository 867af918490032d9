"""What of a recipe's model is refused when it is loaded, and what is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stamp_index.encoders.model import AlignModel
from stamp_index.encoders.model_config import ModelConfig
from stamp_index.slides import PatchSpec
from tests.trainer_world import recipe_of
from trainer.card import licences, random_starts
from trainer.recipe import RecipeError
from trainer.recipe_file import load_recipe
from trainer.stage1.model import build_tower

CLIP = {"kind": "clip", "left": "patch", "right": "gene"}
LOCATE = {"kind": "locate"}
RESNET = {"kind": "resnet_cifar", "depth": 18}
BACKBONE = {"kind": "backbone", "backbone": "efficientnet_lite0"}
HYBRID = {"kind": "hybrid", "width": 16, "heads": 2}
VIT = {"kind": "vit", "model": "timm:test_vit"}
FUSED = {
    "fusion": {"n_tokens": 2, "token_width": 8},
    "niche_tower": {"kind": "profile", "width": 16},
}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"image_tower": {"kind": "hybrid", "widht": 64}},
         r"hybrid tower of \[model.image_tower\] has no setting widht; it knows width, depth, heads"),
        ({"region_tower": {**RESNET, "px": 28}},
         r"resnet_cifar tower of \[model.region_tower\] has no setting px; it knows depth, width, base"),
        ({"gene_tower": {"kind": "vae", "n_genes": 3}},
         r"vae tower of \[model.gene_tower\] has no setting n_genes; it knows hidden, latent"),
        ({"gene_tower": {"kind": "profile", "n_scales": 3}}, "has no setting n_scales"),
        ({"niche_tower": {"kind": "niche_transformer", "length": 3}},
         r"of \[model.niche_tower\] has no setting length; it knows width, n_tokens"),
        ({"head": {"hidden": 3}}, r"linear head of \[model.head\] has no setting hidden"),
        ({"head": {"kind": "conv"}}, "Unknown head 'conv'; expected one of linear"),
        ({"decoders": {"patch": {"hiden": 3}}},
         r"mlp decoder of \[model.decoders.patch\] has no setting hiden; it knows hidden, dropout, relu"),
        ({"decoders": {"pach": {}}}, r"\[model.decoders\] has no setting pach; it knows patch, gene"),
        ({"direct": {"components": 5, "width": 3}},
         r"\[model.direct\] has no setting width; it knows components, hidden"),
        ({**FUSED, "fusion": {"token_width": 8, "tokens": 2}},
         r"\[model.fusion\] has no setting tokens; it knows token_width, n_tokens, heads"),
        ({**FUSED, "fusion": {"n_tokens": 8}}, r"\[model.fusion\] lacks token_width; it knows"),
        ({"image_tower": {"kind": "vit"}},
         r"vit tower of \[model.image_tower\] lacks model; it knows model, weights"),
        ({"colour": "red"}, r"\[model\] has no setting colour; it knows patch_um, .*region_ref_leak, dim"),
        ({"localised": True}, r"\[model\] has no setting localised"),
        ({"image_tower": "vit"}, r"model.image_tower is 'vit'; expected a section \[model.image_tower\]"),
        ({"decoders": {"patch": "mlp"}}, "model.decoders.patch is 'mlp'; expected a section"),
    ],
)  # fmt: skip
def test_a_setting_that_a_section_does_not_know_is_named_with_those_it_knows(model, message):
    with pytest.raises(RecipeError, match=message) as refused:
        recipe_of(CLIP, model=model)
    assert "argument" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"image_tower": BACKBONE}, r"backbone tower of \[model.image_tower\]"),
        ({"image_tower": RESNET}, r"resnet_cifar tower of \[model.image_tower\]"),
        ({"region_tower": RESNET}, r"resnet_cifar tower of \[model.region_tower\]"),
    ],
    ids=["backbone", "resnet", "region tower"],
)
@pytest.mark.parametrize("leak", [True, False])
def test_locating_needs_a_tower_that_inserts_a_token_and_the_able_kinds_are_named(
    model, message, leak
):
    with pytest.raises(
        RecipeError, match=f"{message} cannot insert. Take one of kind hybrid or vit"
    ):
        recipe_of(CLIP, LOCATE, model={**model, "region_ref_leak": leak})


def test_a_region_tower_that_inserts_a_token_makes_up_for_an_image_tower_that_does_not():
    recipe = recipe_of(CLIP, LOCATE, model={"image_tower": RESNET, "region_tower": VIT})
    assert recipe.model.localised
    recipe_of(CLIP, {**CLIP, "left": "region"}, model={"image_tower": BACKBONE})


def test_a_patch_that_is_prepared_otherwise_than_its_region_is_refused():
    towers = {"image_tower": RESNET, "region_tower": HYBRID}
    recipe = recipe_of(CLIP, LOCATE, model=towers)
    with pytest.raises(ValueError, match="patches are prepared as pixels and regions as efficient"):
        AlignModel(recipe.model, 12)


@pytest.mark.parametrize(
    ("losses", "model", "message"),
    [
        ([LOCATE], {}, r"\[model.fusion\] does not go with the loss locate"),
        ([], {"retrieval": "joint"}, r"\[model.fusion\] does not go with retrieval = \"joint\""),
        ([], {"direct": {"hidden": 0}}, r"\[model.fusion\] does not go with \[model.direct\]"),
        ([{"kind": "reconstruct", "left": "patch", "form": "mse"}], {"decoders": {"patch": {}}},
         r"Loss mse\(patch\) does not go with \[model.fusion\]"),
        ([{"kind": "kl"}], {"gene_tower": {"kind": "vae", "hidden": [16], "latent": 16}},
         r"Loss kl does not go with \[model.fusion\]"),
    ],
    ids=["locate", "joint", "direct", "reconstruct", "kl"],
)  # fmt: skip
def test_what_a_model_with_fusion_does_not_make_is_refused(losses, model, message):
    recipe_of(CLIP, model=FUSED)
    with pytest.raises(RecipeError, match=message):
        recipe_of(CLIP, *losses, model={**FUSED, **model})


def test_a_model_that_is_built_without_a_recipe_is_checked_too():
    config = ModelConfig(PatchSpec(112.0, 96), PatchSpec(336.0, 96))
    with pytest.raises(ValueError, match="no setting wide"):
        replace(config, image_tower={"kind": "hybrid", "wide": 3})


def test_a_gene_tower_of_stage_one_names_the_settings_that_it_knows():
    message = r"rank tower of \[gene_tower\] has no setting widht; it knows context, width, depth"
    with pytest.raises(RecipeError, match=message):
        build_tower({"kind": "rank", "widht": 16}, 12)


@pytest.mark.parametrize("train", ["frozen", "lora", "last"])
@pytest.mark.parametrize("section", ["image_tower", "region_tower"])
@pytest.mark.parametrize(
    "tower",
    [
        {"kind": "backbone", "backbone": "UNI"},
        {"kind": "backbone", "backbone": "timm:resnet50"},
        {"kind": "vit", "model": "h-optimus-0"},
        {"kind": "vit", "model": "vit_large_patch16_224"},
    ],
    ids=["registry", "timm", "vit", "plain vit"],
)
def test_random_weights_that_would_stay_are_refused(section, tower, train):
    name = tower.get("model") or tower["backbone"]
    said = rf'\[model.{section}\] has train = "{train}" but no weights for {name}.*weights = "hub"'
    with pytest.raises(RecipeError, match=said):
        recipe_of(CLIP, model={section: {**tower, "train": train}})
    for weights in ("hub", "/models/uni.safetensors"):
        recipe_of(CLIP, model={section: {**tower, "train": train, "weights": weights}})


def test_a_towers_own_default_of_what_is_trained_counts():
    with pytest.raises(RecipeError, match='has train = "frozen" but no weights for phikon'):
        recipe_of(CLIP, model={"image_tower": {"kind": "backbone", "backbone": "phikon"}})
    with pytest.raises(RecipeError, match='has train = "frozen" but no weights for uni'):
        recipe_of(CLIP, model={"image_tower": {"kind": "vit", "model": "uni", "trainable": False}})
    recipe_of(CLIP, model={"image_tower": {"kind": "vit", "model": "uni"}})


def test_random_weights_that_are_all_trained_are_announced_and_installed_ones_are_not():
    full = recipe_of(CLIP, model={"image_tower": {"kind": "vit", "model": "UNI"}})
    values = full.model.to_dict()
    assert [said.split(":")[0] for said in random_starts(values)] == [
        "UNI starts from RANDOM weights"
    ]
    assert licences(values)[0].startswith("UNI (https://huggingface.co/MahmoodLab/UNI)")
    for recipe in (recipe_of(CLIP, model={"image_tower": BACKBONE}), load_recipe("seal")):
        assert random_starts(recipe.model.to_dict()) == []
