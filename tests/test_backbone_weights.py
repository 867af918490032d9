"""Weights of pretrained encoders: from files of several libraries."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from stamp_index.encoders.backbone_networks import AttentionPool
from stamp_index.encoders.backbone_weights import fit_state, read_state
from stamp_index.encoders.backbones import load_backbone
from stamp_index.encoders.torch_compat import declare_torchvision_ops
from stamp_index.errors import EncoderError


def images(px, n=2):
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(0))


# --- weights that other libraries saved -------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers_models():
    declare_torchvision_ops()
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    size = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    vit = transformers.ViTModel(transformers.ViTConfig(intermediate_size=128, **size))
    dino = transformers.Dinov2Model(transformers.Dinov2Config(use_swiglu_ffn=True, **size))
    registers = transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**size)
    )
    made = {"vit": vit, "dinov2": dino, "registers": registers}
    for model in made.values():
        for (
            parameter
        ) in model.parameters():  # zeros and ones would hide a tensor in the wrong place
            torch.nn.init.normal_(parameter, std=0.3)
        model.eval()
    return made


TRANSFORMERS = {
    "vit": {"norm_eps": 1e-12},
    "dinov2": {
        "init_values": 1.0,
        "mlp_ratio": 5.5,
        "mlp_layer": "SwiGLUPacked",
        "act_layer": "SiLU",
    },
    "registers": {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True},
}


@pytest.mark.parametrize("kind", TRANSFORMERS)
@pytest.mark.parametrize("names", ["saved", "in memory"])
def test_a_transformers_model_gives_the_same_tokens_as_timm(
    kind, names, transformers_models, tiny_backbone, tmp_path
):
    tiny_backbone("transformers", **TRANSFORMERS[kind])
    model = transformers_models[kind]
    if names == "saved":
        model.save_pretrained(tmp_path)
    else:
        save_file(model.state_dict(), tmp_path / "model.safetensors")
    backbone = load_backbone("tiny", weights=str(tmp_path)).eval()
    with torch.inference_mode():
        expected = model(images(28)).last_hidden_state
        found = backbone.features(images(28))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_position_embeddings_of_another_size_are_interpolated_as_transformers_does(
    transformers_models, tiny_backbone, tmp_path
):
    tiny_backbone("transformers", **TRANSFORMERS["dinov2"])
    model = transformers_models["dinov2"]
    model.save_pretrained(tmp_path)
    backbone = load_backbone("tiny", weights=str(tmp_path), image_px=56).eval()
    with torch.inference_mode():
        expected = model(images(56)).last_hidden_state
        found = backbone.features(images(56))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_timm_weights_of_another_size_give_what_the_network_gives_when_it_interpolates(tmp_path):
    torch.manual_seed(0)
    native = load_backbone("timm:test_vit").eval()
    save_file(native.network.state_dict(), tmp_path / "vit.safetensors")
    small = load_backbone(
        "timm:test_vit", weights=str(tmp_path / "vit.safetensors"), image_px=64
    ).eval()
    with torch.inference_mode():
        torch.testing.assert_close(small(images(64)), native(images(64)))


def test_the_names_of_the_original_dinov2_are_taken(tiny_backbone, tmp_path):
    settings = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU", "init_values": 1.0}
    tiny_backbone("dinov2", reg_tokens=4, no_embed_class=True, **settings)
    torch.manual_seed(0)
    expected = load_backbone("tiny").eval()
    state = expected.network.state_dict()
    published = {
        name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): tensor
        for name, tensor in state.items()
        if name not in ("reg_token", "pos_embed", "cls_token")
    }
    position = torch.randn(1, 1, 32)
    published["register_tokens"] = state["reg_token"]
    published["cls_token"] = state["cls_token"] - position
    published["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    published["mask_token"] = torch.zeros(1, 32)
    torch.save(published, tmp_path / "teacher.pt")
    found = load_backbone("tiny", weights=str(tmp_path / "teacher.pt")).eval()
    with torch.inference_mode():
        torch.testing.assert_close(found(images(28)), expected(images(28)), atol=1e-4, rtol=1e-3)


def test_conch_keeps_its_image_side_and_pools_by_attention(tiny_backbone, tmp_path):
    tiny_backbone("conch")
    torch.manual_seed(0)
    expected = load_backbone("tiny").eval()
    state = {}
    for name, tensor in expected.network.state_dict().items():
        name = name.replace("pool.ln_contrast", "visual.ln_contrast")
        name = name.replace("trunk.", "visual.trunk.").replace(
            "pool.", "visual.attn_pool_contrast."
        )
        state[name] = tensor + 0.0
    state |= {
        name: torch.zeros(1)
        for name in (
            "logit_scale", "text.cls_emb", "text_decoder.a", "visual.proj_contrast", "visual.ln_caption.bias",
            "visual.attn_pool_caption.query",
        )
    }  # fmt: skip
    save_file(state, tmp_path / "conch.safetensors")
    found = load_backbone("tiny", weights=str(tmp_path / "conch.safetensors")).eval()
    with torch.inference_mode():
        torch.testing.assert_close(found(images(28)), expected(images(28)))
    assert found.width == 32


def test_attention_pool_is_attention_of_one_query_written_out():
    torch.manual_seed(0)
    pool = AttentionPool(8, 6, heads=2)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.randn(3, 5, 6)
    query = functional.layer_norm(pool.query, (8,), pool.ln_q.weight, pool.ln_q.bias)
    attn = pool.attn
    biases = attn.in_proj_bias.chunk(3)
    for number in range(3):
        keys = functional.layer_norm(tokens[number], (6,), pool.ln_k.weight, pool.ln_k.bias)
        q = query @ attn.q_proj_weight.T + biases[0]
        k = keys @ attn.k_proj_weight.T + biases[1]
        v = keys @ attn.v_proj_weight.T + biases[2]
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            weights = (q[:, part] @ k[:, part].T / 2).softmax(-1)
            heads.append(weights @ v[:, part])
        out = torch.cat(heads, -1) @ attn.out_proj.weight.T + attn.out_proj.bias
        norm = pool.ln_contrast
        expected = functional.layer_norm(out[0], (8,), norm.weight, norm.bias)
        torch.testing.assert_close(pool(tokens)[number], expected, atol=1e-5, rtol=1e-5)


# --- files that do not do ---------------------------------------------------------------------------------


def test_a_classifier_in_the_file_is_left_out(tmp_path):
    declare_torchvision_ops()
    import timm

    whole = timm.create_model("test_vit", num_classes=7)
    save_file(whole.state_dict(), tmp_path / "vit.safetensors")
    backbone = load_backbone("timm:test_vit", weights=str(tmp_path / "vit.safetensors"))
    assert torch.equal(backbone.network.cls_token, whole.cls_token)


def test_a_file_of_tensors_alone_is_read_and_one_with_code_is_not(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "good.bin")
    assert torch.equal(read_state(tmp_path / "good.bin")["a"], torch.ones(2))
    (tmp_path / "bad.bin").write_bytes(pickle.dumps({"a": SimpleNamespace}, protocol=2))
    with pytest.raises(EncoderError, match="holds more than tensors"):
        read_state(tmp_path / "bad.bin")
    torch.save({"a": SimpleNamespace(b=1)}, tmp_path / "worse.pt")
    with pytest.raises(EncoderError, match="holds more than tensors"):
        read_state(tmp_path / "worse.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"no tensors", "not a readable .safetensors")],
    ids=["missing", "damaged"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EncoderError, match=message):
        read_state(path)
    with pytest.raises(EncoderError, match="There are no weights in the folder"):
        read_state(tmp_path / ".." / tmp_path.name)


def test_weights_that_do_not_fit_are_refused_and_nothing_is_loaded(tmp_path):
    backbone = load_backbone("timm:test_vit")
    before = {name: tensor.clone() for name, tensor in backbone.network.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    state["cls_token"] = torch.zeros(1, 1, 5)
    del state["norm.bias"]
    state["surplus"] = torch.zeros(1)
    with pytest.raises(
        EncoderError,
        match=r"1 tensors missing \(norm.bias\), 1 unknown \(surplus\), 1 of another shape \(cls_token\)",
    ):
        fit_state(backbone.network, state, "timm", tmp_path / "x")
    for name, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_safetensors_written_from_a_backbone_are_read_back(tmp_path):
    backbone = load_backbone("timm:test_efficientnet")
    save_file(backbone.state_dict(), tmp_path / "w.safetensors")
    assert set(load_file(tmp_path / "w.safetensors")) == set(backbone.state_dict())
