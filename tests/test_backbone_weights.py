"""Weights of pretrained encoders: from files of several libraries, and from the hub's cache."""

from __future__ import annotations

import pickle
import socket
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from stamp_index.encoders import backbones, hub, towers
from stamp_index.encoders.backbone_networks import AttentionPool
from stamp_index.encoders.backbone_weights import fit_state, read_state
from stamp_index.encoders.backbones import load_backbone, registry
from stamp_index.encoders.torch_compat import declare_torchvision_ops
from stamp_index.errors import EncoderError

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture
def tiny(monkeypatch):
    """Add a tiny backbone to the registry: ``tiny(loader, **settings)``; 28 px, patches of 14 px."""

    def add(loader, architecture="vit_tiny_patch16_224", **settings):
        spec = replace(
            registry()["uni"],
            name="tiny",
            loader=loader,
            architecture=architecture,
            image_px=28,
            patch_px=14,
            width=32,
            hub="stamp/tiny",
            settings={**TINY, **settings},
        )
        monkeypatch.setattr(backbones, "registry", lambda: {"tiny": spec})
        return spec

    return add


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """The hub in offline mode with an empty cache, and no way to the outside."""
    from huggingface_hub import constants

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
    kind, names, transformers_models, tiny, tmp_path
):
    tiny("transformers", **TRANSFORMERS[kind])
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
    transformers_models, tiny, tmp_path
):
    tiny("transformers", **TRANSFORMERS["dinov2"])
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


def test_the_names_of_the_original_dinov2_are_taken(tiny, tmp_path):
    settings = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU", "init_values": 1.0}
    tiny("dinov2", reg_tokens=4, no_embed_class=True, **settings)
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


def test_conch_keeps_its_image_side_and_pools_by_attention(tiny, tmp_path):
    tiny("conch")
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


# --- the hub ----------------------------------------------------------------------------------------------


def test_nothing_is_asked_of_the_hub_unless_the_user_does(no_network, tiny, monkeypatch):
    tiny("timm")
    for name in ("hf_hub_download", "try_to_load_from_cache"):
        monkeypatch.setattr(huggingface_hub, name, None)
    load_backbone("tiny")
    load_backbone("timm:test_vit")


def test_a_file_in_the_hubs_cache_is_enough(no_network, tiny):
    tiny("timm")
    torch.manual_seed(1)
    state = load_backbone("tiny").network.state_dict()
    folder = no_network / "models--stamp--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    (folder / "snapshots/abc").mkdir(parents=True)
    torch.save(state, folder / "snapshots/abc/pytorch_model.bin")
    loaded = load_backbone("tiny", weights="hub").network.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("name", ["tiny", "timm:test_vit"])
def test_without_network_one_sentence_says_what_to_do(name, no_network, tiny):
    tiny("timm")
    with pytest.raises(EncoderError) as caught:
        load_backbone(name, weights="hub")
    text = str(caught.value)
    assert "not on this machine and HF_HUB_OFFLINE is set" in text
    assert "https://huggingface.co/" in text
    assert text.count(". ") == 0


@pytest.fixture
def hub_at(tmp_path, monkeypatch):
    """Put the hub at an address of this machine, where its client may use the network and its cache is empty."""

    def put(port):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "getproxies", dict)
    return put


@pytest.fixture
def closed_port():
    """A port that nobody listens on."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        yield place.getsockname()[1]


def never(*_: object, **__: object) -> None:
    raise AssertionError("the client was asked, which tries for half a minute")


@pytest.mark.parametrize("gated", [True, False])
def test_a_hub_that_cannot_be_reached_is_said_before_its_client_tries_and_anything_is_built(
    tiny, monkeypatch, hub_at, closed_port, gated
):
    spec = tiny("timm")
    monkeypatch.setattr(backbones, "registry", lambda: {"tiny": replace(spec, gated=gated)})
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", never)
    monkeypatch.setattr(backbones, "_build", never)
    hub_at(closed_port)
    with pytest.raises(EncoderError) as caught:
        load_backbone("tiny", weights="hub")
    text = str(caught.value)
    assert "are not on this machine and 127.0.0.1 cannot be reached: " in text
    assert text.endswith("--set model.image_tower.weights=/path/model.safetensors.")
    assert text.count(". ") == 0
    assert (
        "ask for access on https://huggingface.co/stamp/tiny, run `hf auth login`" in text
    ) == gated


def test_a_name_that_nobody_knows_is_a_hub_that_cannot_be_reached(tiny, monkeypatch, hub_at):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(EncoderError, match="hub.invalid cannot be reached"):
        hub.refuse_unreachable(tiny("timm"))


def test_timms_own_weights_are_looked_for_before_anything_is_built(
    monkeypatch, hub_at, closed_port
):
    hub_at(closed_port)
    monkeypatch.setattr(backbones, "_build", never)
    with pytest.raises(EncoderError, match="timm's test_vit are not .* cannot be reached"):
        load_backbone("timm:test_vit", weights="hub")


def test_addresses_of_one_protocol_that_lead_nowhere_do_not_hide_those_of_the_other(
    tiny, monkeypatch, hub_at, closed_port
):
    def found(host, port, **rest):
        dead = [(socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", closed_port, 0, 0))]
        live = (socket.AF_INET, socket.SOCK_STREAM, 0, "", server.getsockname())
        return [*dead * 4, live]

    with socket.create_server(("127.0.0.1", 0)) as server:
        hub_at(server.getsockname()[1])
        monkeypatch.setattr(socket, "getaddrinfo", found)
        hub.refuse_unreachable(tiny("timm"))


def test_a_hub_that_answers_a_proxy_and_a_cache_are_left_to_the_client(
    tiny, monkeypatch, hub_at, closed_port, tmp_path
):
    spec = tiny("timm")
    with socket.create_server(("127.0.0.1", 0)) as server:
        hub_at(server.getsockname()[1])
        hub.refuse_unreachable(spec)
    hub_at(closed_port)
    with monkeypatch.context() as patched:
        patched.setattr(hub, "getproxies", lambda: {"https": "http://proxy:1"})
        hub.refuse_unreachable(spec)
    (tmp_path / "models--stamp--tiny" / "snapshots").mkdir(parents=True)
    hub.refuse_unreachable(spec)


def test_weights_of_a_towers_section_are_found_as_the_tower_finds_them(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(towers, "find_weights", lambda *given: asked.append(given))
    for settings in (
        {"kind": "vit", "model": "vit_small_patch16_224", "weights": "hub"},
        {"kind": "vit", "model": "timm:test_vit", "weights": "hub"},
        {"kind": "vit", "model": "UNI", "weights": "a.bin", "revision": "x"},
        {"kind": "backbone", "backbone": "phikon", "weights": "hub"},
        {"kind": "backbone", "backbone": "phikon"},
        {"kind": "hybrid"},
        {},
    ):
        towers.find_pretrained(settings)
    assert asked == [
        ("timm:vit_small_patch16_224", "hub", ""),
        ("timm:test_vit", "hub", ""),
        ("UNI", "a.bin", "x"),
        ("phikon", "hub", ""),
    ]
    monkeypatch.undo()
    with pytest.raises(EncoderError, match=r"The weights file .*no\.bin does not exist"):
        towers.find_pretrained({"kind": "vit", "model": "uni", "weights": str(tmp_path / "no.bin")})


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        ("GatedRepoError", ["given on request", "ask for access on", "`hf auth login`"]),
        ("RepositoryNotFoundError", ["does not exist for you", "`hf auth login`"]),
        ("RevisionNotFoundError", ["no such revision"]),
        ("HfHubHTTPError", ["could not be downloaded", "try again"]),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(error, parts, tiny, monkeypatch, no_network):
    tiny("timm")

    def refuse(*_: object, **__: object) -> None:
        response = SimpleNamespace(headers={}, request=None)
        raise getattr(huggingface_hub.errors, error)("no", response=response)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "refuse_unreachable", lambda spec: None)
    with pytest.raises(EncoderError) as caught:
        load_backbone("tiny", weights="hub")
    text = str(caught.value)
    assert "https://huggingface.co/stamp/tiny" in text
    assert "\n" not in text
    for part in parts:
        assert part in text


def test_the_second_file_name_is_tried_where_the_first_is_not_in_the_repository(
    tiny, monkeypatch, no_network, tmp_path
):
    tiny("timm")
    asked = []

    def answer(_: str, file: str, **__: object) -> str:
        asked.append(file)
        if file.endswith(".safetensors"):
            raise huggingface_hub.errors.EntryNotFoundError("no")
        torch.save(load_backbone("tiny").network.state_dict(), tmp_path / file)
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)
    load_backbone("tiny", weights="hub")
    assert asked == ["model.safetensors", "pytorch_model.bin"]


def test_safetensors_written_from_a_backbone_are_read_back(tmp_path):
    backbone = load_backbone("timm:test_efficientnet")
    save_file(backbone.state_dict(), tmp_path / "w.safetensors")
    assert set(load_file(tmp_path / "w.safetensors")) == set(backbone.state_dict())
