"""Recipes: those that come with the trainer, and what is said of those that cannot be used."""

from __future__ import annotations

import json

import pytest
import torch

from stamp_index.encoders.model import AlignModel, Inputs
from stamp_index.encoders.model_config import ModelConfig
from stamp_index.encoders.neighbours import ITSELF
from tests.trainer_world import recipe_of
from trainer.recipe import RecipeError
from trainer.recipe_file import load_recipe
from trainer.recipe_toml import OVERLAYS, RECIPES, recipe_names
from trainer.stage1.config import load_stage1_recipe

MINIMAL = """
name = "mine"
[model]
patch_um = 112.0
patch_px = 96
region_px = 96
[[losses]]
kind = "clip"
left = "patch"
right = "gene"
"""


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_along_loads_and_survives_json(name):
    recipe = load_recipe(name)
    assert recipe.losses
    values = json.loads(json.dumps(recipe.to_dict()))
    assert ModelConfig.from_dict(values["model"]) == recipe.model
    assert [term["kind"] for term in values["losses"]] == [term.kind for term in recipe.losses]


def test_the_list_of_recipes_leaves_out_stage_one_and_holds_the_four_and_the_baselines():
    assert {"stamp", "umpire", "st_align", "seal", "clip", "bleep"} <= set(recipe_names())
    assert not [name for name in recipe_names() if name.startswith("stage1")]


@pytest.mark.parametrize("overlay", sorted(path.stem for path in OVERLAYS.glob("*.toml")))
@pytest.mark.parametrize("name", ["stamp", "clip"])
def test_every_overlay_lies_over_a_recipe_and_changes_it(name, overlay):
    plain, laid = load_recipe(name), load_recipe(name, overlays=(overlay,))
    assert laid.losses == plain.losses
    assert laid.to_dict() != plain.to_dict()
    # What is set on the command line comes after an overlay.
    assert load_recipe(name, ("genes.n_genes=77",), (overlay,)).genes.n_genes == 77


def test_stamp_holds_the_four_published_losses_and_asks_for_what_they_need():
    recipe = load_recipe("stamp")
    published = ["clip(patch, gene)", "clip_one_way(patch, region)", "clip(region, gene)", "locate"]
    assert [term.name for term in recipe.losses][:4] == published
    assert {"patch", "region", "gene", "reference", "cells"} <= recipe.wanted
    assert recipe.image_sides == {"patch", "region"}
    assert recipe.around.scales == (ITSELF,)


def test_the_image_is_what_a_joint_retrieval_compares():
    loss = {"kind": "clip", "left": "image", "right": "gene"}
    recipe = recipe_of(loss, model={"retrieval": "joint"})
    assert recipe.model.sides == ("patch", "region", "gene")
    assert recipe.image_sides == {"patch", "region"}
    with pytest.raises(RecipeError, match="compares image, which needs retrieval"):
        recipe_of(loss)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.epoch=3", r"optimiser\.epoch is unknown \(known: epochs, lr, "),
        ("optimiser.epochs=-1", "optimiser.epochs is -1: .*greater than or equal to 0"),
        ("optimiser.epochs=many", "optimiser.epochs is 'many': .*integer"),
        ("optimiser.lr=0.0", "optimiser.lr is 0.0: .*greater than 0"),
        ("optimiser.precision=fp8", "optimiser.precision is 'fp8': .*'auto', 'fp32' or 'bf16'"),
        ("sampler.batch_size=2.5", "sampler.batch_size is 2.5: .*integer"),
        ("sampler.batch_size=1", "sampler.batch_size is 1: "),
        (
            "sampler.kind=cluster",
            "sampler.kind is 'cluster': .*'uniform', 'one_slide', 'same_slide_partner'",
        ),
        ("images.placements=10", "images.placements is 10: "),
        ("genes.short_share=0.9", r"full_share \+ short_share is more than 1"),
        ("genes.niche.k=-1", "genes.niche.k is -1"),
        ("genes.ranking=best", "genes.ranking is 'best'"),
        ("validation.patience=-1", "validation.patience is -1"),
        ("colour=red", r"colour is unknown \(known: name, model, losses"),
        ("start=warm", "start is 'warm'"),
        ("losses.0.weigth=1.0", r"weigth is unknown \(known: kind, weight, left"),
        ("losses.0.kind=cosine", "kind is 'cosine'"),
        ("losses.0.left=gnee", "left is 'gnee'"),
        ("losses.0.left=", "clip compares two sides; give left and right"),
        ("losses.0.weight=-1.0", "weight is -1.0: .*greater than or equal to 0"),
        ("losses.0.weight=nan", "weight is nan: "),
        ("losses.0.weight=inf", "weight is inf: .*finite"),
        ("losses=3", r"losses is 3; expected a section \[\[losses\]\]"),
        ("losses=[3]", r"losses is \[3\]; expected a section \[\[losses\]\]"),
        (
            "scale.start=200.0",
            "start, 200, is above largest, 100; lower it, or raise scale.largest",
        ),
        ("model=3", r"model is 3; expected a section \[model\]"),
        ("model.dim=0", "model.dim is 0; expected a whole number of at least 1"),
        ("model.dim=abc", "model.dim is 'abc'; expected a whole number"),
        ("model.dim=true", "model.dim is True; expected a whole number"),
        ("model.patch_px=128.5", "model.patch_px is 128.5; expected a whole number"),
        ("model.patch_px=-96", "model.patch_px is -96; expected a whole number of at least 1"),
        ("model.region_px=nan", "model.region_px is nan; expected a whole number"),
        ("model.patch_um=-112.0", "model.patch_um is -112.0; expected a width in microns, above 0"),
        ("model.patch_um=nan", "model.patch_um is nan; expected a width"),
        ("model.region_um=inf", "model.region_um is inf; expected a width"),
        ("model.region_ref_leak=1", "model.region_ref_leak is 1; expected true or false"),
        ("model.dimm=3", r"\[model\] has no setting dimm; it knows patch_um, patch_px"),
        ("model.image_tower.kind=resnet", "Unknown image tower 'resnet'; expected one of hybrid,"),
        ("model.gene_tower.kind=mlp", "Unknown gene tower 'mlp'; expected one of rank_profile,"),
        ("model.region_um=300.0", "region is 300 um wide and the patch 112 um"),
        ("model.patch_um=wide", "model.patch_um is 'wide'; expected a width in microns"),
    ],
)
def test_a_wrong_key_value_or_kind_is_named(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("stamp", (override,))


def test_an_unknown_retrieval_is_named():
    with pytest.raises(
        RecipeError, match="retrieval is 'mean'; expected one of patch, joint, concat"
    ):
        load_recipe("clip", ("model.retrieval=mean",))


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ('{kind="clip", left="niche", right="gene"}', r"niche.*\[model.niche_tower\]"),
        ('{kind="clip", left="fused_spot", right="gene"}',
         r"clip\(fused_spot, gene\) needs fused_spot, which the model does not make; add \[model.fusion\]"),
        ('{kind="reconstruct", left="patch"}',
         r"needs decoded_patch, which the model does not make; add \[model.decoders.SIDE\]"),
        ('{kind="reconstruct", left="region"}', "reconstruct decodes patch or gene, not 'region'"),
        ('{kind="clip_paired", left="patch", right="gene"}',
         "needs the sampler cluster_negatives, not same_slide_partner"),
        ('{kind="clip", left="patch", right="gene"}', r"names the loss clip\(patch, gene\) twice"),
    ],
    ids=["niche", "fusion", "decoder", "region decoder", "paired", "twice"],
)  # fmt: skip
def test_a_loss_that_the_rest_of_the_recipe_does_not_fit_is_refused(tmp_path, term, message):
    path = tmp_path / "mine.toml"
    text = MINIMAL.replace(
        "[[losses]]", f"[[losses]]\n{term[1:-1].replace(', ', chr(10))}\n[[losses]]"
    )
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_an_unknown_form_of_reconstruction_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    extra = (
        '[model.decoders.patch]\n[[losses]]\nkind = "reconstruct"\nleft = "patch"\nform = "l3"\n'
    )
    path.write_text(MINIMAL + extra)
    with pytest.raises(RecipeError, match="Unknown form 'l3' of reconstruct; expected one of mse,"):
        load_recipe(path)


def test_a_weight_of_zero_takes_a_loss_and_its_needs_away():
    off = [f"losses.{i}.weight=0" for i in range(1, len(load_recipe("stamp").losses))]
    recipe = load_recipe("stamp", (*off[:2], *off[3:]))
    assert [term.kind for term in recipe.losses] == ["clip", "locate"]
    recipe = load_recipe("stamp", ("losses.3.weight=0.0",))
    assert "locate" not in [term.name for term in recipe.losses]
    assert not recipe.wanted & {"reference", "cells"}
    assert not recipe.model.localised
    alone = load_recipe("stamp", off)
    assert alone.image_sides == {"patch"}


def test_a_recipe_without_a_loss_is_refused():
    with pytest.raises(RecipeError, match="no losses, or every weight is 0"):
        load_recipe("clip", ("losses.0.weight=0",))


def test_a_minimal_recipe_has_the_sides_that_its_losses_name(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL.replace('"gene"', '"gene"\nweight = 2.0'))
    recipe = load_recipe(path)
    assert recipe.model.sides == ("patch", "gene")  # retrieval looks at the patch by default
    assert recipe.losses[0].weight == 2.0
    path.write_text(MINIMAL.replace("[[losses]]", 'retrieval = "joint"\n[[losses]]'))
    assert load_recipe(path).model.sides == ("patch", "region", "gene")


def test_a_recipe_without_a_model_says_where_to_start(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n')
    with pytest.raises(RecipeError, match="no 'model'. Start from trainer/recipes/stamp.toml"):
        load_recipe(path)


def test_a_recipe_that_extends_another_keeps_a_towers_settings_unless_its_kind_changes(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "stamp"\n[model.image_tower]\nwidth = 64\n')
    assert load_recipe(path).model.image_tower["heads"] == 4
    assert load_recipe(path).model.image_tower["width"] == 64
    path.write_text(
        'extends = "stamp"\n[model.image_tower]\nkind = "vit"\nmodel = "vit_tiny_patch16_224"\n'
    )
    assert load_recipe(path).model.image_tower == {"kind": "vit", "model": "vit_tiny_patch16_224"}


def test_a_part_of_the_model_that_is_set_to_another_kind_takes_no_settings_over():
    vit = ("model.image_tower.kind=vit", "model.image_tower.model=timm:test_vit")
    tower = load_recipe("clip", (*vit, "start=random", "model.direct={}")).model.image_tower
    assert tower == {"kind": "vit", "model": "timm:test_vit"}
    same = load_recipe("clip", ("model.image_tower.kind=hybrid",))
    assert same.model == load_recipe("clip").model
    decoder = load_recipe("umpire", ("model.decoders.patch.kind=linear",)).model.decoders["patch"]
    assert decoder == {"kind": "linear"}


def test_a_sampler_of_another_kind_keeps_its_batch_size(tmp_path):
    batch_size = load_recipe("bleep").sampler.batch_size
    assert (
        load_recipe("bleep", ("sampler.kind=same_slide_partner",)).sampler.batch_size == batch_size
    )
    path = tmp_path / "mine.toml"
    path.write_text('extends = "bleep"\n[sampler]\nkind = "same_slide_partner"\n')
    sampler = load_recipe(path).sampler
    assert (sampler.kind, sampler.batch_size) == ("same_slide_partner", batch_size)


@pytest.mark.parametrize("nothing", ["false", "{}"])
def test_a_section_of_the_model_is_taken_away_by_false_or_an_empty_table(nothing):
    assert load_recipe("clip", (f"model.direct={nothing}", "start=random")).model.direct == {}


def test_the_overlay_vit_lays_stamp_over_a_vit_with_weights():
    recipe = load_recipe("stamp", overlays=["vit"])
    tower = recipe.model.image_tower
    assert (tower["kind"], tower["weights"]) == ("vit", "hub")
    assert (recipe.start, recipe.model.direct) == ("random", {})
    assert recipe.losses == load_recipe("stamp").losses


def test_stamp_on_a_vit_locates_patches_in_regions_of_pixels():
    tower = ("model=timm:test_vit", "weights=", "train=full")
    small = ("patch_px=160", "region_px=160", "dim=8")
    overrides = [f"model.image_tower.{setting}" for setting in tower]
    overrides += [f"model.{setting}" for setting in small]
    recipe = load_recipe("stamp", overrides, ["vit"])
    model = AlignModel(recipe.model, 12).eval()
    pixels = torch.randint(0, 255, (2, 160, 160, 3), dtype=torch.uint8)
    given = Inputs(pixels, pixels.flip(0), torch.zeros(2, 64).int(), torch.randn(2, 12))
    with torch.inference_mode():
        out = model(given, recipe.wanted)
    assert set(out) == recipe.wanted
    assert out["cells"].shape == (2, 9, 8)


def test_a_later_base_of_several_wins_and_a_base_may_lie_beside_its_file(tmp_path):
    (tmp_path / "base.toml").write_text("[optimiser]\nepochs = 2\nlr = 0.5\n")
    path = tmp_path / "mine.toml"
    path.write_text('extends = ["clip", "base"]\n[optimiser]\nlr = 0.25\n')
    recipe = load_recipe(path)
    assert (recipe.optimiser.epochs, recipe.optimiser.lr) == (2, 0.25)
    assert recipe.sampler == load_recipe("clip").sampler


@pytest.mark.parametrize("extends", ["stamp", "stamp.toml"])
def test_a_file_that_is_named_as_what_it_extends_does_not_extend_itself(tmp_path, extends):
    path = tmp_path / "stamp.toml"
    path.write_text(f'extends = "{extends.removesuffix(".toml")}"\n[optimiser]\nepochs = 2\n')
    recipe = load_recipe(path)
    assert recipe.optimiser.epochs == 2
    assert recipe.model == load_recipe("stamp").model
    (tmp_path / "mine.toml").write_text(f'extends = "{extends}"\nname = "mine"\n')
    assert (
        load_recipe(tmp_path / "mine.toml").optimiser.epochs == 2
    )  # the file beside it comes first


def test_recipes_that_extend_each_other_are_refused_with_the_way_round(tmp_path):
    (tmp_path / "one.toml").write_text('extends = "two"\n')
    (tmp_path / "two.toml").write_text('extends = ["clip", "one"]\n')
    with pytest.raises(RecipeError, match=r"itself: \S*one.toml -> \S*two.toml -> \S*one.toml\."):
        load_recipe(tmp_path / "one.toml")


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ('"nowhere"', r"no recipe or overlay 'nowhere', which \S*mine.toml extends. Known recipes"),
        ("3", r"extends in \S*mine.toml is 3; expected the name of a recipe, or a list"),
        ('["clip", 3]', r"extends in \S*mine.toml is \['clip', 3\]; expected the name"),
    ],
)
def test_a_base_that_is_not_there_or_no_name_is_refused(tmp_path, extends, message):
    path = tmp_path / "mine.toml"
    path.write_text(f"extends = {extends}\n")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_losses_in_single_brackets_are_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL.replace("[[losses]]", "[losses]"))
    with pytest.raises(RecipeError, match=r"losses is {.*expected a section \[\[losses\]\]"):
        load_recipe(path)


def test_a_field_that_is_missing_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL.replace('name = "mine"', ""))
    with pytest.raises(RecipeError, match=r"The recipe cannot be used: name is missing\.$"):
        load_recipe(path)


def test_members_of_lists_are_set_by_number():
    recipe = load_recipe("stamp", ("losses.2.weight=0.5",), ("legacy_st_scales",))
    assert recipe.losses[2].weight == 0.5
    scaled = load_recipe("stamp", ("genes.scales.1.k=4",), ("legacy_st_scales",))
    assert [scale.k for scale in scaled.around.scales] == [0, 4, 36]


@pytest.mark.parametrize(
    "override", ["losses.9.weight=1.0", "name.x=1", "losses.left=1", "name.x.y=1"]
)
def test_an_override_that_leads_nowhere_is_refused(override):
    with pytest.raises(RecipeError, match=f"Cannot set '{override.split('=')[0]}'"):
        load_recipe("stamp", (override,))


def test_an_unknown_recipe_lists_those_there_are(tmp_path):
    with pytest.raises(
        RecipeError, match="no recipe or overlay 'stmp'. Known recipes: bleep,.* stamp"
    ):
        load_recipe("stmp")
    with pytest.raises(RecipeError, match="no recipe or overlay 'nowhere'"):
        load_recipe(tmp_path / "nowhere.toml")


def test_a_file_that_is_no_toml_is_named(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("name = ")
    with pytest.raises(RecipeError, match=r"broken\.toml is not valid TOML"):
        load_recipe(path)


@pytest.mark.parametrize("load", [load_recipe, load_stage1_recipe])
def test_a_folder_and_a_file_in_another_encoding_are_refused_by_both_stages(tmp_path, load):
    path = tmp_path / "latin.toml"
    path.write_bytes('name = "für"'.encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.toml is not text in UTF-8 .*Save it as UTF-8"):
        load(path)
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(RecipeError, match=r"folder\.toml cannot be read: .*Give a .toml file"):
        load(tmp_path / "folder.toml")


def test_every_recipe_file_says_in_its_first_line_what_it_is():
    for path in RECIPES.glob("*.toml"):
        assert path.read_text().startswith("# "), path.name
