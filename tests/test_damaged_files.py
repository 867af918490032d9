"""Full disks and damaged files: encoders, gene encoders, prepared images and published weights."""

from __future__ import annotations

import contextlib
import json
import random
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from stamp_index.encoders import FeatureCache, load_encoder, read_manifest, save_encoder
from stamp_index.encoders.backbone_weights import read_state
from stamp_index.encoders.gene_input import GeneInput
from stamp_index.encoders.gene_tower import GeneTower
from stamp_index.encoders.ridge_encoder import RidgeEncoder
from stamp_index.encoders.stage1_weights import load_stage1, read_stage1_manifest, save_stage1
from stamp_index.errors import EncoderError
from stamp_index.genes import GenePanel
from stamp_index.slides import PatchSpec
from tests.support import toy_slide

PANEL = GenePanel(("A", "B", "C", "D"), (1.0, 2.0, 3.0, 4.0))
STAGE1 = {"kind": "rank_profile", "context": 6, "width": 8, "depth": 1, "heads": 2}


@contextlib.contextmanager
def no_file_above(n_bytes):
    """Let the system refuse to write more than so much to a file, as it does on a full disk.

    Python ignores the signal that goes with it; the soft limit alone is set, so that it can be taken back. No
    bytecode is written meanwhile, which would be cut off too and stay so.
    """
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        with mock.patch.object(sys, "dont_write_bytecode", new=True):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ridge(value=1.0, dim=3):
    ones = np.ones((1, 4), np.float32)
    gene_input = GeneInput(PANEL, ones[0], ones, 6)
    axes = {"axes": np.full((4, dim), value, np.float32)}
    return RidgeEncoder(gene_input, axes, (PatchSpec(112.0, 96), PatchSpec(336.0, 96)))


def write_ridge(folder, value=1.0, dim=3):
    return save_encoder(ridge(value, dim), folder, training={"seed": 0})


def write_stage1(folder, seed=0):
    torch.manual_seed(seed)
    own = {key: value for key, value in STAGE1.items() if key != "kind"}
    return save_stage1(folder, GeneTower(4, **own), PANEL, gene_tower=STAGE1, training={})


# --- full disks ---


@pytest.mark.parametrize("limit", [200, 1100], ids=["no room for weights", "nor for the manifest"])
def test_a_checkpoint_that_finds_no_room_is_named_and_the_one_before_stays(tmp_path, limit):
    first = write_ridge(tmp_path)
    before = contents(tmp_path)
    sizes = len(before["weights.safetensors"]), len(before["encoder.json"])
    assert 200 < sizes[0] < 1100  # or else it is not the file that is meant
    path = tmp_path / "encoder.json"
    long = {"note": "x" * 2000}
    with (
        no_file_above(limit),
        pytest.raises(OSError, match=rf"checkpoint {tmp_path} was not written \(.*Make space"),
    ):
        save_encoder(ridge(2.0), tmp_path, training=long)
    assert contents(tmp_path) == before
    assert (
        json.loads(path.read_text())["fingerprint"] == first == load_encoder(tmp_path).fingerprint
    )


def test_a_gene_encoder_that_finds_no_room_is_named_and_leaves_nothing(tmp_path):
    with (
        no_file_above(400),
        pytest.raises(OSError, match=rf"gene encoder {tmp_path} was not written \(.*Make space"),
    ):
        write_stage1(tmp_path)
    assert contents(tmp_path) == {}


def test_prepared_images_that_find_no_room_are_named_and_leave_nothing(tmp_path):
    preparer = SimpleNamespace(
        prepared_id=lambda side: "mean",
        prepare=lambda images, side: images[:, ::8, ::8].astype(np.float16),
    )
    slide, cache = toy_slide("A", n_spots=30, seed=1), FeatureCache(tmp_path, preparer)
    with (
        no_file_above(4096),
        pytest.raises(
            OSError, match=rf"prepared images {tmp_path}/A-\w+\.npy were not .*Make space"
        ),
    ):
        cache.patches(slide, PatchSpec(112.0, 96))
    assert contents(tmp_path) == {}
    assert cache.patches(slide, PatchSpec(112.0, 96)).shape == (30, 12, 12, 3)


# --- damaged manifests ---

KEPT = {
    "encoder.json": (write_ridge, read_manifest, load_encoder),
    "stage1.json": (write_stage1, read_stage1_manifest, load_stage1),
}
OTHER_THINGS = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a text": b'"x"',
    "no format": b"{}",
    "a format in words": b'{"format": "2"}',
    "a format with a fraction": b'{"format": 2.5}',
    "no UTF-8": b'{"format": "\xff"}',
    "nested without end": b"[" * 100_000,
    "a number without end": b"1" * 10_000,
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("content", OTHER_THINGS.values(), ids=OTHER_THINGS)
def test_a_manifest_that_is_something_else_is_called_damaged(tmp_path, name, content):
    write, *readers = KEPT[name]
    write(tmp_path)
    (tmp_path / name).write_bytes(content)
    for read in readers:
        with pytest.raises(EncoderError, match=rf"{name} is damaged \(.*Copy the \w+ ?\w* again"):
            read(tmp_path)


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("value", [None, 5, [], ["x"]], ids=["gone", "number", "list", "texts"])
def test_a_manifest_whose_field_is_missing_or_of_another_type_is_called_damaged(
    tmp_path, name, value
):
    write, *readers = KEPT[name]
    write(tmp_path)
    path = tmp_path / name
    whole = json.loads(path.read_text())
    optional = {"training"} if name == "stage1.json" else set()
    for field in whole.keys() - {"format"} - optional:
        changed = {key: found for key, found in whole.items() if key != field}
        path.write_text(json.dumps(changed if value is None else {**whole, field: value}))
        for read in readers:
            with pytest.raises(EncoderError, match=rf"{name} is damaged \(it has no {field} that"):
                read(tmp_path)


def test_an_encoder_of_an_unknown_kind_says_which_are_known(tmp_path):
    write_ridge(tmp_path)
    path = tmp_path / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "crystal"}))
    with pytest.raises(EncoderError, match="kind 'crystal'; this release knows trained, ridge"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", KEPT)
def test_a_manifest_of_another_release_says_so_whatever_else_it_holds(tmp_path, name):
    for number, words in ((99, "Install a newer stamp-index"), (0, "of an early release")):
        (tmp_path / name).write_text(json.dumps({"format": number}))
        with pytest.raises(EncoderError, match=words):
            KEPT[name][1](tmp_path)


# --- damaged weights ---


def damaged(whole, seed):
    """The bytes of a file with up to three of them changed, or its end cut off."""
    rng = random.Random(seed)
    if rng.random() < 0.3:
        return whole[: rng.randrange(len(whole))]
    changed = bytearray(whole)
    for _ in range(rng.choice((1, 1, 3))):
        changed[rng.randrange(len(whole))] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_damaged_file_of_tensors_is_refused_in_words_or_read_as_tensors(tmp_path, zipped):
    path = tmp_path / "weights.bin"
    state = {"a.weight": torch.ones(3, 4), "b": torch.ones(2), "n": torch.tensor(3)}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    whole, refusals = path.read_bytes(), []
    for seed in range(150):
        path.write_bytes(damaged(whole, seed))
        try:
            found = read_state(path)
        except EncoderError as exc:  # nothing else may come out
            refusals.append(str(exc))
        else:
            assert all(isinstance(key, str) for key in found), seed
            assert all(isinstance(value, torch.Tensor) for value in found.values()), seed
    assert len(refusals) > 50
    assert all(str(path) in message for message in refusals)


def test_a_file_that_fails_without_a_word_names_the_kind_of_failure(tmp_path):
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "cut.bin").write_bytes(b"\x80\x02")
    for name in ("empty.bin", "cut.bin"):
        with pytest.raises(EncoderError, match=rf"{name} is damaged or .* not read \(\w+"):
            read_state(tmp_path / name)


def test_names_that_are_no_texts_are_no_state_dict(tmp_path):
    torch.save({1: torch.ones(2)}, tmp_path / "numbers.pt")
    with pytest.raises(EncoderError, match="not a state dict"):
        read_state(tmp_path / "numbers.pt")
