"""STAMP's vision model on a ViT: the inserted token, registers, and how much of the ViT is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from stamp_index.encoders import backbones
from stamp_index.encoders.vit_tower import VitTower
from stamp_index.errors import EncoderError


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)


def with_registers(monkeypatch):
    """A tower on a one-block H0-mini: 4 registers, images of 56 px, 16 image tokens."""
    spec = backbones.backbone_spec("h0-mini")
    small = {**spec.settings, "depth": 1, "embed_dim": 32, "num_heads": 2}
    monkeypatch.setattr(backbones, "registry", lambda: {"h0-mini": replace(spec, settings=small)})
    torch.manual_seed(0)
    tower = VitTower(56, 56, model="h0-mini").eval()
    torch.nn.init.normal_(tower.vit.reg_token)
    np.testing.assert_allclose(tower.mean.flatten(), spec.mean)
    return tower


def test_the_inserted_token_stands_after_cls_and_before_registers(images, monkeypatch):
    tower = with_registers(monkeypatch)
    vit = tower.vit
    images = images[:, :56, :56]
    x = torch.from_numpy(images)
    seen = []
    vit.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        out = tower(x)
        embedded = vit.norm_pre(
            vit._pos_embed(vit.patch_embed((x.permute(0, 3, 1, 2) / 255 - tower.mean) / tower.std))
        )
        prompt = vit.norm_pre(tower.prompt.expand(5, 1, -1))
    sequence = torch.cat([embedded[:, :1], prompt, embedded[:, 1:]], 1)
    torch.testing.assert_close(seen[0], sequence)
    assert out.tokens.shape == (5, 4, 4, tower.width)


def test_registers_are_no_image_tokens(images, monkeypatch):
    tower = with_registers(monkeypatch)
    x = torch.from_numpy(images[:, :56, :56])
    with torch.inference_mode():
        out = tower(x)
        whole = []
        tower.vit.norm.register_forward_hook(lambda *args: whole.append(args[2]))
        tower(x)
    sequence = whole[0]  # CLS, inserted, 4 registers, 16 image tokens
    assert sequence.shape[1] == 1 + 1 + 4 + 16
    torch.testing.assert_close(out.inserted, sequence[:, 1])
    torch.testing.assert_close(out.tokens.flatten(1, 2), sequence[:, 6:])


@pytest.mark.parametrize(
    ("settings", "n_trained"),
    [({}, 78), ({"trainable": False}, 0), ({"train": "frozen"}, 0), ({"train": "lora"}, 8)],
)
def test_how_much_of_the_vit_is_trained_beside_prompt_and_reference(settings, n_trained, images):
    tower = VitTower(64, 64, model="test_vit", **settings).train()
    names = [name for name, value in tower.named_parameters() if value.requires_grad]
    assert {"prompt", "reference.weight", "reference.bias"} <= set(names)
    assert sum(name.startswith("vit.") for name in names) == n_trained
    x = torch.from_numpy(images)
    tower(x, x).inserted[:, 0].sum().backward()
    assert tower.reference.weight.grad.abs().sum() > 0


def test_a_vit_tower_with_lora_is_merged_without_a_change(images):
    torch.manual_seed(0)
    tower = VitTower(64, 64, model="test_vit", train="lora", blocks=0).eval()
    for name, parameter in tower.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    x = torch.from_numpy(images)
    with torch.inference_mode():
        expected = tower(x, x)
        tower.merge()
        found = tower(x, x)
    torch.testing.assert_close(found.cls, expected.cls, atol=1e-4, rtol=1e-4)
    plain = VitTower(64, 64, model="test_vit", train="last", blocks=6)
    plain.load_state_dict(tower.state_dict())


def test_regions_may_be_larger_than_patches(images):
    tower = VitTower(64, 96, model="test_vit").eval()
    regions = torch.randint(0, 255, (5, 96, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        out = tower(regions, torch.from_numpy(images))
    assert out.tokens.shape == (5, 6, 6, 64)
    with pytest.raises(EncoderError, match="Regions of 100 px"):
        VitTower(64, 100, model="test_vit")


@pytest.mark.parametrize("model", ["test_resnet", "timm:test_vit_relpos", "test_efficientnet"])
def test_a_model_without_cls_is_refused(model):
    with pytest.raises(EncoderError, match="not a ViT with a CLS token"):
        VitTower(160, 160, model=model)
