"""Gene encoders from stage 1 on disk: ``stage1.json`` and ``weights.safetensors``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from stamp_index.encoders.checkpoint import WEIGHTS, Layout, parse_manifest, write_folder
from stamp_index.encoders.rank_transformer import SPARE_ROWS
from stamp_index.errors import EncoderError, PanelError
from stamp_index.genes import TOKEN_OFFSET, GenePanel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

FORMAT: Final = 1
MANIFEST: Final = "stage1.json"
_LAYOUT: Final = Layout(
    MANIFEST, FORMAT, {"fingerprint": str, "panel": dict, "gene_tower": dict}, "gene encoder"
)
# Not learnt in stage 1: the map of the profile, which would name the hidden genes.
_UNTRAINED: Final = "profile."
# Settings that do not change which weights a tower has, nor what they mean.
_FREE: Final = frozenset({"dropout"})
_RANKS: Final = "rank"
_TABLE: Final = "embed.weight"


def save_stage1(
    folder: Path | str,
    tower: nn.Module,
    panel: GenePanel,
    *,
    gene_tower: Mapping[str, Any],
    training: Mapping[str, Any],
) -> str:
    """Write a gene tower that stage 1 trained, and return its fingerprint.

    Parameters
    ----------
    folder : path
        Made if it is missing; the two files in it are replaced.
    tower : Module
        A ``GeneTower`` or ``RankTransformer``; its map of the profile is left out.
    panel : GenePanel
        What its tokens mean.
    gene_tower : mapping
        ``kind`` and its settings, as in a recipe.
    training : mapping
        How it was trained, as plain JSON values. Not part of the fingerprint.

    Returns
    -------
    str
        Sixteen hex characters over panel, settings and weights.

    Raises
    ------
    OSError
        As `write_folder`.
    """
    from safetensors.torch import save_file

    state = {
        name: value.detach().to("cpu", torch.float32).contiguous()
        for name, value in tower.state_dict().items()
        if not name.startswith(_UNTRAINED)
    }
    shape = {"panel": panel.to_dict(), "gene_tower": dict(gene_tower)}
    fingerprint = _fingerprint(shape, state)
    manifest = {"format": FORMAT, "fingerprint": fingerprint, **shape, "training": dict(training)}
    write_folder(Path(folder), _LAYOUT, manifest, lambda draft: save_file(state, draft))
    return fingerprint


def load_stage1(folder: Path | str) -> tuple[GenePanel, dict[str, Any], dict[str, torch.Tensor]]:
    """Load what `save_stage1` wrote.

    Returns
    -------
    panel : GenePanel
    gene_tower : dict
        ``kind`` and its settings.
    state : dict of str to Tensor
        The tower's weights, float32, without its map of the profile.

    Raises
    ------
    EncoderError
        If a file is missing or damaged, a newer release wrote it, or weights, panel and settings do not
        belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    manifest = read_stage1_manifest(folder)
    try:
        panel = GenePanel.from_dict(manifest["panel"])
    except (TypeError, ValueError, PanelError) as exc:
        msg = f"{folder / MANIFEST} is damaged ({exc}). Copy the gene encoder again."
        raise EncoderError(msg) from exc
    gene_tower, said = manifest["gene_tower"], manifest["fingerprint"]
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as exc:
        msg = f"The weights {folder / WEIGHTS} cannot be read ({exc}). Copy the gene encoder again."
        raise EncoderError(msg) from exc
    _check_shapes(folder, panel, gene_tower, state)
    found = _fingerprint({"panel": panel.to_dict(), "gene_tower": gene_tower}, state)
    if found != said:
        msg = (
            f"The gene encoder {folder} says fingerprint {said}, but its contents give {found}: a file was "
            "changed or is of another run. Copy the gene encoder again."
        )
        raise EncoderError(msg)
    return panel, gene_tower, state


def read_stage1_manifest(folder: Path | str) -> dict[str, Any]:
    """Read ``stage1.json``.

    Raises
    ------
    EncoderError
        If it is missing or damaged, or another release wrote it.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        msg = (
            f"There is no stage-1 gene encoder in {folder}: {MANIFEST} is missing. Give the folder that "
            "`stamp-index pretrain` wrote (RUN/gene_encoder)."
        )
        raise EncoderError(msg)
    return parse_manifest(path, _LAYOUT)


def start_from_stage1(
    tower: nn.Module, folder: Path | str, *, panel: GenePanel, gene_tower: Mapping[str, Any]
) -> frozenset[str]:
    """Give a tower of stage 2 the weights that stage 1 trained; its map of the profile stays as it is.

    Parameters
    ----------
    tower : Module
        Built from `gene_tower` on `panel`; changed in place, or not at all.
    folder : path
        See `load_stage1`.
    panel : GenePanel
        The tower's panel; it has to be the one of stage 1, since its columns are the token ids.
    gene_tower : mapping
        ``kind`` and settings of `tower`; settings that are missing on one side are that side's defaults and
        are compared through the weights' shapes.

    Returns
    -------
    frozenset of str
        Names of the weights that were taken over.

    Raises
    ------
    EncoderError
        As `load_stage1`; or if panel, kind or settings differ.
    """
    own_panel, settings, state = load_stage1(folder)
    if own_panel.hash != panel.hash:
        msg = (
            f"The stage-1 gene encoder {folder} has a panel of {len(own_panel)} genes ({own_panel.hash[:12]}), but "
            f"the model has one of {len(panel)} genes ({panel.hash[:12]}): token ids would name other genes. Take the "
            "panel of stage 1."
        )
        raise EncoderError(msg)
    for key in sorted((settings.keys() & gene_tower.keys()) - _FREE):
        if settings[key] != gene_tower[key]:
            msg = (
                f"The stage-1 gene encoder {folder} has gene_tower.{key} = {settings[key]!r}, but the recipe has "
                f"{gene_tower[key]!r}. Take the [gene_tower] of stage 1: {settings}."
            )
            raise EncoderError(msg)
    _check_fit(tower, state, folder)
    tower.load_state_dict(state, strict=False)
    return frozenset(state)


def _check_fit(tower: nn.Module, state: Mapping[str, torch.Tensor], folder: Path | str) -> None:
    own = {
        name: tuple(value.shape)
        for name, value in tower.state_dict().items()
        if not name.startswith(_UNTRAINED)
    }
    given = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(own.keys() | given.keys()):
        if own.get(name) != given.get(name):
            msg = (
                f"The stage-1 gene encoder {folder} is of another architecture: {name} has shape "
                f"{given.get(name, 'none')} there and {own.get(name, 'none')} in the recipe's gene tower. Take the "
                "[gene_tower] of stage 1."
            )
            raise EncoderError(msg)


def _check_shapes(
    folder: Path,
    panel: GenePanel,
    gene_tower: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
) -> None:
    """Refuse weights of another panel or another tower than the manifest's, and say which."""
    lost = [name for name in (_TABLE, _RANKS) if name not in state]
    if lost:
        msg = f"The weights {folder / WEIGHTS} lack {', '.join(lost)}. Copy the gene encoder again."
        raise EncoderError(msg)
    rows, width = state[_TABLE].shape
    least = len(panel) + TOKEN_OFFSET
    if rows not in (least, least + SPARE_ROWS):
        msg = (
            f"The weights {folder / WEIGHTS} hold {rows} gene embeddings, but the panel's {len(panel)} genes need "
            f"{least}: they are of another panel. Copy the gene encoder again."
        )
        raise EncoderError(msg)
    found = {"context": len(state[_RANKS]), "width": width}
    for key, value in found.items():
        if gene_tower.get(key, value) != value:
            msg = (
                f"The weights {folder / WEIGHTS} have {key} {value}, but {MANIFEST} says {gene_tower[key]}: they "
                "are of another gene encoder. Copy it again."
            )
            raise EncoderError(msg)


def _fingerprint(shape: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name in sorted(state):
        array = state[name].numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
