"""Checkpoints whose manifest somebody edited, fingerprint and all: loading them gives the library's own errors."""

from __future__ import annotations

import copy
import json
from contextlib import suppress

import pytest
from safetensors.numpy import load_file

from stamp_index.encoders import load_encoder, save_encoder
from stamp_index.encoders.checkpoint import _fingerprint
from stamp_index.encoders.manifest_checks import CONFIGS
from stamp_index.encoders.published.importing import import_seal, import_stamp
from stamp_index.encoders.trained_encoder import TrainedEncoder
from stamp_index.errors import StampIndexError
from tests.published_files import STAMP_HEADS, write_seal, write_stamp
from tests.test_damaged_files import write_ridge
from tests.trainer_world import PIXELS, fresh_model, small_slides
from trainer.data import fit_gene_input
from trainer.recipe_file import load_recipe

TOP = ("format", "fingerprint", "kind", "name", "config", "panel", "prepared_id", "training")
PANEL = tuple(
    f"panel.{key}" for key in ("genes", "genes.0", "means", "means.0", "species", "normalisation", "hash")
)  # fmt: skip
SPECS = tuple(
    f"{side}{key}" for side in ("patch", "region") for key in ("", ".width_um", ".size_px")
)
GENE_INPUT = tuple(
    f"config.gene_input{key}"
    for key in (
        *("", ".context", ".around", ".around.niche", ".around.scales", ".around.scales.0"),
        *(f".around.scales.0.{key}" for key in ("k", "radius_um", "self_weight")),
    )
)
MODEL = (
    *SPECS, "dim", "sides", "sides.0", "localised", "region_sees_patch", "retrieval",
    *("image_tower", "gene_tower", "region_tower", "niche_tower", "head", "fusion", "decoders", "direct"),
    *(f"image_tower.{key}" for key in ("kind", "depth", "base", "width")),
    *(f"gene_tower.{key}" for key in ("kind", "width", "hidden", "hidden.0")),
    "head.kind",
)  # fmt: skip
# Every key of a manifest but those of `training`, which decides nothing; of a list the first member.
KEYS = {
    "trained": (
        *TOP,
        *PANEL,
        *GENE_INPUT,
        *("config.preprocessing", "config.model"),
        *(f"config.model.{key}" for key in MODEL),
    ),
    "ridge": (
        *TOP,
        *PANEL,
        *GENE_INPUT,
        "config.preprocessing",
        *(f"config.{key}" for key in SPECS),
    ),
    "published_stamp": (
        *TOP,
        *PANEL,
        *("config.preprocessing", "config.options", "config.vocabulary"),
        *(f"config.options.{key}" for key in ("gene_heads", "vision_heads", "compat", "bgr")),
        *("config.vocabulary.gene_ids", "config.vocabulary.gene_ids.0"),
        *("config.vocabulary.synonyms", "config.vocabulary.synonyms.OLDNAME"),
    ),
    "published_seal": (*TOP, *PANEL, "config.preprocessing", "config.backbone"),
}
# What loading can do without, as the default stands for it, it is written for people, or nothing refers to it.
SPARE = {
    *("panel.normalisation", "panel.hash", "config.preprocessing"),
    *("config.options.compat", "config.options.bgr", "config.vocabulary.synonyms.OLDNAME"),
    *("config.model.head.kind", "config.model.image_tower.width", "config.model.image_tower.base"),
    *("config.model.gene_tower.width", "config.model.gene_tower.hidden"),
}
# Without it a list is shorter, and without these two others are taken: other words then say what does not fit.
SHORTER = {"genes.0", "means.0", "scales.0", "sides.0", "hidden.0", "gene_ids.0", "image_tower.kind", "gene_tower.kind", "image_tower.depth"}  # fmt: skip


def write_trained(folder):
    recipe, slides = load_recipe("clip", PIXELS), small_slides(2, 20)
    gene_input = fit_gene_input(recipe, slides)
    model = fresh_model(recipe, gene_input)
    save_encoder(TrainedEncoder(model, gene_input, name="clip", fingerprint=""), folder)


def write_published_stamp(folder):
    import_stamp(*write_stamp(folder), folder, heads=STAMP_HEADS)


def write_published_seal(folder):
    import_seal(*write_seal(folder), folder)


WRITERS = {
    "trained": write_trained,
    "ridge": write_ridge,
    "published_stamp": write_published_stamp,
    "published_seal": write_published_seal,
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A small checkpoint of every kind."""
    made = {}
    for kind, write in WRITERS.items():
        made[kind] = tmp_path_factory.mktemp(kind)
        write(made[kind])
    return made


def keys_of(values, prefix=""):
    """Dotted keys of nested values; of a list the first member's."""
    items = values.items() if isinstance(values, dict) else [(0, values[0])] if values else []
    for key, value in items:
        yield f"{prefix}{key}"
        if isinstance(value, (dict, list)) and f"{prefix}{key}" != "training":
            yield from keys_of(value, f"{prefix}{key}.")


def edited(checkpoint, folder, key, change):
    """Copy a checkpoint with its manifest changed at a key, and the fingerprint that goes with it."""
    manifest = copy.deepcopy(json.loads((checkpoint / "encoder.json").read_text()))
    *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    place = manifest
    for part in path:
        place = place[part]
    change(place, last)
    arrays = load_file(checkpoint / "weights.safetensors")
    parts = ("kind", "name", "config", "panel", "prepared_id")
    if key != "fingerprint" and all(part in manifest for part in parts):
        manifest["fingerprint"] = _fingerprint({part: manifest[part] for part in parts}, arrays)
    (folder / "encoder.json").write_text(json.dumps(manifest))
    (folder / "weights.safetensors").hardlink_to(checkpoint / "weights.safetensors")
    return folder


def remove(place, key):
    del place[key]


ALL = [pytest.param(kind, key, id=f"{kind} {key}") for kind, keys in KEYS.items() for key in keys]


def test_every_key_of_every_kind_is_tried(checkpoints):
    assert set(CONFIGS) == set(KEYS)
    for kind, checkpoint in checkpoints.items():
        manifest = json.loads((checkpoint / "encoder.json").read_text())
        assert manifest["kind"] == kind
        assert set(keys_of(manifest)) == set(KEYS[kind])
        load_encoder(checkpoint)


@pytest.mark.parametrize(("kind", "key"), ALL)
def test_a_key_that_is_gone_is_named(checkpoints, tmp_path, kind, key):
    checkpoint = edited(checkpoints[kind], tmp_path, key, remove)
    if key in SPARE:
        loads_or_refuses(checkpoint)
        return
    with pytest.raises(StampIndexError) as caught:
        load_encoder(checkpoint)
    last = key.rpartition(".")[2]
    assert last in str(caught.value) or any(key.endswith(end) for end in SHORTER)


@pytest.mark.parametrize("value", [None, ["x", 2], 7, "x"], ids=["null", "list", "number", "text"])
@pytest.mark.parametrize(("kind", "key"), ALL)
def test_another_value_gives_an_encoder_or_an_error_of_the_library(
    checkpoints, tmp_path, kind, key, value
):
    loads_or_refuses(
        edited(checkpoints[kind], tmp_path, key, lambda place, last: place.__setitem__(last, value))
    )


def loads_or_refuses(checkpoint):
    """Anything but one of the library's own errors fails the test that calls this."""
    with suppress(StampIndexError):
        assert load_encoder(checkpoint).dim > 0
