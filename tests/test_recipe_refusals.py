"""What of a recipe's model is refused when it is loaded, and what is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stamp_index.encoders.gene_tower import GeneTower
from stamp_index.encoders.image_tower import HybridTower
from stamp_index.encoders.model import AlignModel
from stamp_index.encoders.model_config import ModelConfig
from stamp_index.encoders.profile_tower import ProfileTower
from stamp_index.encoders.rank_transformer import RankTransformer
from stamp_index.slides import PatchSpec
from tests.trainer_world import recipe_of
from trainer.card import licences, random_starts
from trainer.recipe import RecipeError
from trainer.recipe_file import load_recipe
from trainer.stage1.config import load_stage1_recipe
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
        ({"gene_tower": {"kind": []}}, r"model.gene_tower.kind is \[\]; expected text"),
    ],
)  # fmt: skip
def test_a_setting_that_a_section_does_not_know_is_named_with_those_it_knows(model, message):
    with pytest.raises(RecipeError, match=message) as refused:
        recipe_of(CLIP, model=model)
    assert "argument" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"image_tower": {"kind": "hybrid", "heads": 3}},
         "model.image_tower.heads is 3, which does not divide width, 128; choose a divisor"),
        ({"image_tower": {"kind": "hybrid", "heads": 0}},
         "model.image_tower.heads is 0; expected a whole number of at least 1"),
        ({"image_tower": {"kind": "hybrid", "width": -5}}, "model.image_tower.width is -5; expected"),
        ({"image_tower": {"kind": "hybrid", "width": 64.0}}, "model.image_tower.width is 64.0; expected"),
        ({"image_tower": {"kind": "hybrid", "token_dropout": 1.0}},
         "model.image_tower.token_dropout is 1.0; expected a share of at least 0 and below 1"),
        ({"image_tower": {**VIT, "model": 3}}, "model.image_tower.model is 3; expected text"),
        ({"image_tower": {**BACKBONE, "cache": "no"}}, "image_tower.cache is 'no'; expected true or false"),
        ({"image_tower": {**BACKBONE, "rank": 0}}, "model.image_tower.rank is 0; expected"),
        ({"region_tower": {**RESNET, "base": -8}}, "model.region_tower.base is -8; expected"),
        ({"gene_tower": {"kind": "rank_profile", "context": -3}},
         "model.gene_tower.context is -3; expected a whole number of at least 1"),
        ({"gene_tower": {"kind": "rank_profile", "depth": -1}},
         "model.gene_tower.depth is -1; expected a whole number of at least 0"),
        ({"gene_tower": {"kind": "rank", "heads": 3}}, "gene_tower.heads is 3, which does not divide width, 512"),
        ({"gene_tower": {"kind": "rank", "ffn": "wide"}}, "model.gene_tower.ffn is 'wide'; expected"),
        ({"gene_tower": {"kind": "profile", "hidden": [16, 0]}}, "size of model.gene_tower.hidden is 0"),
        ({"gene_tower": {"kind": "profile", "hidden": 16}}, "gene_tower.hidden is 16; expected a list"),
        ({"gene_tower": {"kind": "vae", "latent": True}}, "model.gene_tower.latent is True; expected"),
        ({"gene_tower": {"kind": "vae", "dropout": float("nan")}}, "model.gene_tower.dropout is nan"),
        ({"niche_tower": {"kind": "niche_transformer", "heads": 0}}, "model.niche_tower.heads is 0"),
        ({"head": {"kind": "mlp", "hidden": -1}}, "size of model.head.hidden is -1; expected"),
        ({"decoders": {"patch": {"dropout": 2}}}, "model.decoders.patch.dropout is 2; expected a share"),
        ({"direct": {"hidden": "abc"}}, "size of model.direct.hidden is 'abc'; expected"),
        ({**FUSED, "fusion": {"token_width": 8, "heads": 0}}, "model.fusion.heads is 0; expected"),
    ],
)  # fmt: skip
def test_sizes_and_values_that_cannot_be_are_named_when_a_recipe_is_loaded(model, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of(CLIP, model=model)


@pytest.mark.parametrize(
    ("tower", "message"),
    [
        (lambda: HybridTower(96, 96, heads=3), "heads is 3, which does not divide width, 128"),
        (lambda: HybridTower(96, 96, feature_dropout=-0.1), "feature_dropout is -0.1; expected a share"),
        (lambda: GeneTower(12, context=0), "context is 0; expected"),
        (lambda: GeneTower(12, heads=0), "heads is 0; expected"),
        (lambda: ProfileTower(12, width=0), "width is 0; expected"),
        (lambda: RankTransformer(12, depth=0), "depth of a rank tower is 0; expected"),
        (lambda: RankTransformer(12, dropout=1.0), "dropout is 1.0; expected a share"),
    ],
)  # fmt: skip
def test_a_tower_that_is_built_without_a_recipe_is_checked_too(tower, message):
    with pytest.raises(ValueError, match=message):
        tower()


def test_a_path_without_hidden_units_and_a_tower_without_blocks_can_be():
    recipe = recipe_of(
        CLIP, model={"direct": {"hidden": 0}, "gene_tower": {"kind": "rank_profile", "depth": 0}}
    )
    assert recipe.model.direct == {"hidden": 0}


def test_settings_of_a_decoder_that_a_vae_does_not_use_are_refused():
    vae = {"kind": "vae", "hidden": [16], "latent": 16}
    recipe_of(CLIP, model={"gene_tower": vae, "decoders": {"gene": {}}})
    said = r"\[model.decoders.gene\] has kind, hidden, but .* the VAE decodes by itself. Leave the section empty"
    with pytest.raises(RecipeError, match=said):
        recipe_of(
            CLIP, model={"gene_tower": vae, "decoders": {"gene": {"kind": "mlp", "hidden": 8}}}
        )


def test_patches_of_part_of_a_pixel_or_of_no_number_are_refused():
    with pytest.raises(ValueError, match=r"size_px is 128\.5; a patch has a whole number"):
        PatchSpec(112.0, 128.5)
    with pytest.raises(ValueError, match="width_um is 'wide'"):
        PatchSpec("wide", 128)


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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.epochs=99999999999999999999", r"optimiser.epochs is 9+: .*less than or equal to 1000000"),
        ("sampler.batch_size=99999999999999999999", "sampler.batch_size is 9+: .*less than or equal"),
        ("genes.n_genes=1000001", "genes.n_genes is 1000001: .*less than or equal to 1000000"),
        ("model.dim=100000000000", "model.dim is 100000000000; expected a whole number of at most 65,536"),
        ("model.patch_px=1000000000", "model.patch_px is 1000000000; .* at most 8,192"),
        ("model.patch_um=1e9", "model.patch_um is 1000000000.0; .*from 1 to 100,000"),
        ("model.patch_um=1e-9", "model.patch_um is 1e-09; .*from 1 to 100,000"),
        ("model.region_um=nan", "model.region_um is nan; .*from 1 to 100,000"),
        ("model.image_tower.width=100000", "model.image_tower.width is 100000; .* at most 65,536"),
        ("model.gene_tower.context=100001", "model.gene_tower.context is 100001; .* at most 100,000"),
        ("model.gene_tower.depth=100000", "model.gene_tower.depth is 100000; .* at most 2,000"),
        ("model.direct.hidden=100000", "size of model.direct.hidden is 100000; .* at most 65,536"),
        ("model.dim=" + "9" * 5_000, "model.dim is '9+'; expected a whole number"),
    ],
)  # fmt: skip
def test_sizes_beyond_any_training_are_named_when_a_recipe_is_loaded(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("stamp", [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule.mask_epochs=99999999999999999999", "schedule.mask_epochs is 9+: .* less than or equal to 1000000"),
        ("schedule.mask_epochs=999999", "mask_epochs and both_epochs are 1,000,017 together; expected 1 to 1,000,000"),
        ("schedule.niches=99999999999999999999", "schedule.niches is 9+: .* less than or equal to 1000000"),
        ("genes.n_genes=99999999999999999999", "genes.n_genes is 9+: .* less than or equal to 1000000"),
        ("gene_tower.width=1048576", "gene_tower.width is 1048576; .* at most 65,536"),
        ("gene_tower.context=100001", "gene_tower.context is 100001; .* at most 100,000"),
        ("schedule.lr=" + "9" * 400, "schedule.lr is 9+: Input should be a valid number"),
        ("gene_tower.kind=[]", r"gene_tower.kind is \[\]; expected text"),
    ],
)  # fmt: skip
def test_a_recipe_of_stage_one_has_the_same_bounds(override, message):
    with pytest.raises(RecipeError, match=message):
        load_stage1_recipe("stage1_small", (override,))


@pytest.mark.parametrize(
    ("load", "section"), [(lambda sets: load_recipe("stamp", sets), "model."),
                          (lambda sets: load_stage1_recipe("stage1_small", sets), "")],
)  # fmt: skip
def test_more_ranks_than_the_panel_has_genes_are_refused_with_both_numbers(load, section):
    key = f"{section}gene_tower.context"
    said = rf"{key} is 100,000, but a panel of genes.n_genes = 200 gives .* at most 200 rank .* Set {key}=200 or"
    with pytest.raises(RecipeError, match=said):
        load((f"{key}=100000", "genes.n_genes=200"))
    with pytest.raises(RecipeError, match=f"{key} is 201"):
        load((f"{key}=201", "genes.n_genes=200"))
    load((f"{key}=200", "genes.n_genes=200"))
    load(("genes.n_genes=20",))  # where the default of 64 stays


def test_ranks_of_a_panel_that_is_not_the_recipes_are_not_counted(tmp_path):
    load_stage1_recipe("stage1", ())  # of every gene that is expressed
    tower = 'model.gene_tower={kind="rank", context=1500}'
    load_recipe("stamp", (tower, f'genes.stage1="{tmp_path}"'))
    with pytest.raises(RecipeError, match="context is 1,500"):
        load_recipe("stamp", (tower,))


@pytest.mark.parametrize("load", [load_recipe, load_stage1_recipe])
@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5_000 + "]" * 5_000, "a" + ".a" * 5_000 + " = 1", "a = " + "[" * 30 + "]" * 30],
    ids=["lists", "dotted", "a few"],
)
def test_a_recipe_that_nests_too_deeply_is_said_in_words(tmp_path, load, text):
    path = tmp_path / "deep.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="deep.toml nests too deeply"):
        load(path)
    name = "stamp" if load is load_recipe else "stage1_small"
    with pytest.raises(RecipeError, match="nests too deeply"):
        load(name, (text.replace(" ", ""),))


def test_a_recipe_with_a_name_that_no_file_can_have_is_not_there(tmp_path):
    long = "a" * 5_000
    for load in (load_recipe, load_stage1_recipe):
        with pytest.raises(
            RecipeError, match=r"There is no recipe (or overlay )?'a{40}\.\.\. \(5,000 letters\)'"
        ):
            load(long)
    with pytest.raises(RecipeError, match="There is no recipe"):
        load_recipe("stamp", (), [long])
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "{long}"')
    with pytest.raises(RecipeError, match="There is no recipe .*mine.toml extends"):
        load_recipe(path)


def test_a_whole_number_with_thousands_of_digits_is_no_valid_recipe(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text("a = " + "9" * 5_000)
    with pytest.raises(RecipeError, match="long.toml is not valid TOML"):
        load_recipe(path)
