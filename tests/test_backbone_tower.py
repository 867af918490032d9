"""Image towers on pretrained networks: the cached split, LoRA, freezing, checkpoints."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stamp_index.encoders.adapt import adapt, merge
from stamp_index.encoders.backbone_tower import BackboneTower
from stamp_index.encoders.backbones import load_backbone
from stamp_index.encoders.trunk import load_trunk
from stamp_index.encoders.vit_tower import VitTower
from stamp_index.errors import EncoderError

VIT, EFFICIENT = "timm:test_vit", "timm:test_efficientnet"
SPLITS = [
    (VIT, "frozen", 1), (VIT, "last", 2), (VIT, "lora", 3), (VIT, "lora", 0), (VIT, "full", 1),
    (EFFICIENT, "frozen", 1), (EFFICIENT, "last", 2), (EFFICIENT, "lora", 1), (EFFICIENT, "full", 1),
    ("timm:test_resnet", "frozen", 1), ("timm:test_resnet", "full", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)


def tower_of(backbone, train="frozen", blocks=1, **settings):
    torch.manual_seed(0)
    tower = BackboneTower(64, 64, backbone=backbone, train=train, blocks=blocks, **settings)
    for module in tower.modules():  # statistics of a trained network, so that evaluation mode shows
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in tower.named_parameters():  # LoRA starts at zero
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return tower.eval()


def encode(tower, images):
    return tower(torch.from_numpy(tower.prepare(images)))


# --- the split --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "train", "blocks"), SPLITS)
def test_cached_part_and_rest_give_what_the_whole_network_gives(backbone, train, blocks, images):
    tower = tower_of(backbone, train, blocks)
    with torch.inference_mode():
        out = encode(tower, images)
        network = tower.backbone.network
        expected = network(tower.backbone.normal(torch.from_numpy(images)))
    torch.testing.assert_close(out.cls, expected, atol=4e-3, rtol=4e-3)
    assert out.cls.shape == (5, tower.width)
    assert out.inserted.shape == out.cls.shape
    assert not out.inserted.any()
    assert out.tokens.shape[:1] + out.tokens.shape[3:] == (5, tower.backbone.token_width)


@pytest.mark.parametrize(("backbone", "train", "blocks"), SPLITS)
def test_without_a_cache_nothing_is_rounded(backbone, train, blocks, images):
    tower = tower_of(backbone, train, blocks, cache=False)
    assert tower.prepare(images) is images
    with torch.inference_mode():
        out = encode(tower, images)
        expected = tower.backbone.network(tower.backbone.normal(torch.from_numpy(images)))
    torch.testing.assert_close(out.cls, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "train", "blocks", "shape"),
    [
        (VIT, "last", 2, (17, 64)),
        (VIT, "frozen", 1, (17, 64)),
        (VIT, "lora", 0, (64, 64, 3)),
        (VIT, "full", 1, (64, 64, 3)),
        (EFFICIENT, "last", 1, (4, 4, 48)),
    ],
)
def test_what_is_kept_of_an_image(backbone, train, blocks, shape, images):
    prepared = tower_of(backbone, train, blocks).prepare(images)
    assert prepared.shape == (5, *shape)
    assert prepared.dtype == (np.uint8 if shape[-1] == 3 else np.float16)


def test_the_frozen_default_network_gives_the_trunks_tokens_of_its_last_stage(images):
    tower = BackboneTower(64, 64, backbone="efficientnet_lite0").eval()
    prepared = tower.prepare(images)
    np.testing.assert_array_equal(prepared, load_trunk().tokens(images)[..., : tower.width])
    out = tower(torch.from_numpy(prepared))
    torch.testing.assert_close(out.tokens, torch.from_numpy(prepared).float())
    np.testing.assert_allclose(out.cls, prepared.astype(np.float32).mean((1, 2)), atol=1e-5)


def test_without_the_grid_a_frozen_network_keeps_the_feature_alone(images):
    whole, feature = tower_of(VIT), tower_of(VIT, grid=False)
    prepared = feature.prepare(images)
    assert prepared.shape == (5, 64)
    with torch.inference_mode():
        out = feature(torch.from_numpy(prepared))
        torch.testing.assert_close(out.cls, encode(whole, images).cls, atol=4e-3, rtol=4e-3)
    assert out.tokens.shape == (5, 1, 1, 64)
    assert feature.prepared_id != whole.prepared_id


def test_many_images_are_prepared_as_one_by_one(images):
    tower = tower_of(VIT, "last", 2)
    many = np.concatenate([images] * 5)  # more than a thread takes at once
    alone = np.concatenate([tower.prepare(many[i : i + 1]) for i in range(len(many))])
    np.testing.assert_allclose(tower.prepare(many), alone, atol=4e-3, rtol=4e-3)
    assert tower.prepare(many[:0]).shape == (0, 17, 64)


def test_patches_and_regions_may_differ_in_size(images):
    tower = BackboneTower(64, 96, backbone=VIT, train="last").eval()
    regions = np.random.default_rng(1).integers(0, 255, (2, 96, 96, 3), dtype=np.uint8)
    with torch.inference_mode():
        assert encode(tower, images).tokens.shape == (5, 4, 4, 64)
        assert encode(tower, regions).tokens.shape == (2, 6, 6, 64)


def test_an_activation_too_large_for_the_cache_is_refused(images):
    tower = tower_of(VIT, "last", 2)
    tower.backbone.network.cls_token.data.fill_(1e6)
    with pytest.raises(EncoderError, match="float16 cannot hold.*cache = false"):
        tower.prepare(images)


def test_a_patch_in_its_region_is_refused_with_what_to_choose(images):
    tower = tower_of(VIT)
    prepared = torch.from_numpy(tower.prepare(images))
    with pytest.raises(EncoderError, match='no region mode.*kind = "vit"'):
        tower(prepared, prepared)


@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
def test_the_pooling_can_be_chosen(pool, images):
    tower = tower_of(VIT, pool=pool)
    with torch.inference_mode():
        out = encode(tower, images)
        tokens = tower.backbone.features(tower.backbone.normal(torch.from_numpy(images)))
    parts = {"cls": tokens[:, 0], "mean": tokens[:, 1:].mean(1)}
    expected = torch.cat([parts[name] for name in pool.split("+")], 1)
    assert tower.width == expected.shape[1]
    torch.testing.assert_close(out.cls, expected, atol=4e-3, rtol=4e-3)


def test_a_pooling_that_the_network_has_not_is_refused():
    with pytest.raises(EncoderError, match="cannot be pooled by 'cls'; expected mean"):
        BackboneTower(64, 64, backbone=EFFICIENT, pool="cls")


# --- names of cached things -------------------------------------------------------------------------------


def test_the_cache_is_named_by_backbone_weights_and_split():
    ids = {
        tower_of(VIT, train, blocks).prepared_id
        for train, blocks in (("frozen", 1), ("last", 1), ("last", 2))
    }
    ids |= {tower_of("timm:test_vit2").prepared_id, tower_of(EFFICIENT).prepared_id}
    assert len(ids) == 5
    assert all(name.startswith("timm:test_") for name in ids)
    assert tower_of(VIT, "full").prepared_id == "pixels"
    assert tower_of(VIT, "last", cache=False).prepared_id == "pixels"


def test_the_cache_is_renamed_by_another_frozen_weight_and_by_no_trained_one():
    tower = tower_of(VIT, "last", 2)
    name = tower.prepared_id
    state = {key: tensor.clone() for key, tensor in tower.state_dict().items()}
    trained = [key for key, value in tower.named_parameters() if value.requires_grad]
    assert trained
    for key in trained:
        state[key] += 1
    tower.load_state_dict(state)
    assert tower.prepared_id == name
    state["backbone.network.blocks.3.mlp.fc1.bias"] += 1
    nn.ModuleDict({"image": tower}).load_state_dict({f"image.{k}": v for k, v in state.items()})
    assert tower.prepared_id != name


@pytest.mark.parametrize(("backbone", "train", "blocks"), SPLITS)
def test_a_checkpoint_is_all_that_a_new_tower_needs(backbone, train, blocks, images, tmp_path):
    tower = tower_of(backbone, train, blocks)
    save_file(tower.state_dict(), tmp_path / "w.safetensors")
    torch.manual_seed(5)
    again = BackboneTower(64, 64, backbone=backbone, train=train, blocks=blocks).eval()
    if train != "full":
        assert again.prepared_id != tower.prepared_id or again.prepared_id == "pixels"
    again.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert again.prepared_id == tower.prepared_id
    with torch.inference_mode():
        assert torch.equal(encode(again, images).cls, encode(tower, images).cls)


# --- what is trained --------------------------------------------------------------------------------------


def step(tower, images):
    tower.train()
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in tower.parameters() if p.requires_grad], lr=0.1)
    encode(tower, images).cls[:, ::2].sum().backward()
    optimiser.step()
    after = tower.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_last_blocks_are_all_that_a_step_changes(images):
    changed = step(tower_of(VIT, "last", 2), images)
    tops = {name.removeprefix("backbone.network.").split(".")[0] for name in changed}
    assert tops == {"blocks", "norm"}
    assert {name.split(".")[3] for name in changed if ".blocks." in name} == {"4", "5"}


def test_lora_is_all_that_a_step_changes_and_has_four_layers_a_block(images):
    tower = tower_of(VIT, "lora", 1)
    changed = step(tower, images)
    assert changed
    assert all(".blocks.5." in name and "lora_" in name for name in changed)
    layers = {name.split(".lora_")[0].split("blocks.")[1] for name in changed}
    assert layers == {"5.attn.qkv", "5.attn.proj", "5.mlp.fc1", "5.mlp.fc2"}


def test_lora_of_an_efficientnet_is_on_its_pointwise_convolutions(images):
    tower = tower_of(EFFICIENT, "lora", 2)
    changed = step(tower, images)
    layers = {name.split(".lora_")[0].split("network.")[1] for name in changed}
    assert layers
    for name in layers:
        assert name.split(".")[1] in "34"
        assert tower.backbone.network.get_submodule(name).base_layer.kernel_size == (1, 1)
        assert ".se." not in name


@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_frozen_batch_norms_do_not_follow_the_batch(train, images):
    tower = tower_of(EFFICIENT, train, 2, cache=False).train()
    before = {n: v.clone() for n, v in tower.state_dict().items() if "running" in n}
    encode(tower, images)
    assert before
    assert all(torch.equal(tower.state_dict()[name], value) for name, value in before.items())


def test_batch_norms_of_the_last_groups_follow_the_batch_and_the_others_do_not(images):
    changed = step(tower_of(EFFICIENT, "last", 1), images)
    running = {name.split("network.")[1] for name in changed if "running" in name}
    assert running
    assert all(name.startswith(("blocks.4.", "bn2.")) for name in running)


def test_training_mode_is_left_again_and_lora_drops_out_in_it_alone(images):
    tower = tower_of(VIT, "lora", 1, dropout=0.5)
    prepared = torch.from_numpy(tower.prepare(images))
    with torch.no_grad():
        calm = tower(prepared).cls
        tower.train()
        assert not torch.equal(tower(prepared).cls, tower(prepared).cls)
        tower.eval()
        assert torch.equal(tower(prepared).cls, calm)


def test_lora_starts_as_the_frozen_network(images):
    torch.manual_seed(0)
    frozen = BackboneTower(64, 64, backbone=VIT).eval()
    torch.manual_seed(0)
    lora = BackboneTower(64, 64, backbone=VIT, train="lora", blocks=2).eval()
    with torch.inference_mode():
        expected, found = encode(frozen, images).cls, encode(lora, images).cls
    torch.testing.assert_close(found, expected, atol=4e-3, rtol=4e-3)


@pytest.mark.parametrize("backbone", [VIT, EFFICIENT])
def test_merged_lora_is_the_same_and_is_stored_as_a_plain_network(backbone, images):
    tower = tower_of(backbone, "lora", 2)
    name = tower.prepared_id
    with torch.inference_mode():
        expected = encode(tower, images).cls
        tower.merge()
        torch.testing.assert_close(encode(tower, images).cls, expected, atol=1e-4, rtol=1e-4)
    plain = BackboneTower(64, 64, backbone=backbone, train="last", blocks=2).eval()
    plain.load_state_dict(tower.state_dict())
    assert plain.prepared_id == tower.prepared_id == name
    with torch.inference_mode():
        assert torch.equal(encode(plain, images).cls, encode(tower, images).cls)


@pytest.mark.parametrize("tower_class", [BackboneTower, VitTower])
def test_checkpointed_gradients_are_the_same(tower_class, images):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        made = {
            BackboneTower: partial(BackboneTower, backbone=VIT, cache=False),
            VitTower: partial(VitTower, model="test_vit"),
        }[tower_class]
        tower = made(64, 64, train="last", blocks=2, checkpointing=checkpointing)
        encode(tower, images).cls[:, ::2].sum().backward()
        gradients.append({n: p.grad for n, p in tower.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "half"}, "train is 'half'; expected one of full, frozen, lora, last"),
        ({"train": "last", "blocks": 0}, "blocks is 0; .* expected 1 to 6"),
        ({"train": "lora", "blocks": 7}, "blocks is 7; VisionTransformer here has 6"),
        ({"train": "lora", "backbone": "timm:test_resnet"}, "cannot be trained in part"),
        ({"train": "last", "backbone": "timm:test_vit_relpos"}, "cannot be trained in part"),
    ],
)
def test_what_cannot_be_trained_is_refused(settings, message):
    with pytest.raises(EncoderError, match=message):
        BackboneTower(160, 160, **{"backbone": VIT, **settings})


def test_targets_that_no_layer_has_are_refused():
    with pytest.raises(EncoderError, match="have no layers that end in query"):
        adapt(load_backbone(VIT).network, "lora", blocks=1, targets=["query"])


def test_targets_are_ends_of_names_within_the_last_blocks():
    network = load_backbone(VIT).network
    adaptation = adapt(network, "lora", blocks=2, targets=["attn.qkv"])
    assert adaptation.trained == ("blocks.4.attn.qkv", "blocks.5.attn.qkv")
    assert merge(network) == 2
    assert merge(network) == 0
