"""Vision transformers built from state dicts alone, and STAMP's inserted token in them."""

from __future__ import annotations

import pytest
import torch

from stamp_index.encoders.published.state import fit
from stamp_index.encoders.published.vit import PromptedVit, build_vit, vit_heads
from stamp_index.encoders.torch_compat import declare_torchvision_ops
from stamp_index.errors import EncoderError
from tests.published_files import random_like, vit_shapes

_BASE = {
    "img_size": 32,
    "patch_size": 8,
    "num_classes": 0,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 4,
}
_SHAPES = {
    "plain": {},
    "layer_scale": {"init_values": 0.1},
    "no_qkv_bias": {"qkv_bias": False},
    "qk_norm": {"qk_norm": True},
    "pre_norm": {"pre_norm": True},
    "registers": {"reg_tokens": 4},
    "registers_without_positions": {"reg_tokens": 3, "no_embed_class": True},
    "swiglu": {"mlp_layer": "SwiGLUPacked", "act_layer": torch.nn.SiLU, "mlp_ratio": 5.4},
    "deep_and_narrow": {"depth": 5, "mlp_ratio": 1.0, "img_size": 24},
}


@pytest.mark.parametrize("name", _SHAPES)
def test_a_vit_is_rebuilt_from_its_state_dict(name):
    declare_torchvision_ops()
    from timm.layers.mlp import SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    settings = {**_BASE, **_SHAPES[name]}
    if "mlp_layer" in settings:
        settings["mlp_layer"] = SwiGLUPacked
    original = VisionTransformer(**settings).eval()
    state = {key: torch.randn_like(value) * 0.3 for key, value in original.state_dict().items()}
    original.load_state_dict(state)
    rebuilt = build_vit(state, 4)
    fit(rebuilt, state, "the ViT")
    side = original.patch_embed.img_size[0]
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(rebuilt(images), original(images))


def _prompted(**settings):
    state = random_like(vit_shapes(**settings))
    vit = PromptedVit(build_vit(state, 2))
    fit(vit, {f"base_model.{k}": v for k, v in state.items()} | _extra(vit), "the ViT")
    return vit


def _extra(vit):
    shapes = {
        k: tuple(v.shape) for k, v in vit.state_dict().items() if not k.startswith("base_model")
    }
    return random_like(shapes, seed=1)


def test_patch_mode_inserts_the_prompt_after_cls_without_a_position():
    vit = _prompted()
    images = torch.randn(2, 3, 32, 32)
    base = vit.base_model
    with torch.inference_mode():
        cells = base.patch_embed.proj(images).flatten(2).transpose(1, 2)  # (b, 16, width)
        cls = (base.cls_token + base.pos_embed[:, :1]).expand(2, -1, -1)
        x = torch.cat([cls, vit.p_visual.expand(2, -1, -1), cells + base.pos_embed[:, 1:]], dim=1)
        for block in base.blocks:
            x = block(x)
        x = base.norm(x)
        found = vit(images)
    torch.testing.assert_close(found.cls, x[:, 0])
    torch.testing.assert_close(found.inserted, x[:, 1])
    torch.testing.assert_close(found.tokens, x[:, 2:].reshape(2, 4, 4, 16))


def test_region_mode_puts_the_patch_in_the_prompts_place():
    vit = _prompted()
    images, references = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        found = vit(images, references)
        for row in range(2):
            weight = vit.base_model.patch_embed.proj.weight
            cell = (weight * references[row]).sum((1, 2, 3)) + vit.base_model.patch_embed.proj.bias
            vit.p_visual = torch.nn.Parameter(vit.ref_pos_embed(cell).view(1, 1, -1))
            alone = vit(images[row : row + 1])  # patch mode with that token as the prompt
            torch.testing.assert_close(found.cls[row], alone.cls[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.inserted[row], alone.inserted[0], rtol=1e-4, atol=1e-5)


def test_no_image_sees_another_of_its_batch():
    vit = _prompted()
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(
            vit(images).cls[1], vit(images[1:2]).cls[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("cls_token"), "CLS token under timm's names: it has no cls_token"),
        (lambda s: s.pop("blocks.0.mlp.fc2.weight"), "it has no blocks.0.mlp.fc2.weight"),
        (
            lambda s: s.update(pos_embed=torch.zeros(1, 19, 16)),
            "19 position embeddings.*no square grid",
        ),
        (
            lambda s: s.update({"patch_embed.proj.weight": torch.zeros(16, 3, 8, 4)}),
            "8 x 4 px; square ones",
        ),
    ],
)
def test_odd_transformers_are_refused_by_what_is_odd(change, message):
    state = random_like(vit_shapes())
    change(state)
    with pytest.raises(EncoderError, match=message):
        build_vit(state, 2)


@pytest.mark.parametrize(
    ("width", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16), (1536, 24)]
)
def test_usual_widths_tell_the_heads(width, heads):
    assert (
        vit_heads({"patch_embed.proj.weight": torch.empty(width, 3, 16, 16, device="meta")}, None)
        == heads
    )
