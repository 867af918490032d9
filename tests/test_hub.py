"""Weights from the hub: its cache, what it refuses, and a hub that cannot be reached."""

from __future__ import annotations

import socket
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

from stamp_index.encoders import backbones, hub, towers
from stamp_index.encoders.backbones import load_backbone
from stamp_index.errors import EncoderError


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


def test_nothing_is_asked_of_the_hub_unless_the_user_does(no_network, tiny_backbone, monkeypatch):
    tiny_backbone("timm")
    for name in ("hf_hub_download", "try_to_load_from_cache"):
        monkeypatch.setattr(huggingface_hub, name, None)
    load_backbone("tiny")
    load_backbone("timm:test_vit")


def test_a_file_in_the_hubs_cache_is_enough(no_network, tiny_backbone):
    tiny_backbone("timm")
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
def test_without_network_one_sentence_says_what_to_do(name, no_network, tiny_backbone):
    tiny_backbone("timm")
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
    tiny_backbone, monkeypatch, hub_at, closed_port, gated
):
    spec = tiny_backbone("timm")
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


def test_a_name_that_nobody_knows_is_a_hub_that_cannot_be_reached(
    tiny_backbone, monkeypatch, hub_at
):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(EncoderError, match="hub.invalid cannot be reached"):
        hub.refuse_unreachable(tiny_backbone("timm"))


def test_timms_own_weights_are_looked_for_before_anything_is_built(
    monkeypatch, hub_at, closed_port
):
    hub_at(closed_port)
    monkeypatch.setattr(backbones, "_build", never)
    with pytest.raises(EncoderError, match="timm's test_vit are not .* cannot be reached"):
        load_backbone("timm:test_vit", weights="hub")


def test_addresses_of_one_protocol_that_lead_nowhere_do_not_hide_those_of_the_other(
    tiny_backbone, monkeypatch, hub_at, closed_port
):
    def found(host, port, **rest):
        dead = [(socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", closed_port, 0, 0))]
        live = (socket.AF_INET, socket.SOCK_STREAM, 0, "", server.getsockname())
        return [*dead * 4, live]

    with socket.create_server(("127.0.0.1", 0)) as server:
        hub_at(server.getsockname()[1])
        monkeypatch.setattr(socket, "getaddrinfo", found)
        hub.refuse_unreachable(tiny_backbone("timm"))


def test_a_hub_that_answers_a_proxy_and_a_cache_are_left_to_the_client(
    tiny_backbone, monkeypatch, hub_at, closed_port, tmp_path
):
    spec = tiny_backbone("timm")
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
def test_what_the_hub_refuses_is_one_sentence(error, parts, tiny_backbone, monkeypatch, no_network):
    tiny_backbone("timm")

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
    tiny_backbone, monkeypatch, no_network, tmp_path
):
    tiny_backbone("timm")
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
