"""The registry of pretrained encoders, and the networks that it builds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stamp_index.encoders.backbones import (
    backbone_spec,
    licence_notice,
    load_backbone,
    registry,
)
from stamp_index.errors import EncoderError

ROOT = Path(__file__).resolve().parent.parent
# Millions of parameters as published (lazyslide-models 0.1.0), with position embeddings for 224 px.
PUBLISHED = {
    "uni": 303.4, "uni2-h": 681.4, "virchow": 631.2, "virchow2": 631.2, "h-optimus-0": 1130,
    "h-optimus-1": 1130, "h0-mini": 85.7, "gigapath": 1130, "phikon": 85.8, "phikon-v2": 303.4,
    "hibou-b": 85.7, "hibou-l": 303.7,
}  # fmt: skip


def images(px, n=2):
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def no_initialisation(monkeypatch):
    """Networks on the meta device without the cost of drawing weights that are not there."""
    for name in ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_"):
        monkeypatch.setattr(torch.Tensor, name, lambda tensor, *_, **__: tensor)


@pytest.mark.parametrize("name", [n for n in registry() if n != "efficientnet_lite0"])
def test_an_entry_describes_the_network_that_timm_builds(name, no_initialisation):
    spec = registry()[name]
    with torch.device("meta"):
        backbone = load_backbone(name)
    vit = backbone.vit
    assert (backbone.width, backbone.depth) == (spec.width, spec.depth)
    assert (vit.num_prefix_tokens, vit.patch_embed.patch_size) == (
        spec.prefix_tokens, (spec.patch_px, spec.patch_px),
    )  # fmt: skip
    if name in PUBLISHED:
        millions = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
        tolerance = 5 if PUBLISHED[name] >= 1000 else 0.06
        assert millions == pytest.approx(PUBLISHED[name], abs=tolerance)


def test_entries_are_complete_and_do_not_contradict_themselves():
    for name, spec in registry().items():
        assert name == name.lower()
        assert all(0 < value < 1 for value in (*spec.mean, *spec.std))
        assert spec.image_px % spec.patch_px == 0
        assert spec.pool in ("cls", "mean", "cls+mean", "attention")
        if "NC" in spec.licence or "non-commercial" in spec.licence:
            assert not spec.commercial, name


def test_the_shipped_efficientnet_has_its_registered_width():
    backbone = load_backbone("efficientnet_lite0").eval()
    spec = backbone_spec("efficientnet_lite0")
    with torch.inference_mode():
        feature, grid = backbone.tokens(images(96))
    assert (backbone.width, backbone.depth) == (spec.width, spec.depth)
    assert feature.shape == (2, 320)
    assert grid.shape == (2, 3, 3, 320)
    torch.testing.assert_close(feature, grid.mean((1, 2)))


@pytest.mark.parametrize(
    "name", ["vit", "vit2", "vit3", "efficientnet", "resnet", "convnext", "mambaout"]
)
def test_any_timm_model_gives_what_timm_itself_pools(name):
    torch.manual_seed(0)
    backbone = load_backbone(f"timm:test_{name}").eval()
    with torch.inference_mode():
        feature, grid = backbone.tokens(images(160))
        expected = backbone.network(images(160))
    torch.testing.assert_close(feature, expected)
    assert feature.shape[1] == backbone.width
    assert grid.shape == (2, grid.shape[1], grid.shape[1], backbone.token_width)


@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
def test_pooling_leaves_registers_out(pool):
    torch.manual_seed(0)
    with torch.device("meta"):
        backbone = load_backbone("h0-mini")
    features = torch.arange(2 * 9 * 768, dtype=torch.float32).reshape(
        2, 9, 768
    )  # 5 prefix, 4 image
    parts = {"cls": features[:, 0], "mean": sum(features[:, 5 + i] for i in range(4)) / 4}
    expected = torch.cat([parts[part] for part in pool.split("+")], dim=1)
    torch.testing.assert_close(backbone.pooled(features, pool), expected)
    assert backbone.pooled_width(pool) == expected.shape[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("uni3", "no backbone 'uni3'. Did you mean uni"),
        ("timm:test_vitt", "no model named 'test_vitt'. Did you mean test_vit"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name, message):
    with pytest.raises(EncoderError, match=message):
        load_backbone(name)


def test_images_that_patches_do_not_tile_are_refused():
    with pytest.raises(
        EncoderError, match="Images of 230 px cannot be cut into UNI's patches of 16"
    ):
        load_backbone("uni", image_px=230)
    backbone = load_backbone("timm:test_vit")
    with pytest.raises(EncoderError, match="Choose 80 or 96 px"):
        backbone(images(90))


def test_a_file_for_the_packaged_network_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="take timm:tf_efficientnet_lite0 to load a file"):
        load_backbone("efficientnet_lite0", weights=str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize(
    ("name", "weights", "reason"),
    [
        ("timm:test_vit", "hub", "timm chooses the files of test_vit itself"),
        ("timm:test_vit", "vit.safetensors", "the weights are the file vit.safetensors"),
        ("uni", "pytorch_model.bin", "the weights are the file pytorch_model.bin"),
        ("efficientnet_lite0", "hub", "installed with this package"),
    ],
)
def test_a_revision_that_would_be_left_out_of_account_is_refused(name, weights, reason):
    with pytest.raises(EncoderError, match=f"revision = 'abc' cannot be followed: .*{reason}"):
        load_backbone(name, weights=weights, revision="abc")


def test_a_stored_revision_beside_no_weights_is_no_error():
    assert load_backbone("timm:test_vit", revision="abc").width == 64


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("virchow2", ["CC-BY-NC-ND-4.0", "no commercial use", "on request", "paige-ai/Virchow2"]),
        ("h-optimus-0", ["Apache-2.0, commercial use allowed"]),
        ("efficientnet_lite0", ["Apache-2.0"]),
        ("timm:test_vit", ["apache-2.0", "huggingface.co/timm/test_vit"]),
    ],
)
def test_the_licence_is_said(name, parts):
    notice = licence_notice(name)
    for part in parts:
        assert part in notice


def test_the_documentation_says_what_the_registry_says():
    table = (ROOT / "trainer/docs/backbones.md").read_text().splitlines()
    rows = {row.split("`")[1]: row for row in table if row.startswith("| `")}
    for name, spec in registry().items():
        row = rows[name]
        facts = [f"{spec.width} ({spec.pool})", f"{spec.image_px} / ", spec.licence, spec.hub]
        facts += ["| yes |" if spec.commercial else "| no |"]
        facts += ["| on request |" if spec.gated else "| open |"]
        assert [fact for fact in facts if fact not in row] == [], name
