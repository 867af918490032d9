"""Turns published weights and their assets into a checkpoint folder of this library."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from stamp_index.encoders.backbones import load_backbone
from stamp_index.encoders.checkpoint import save_encoder
from stamp_index.encoders.published.assets import asset_files, read_gene_list, read_vocabulary
from stamp_index.encoders.published.locate import checked_name
from stamp_index.encoders.published.seal_encoder import PublishedSealEncoder, SealVision
from stamp_index.encoders.published.seal_model import (
    build_vae,
    linear,
    merge_lora,
    projection_of,
    published_seal_state,
)
from stamp_index.encoders.published.stamp_encoder import PublishedStampEncoder
from stamp_index.encoders.published.stamp_model import PublishedStamp, StampOptions, stamp_heads
from stamp_index.encoders.published.state import read_published
from stamp_index.errors import EncoderError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from stamp_index.encoders.published.state import State

STAMP_TERMS: Final = (
    "STAMP's repository (github.com/Hanminghao/STAMP) has no licence: you need its authors' leave to use the "
    "weights, and its image encoder starts from UNI, which is CC-BY-NC-ND-4.0."
)
SEAL_TERMS: Final = (
    "SEAL's repository (github.com/mahmoodlab/SEAL) has no licence and its weights are gated on Hugging Face: the "
    "terms of their page and of the backbone apply."
)


def import_stamp(
    checkpoint: Path,
    assets: Path,
    out: Path,
    *,
    heads: tuple[int | None, int | None] = (None, None),
    bgr: bool = False,
    name: str = "stamp",
) -> str:
    """Write published STAMP weights as a checkpoint and return its fingerprint.

    Parameters
    ----------
    checkpoint : Path
        See `read_published`.
    assets : Path
        See `read_vocabulary`.
    out : Path
        Checkpoint folder; its two files are replaced if they are there.
    heads : pair of int or None
        Attention heads of gene encoder and ViT, where their widths do not tell.
    bgr : bool
        Turn the order of colours round (`StampOptions`).
    name : str
        Of the encoder; see `checked_name`.

    Raises
    ------
    EncoderError
        If a file is missing, damaged or of another model; nothing is written then.
    """
    checked_name(name)
    vocabulary = read_vocabulary(assets)
    state = read_published(checkpoint)
    gene_heads, vision_heads = stamp_heads(state, gene=heads[0], vision=heads[1])
    options = StampOptions(gene_heads, vision_heads, compat=True, bgr=bgr)
    model = PublishedStamp.from_published(state, options)
    encoder = PublishedStampEncoder(model, vocabulary, options, name=name)
    source = _source("STAMP (arXiv 2602.13944)", STAMP_TERMS, [checkpoint, *asset_files(assets)])
    return save_encoder(encoder, out, training=source)


def import_seal(
    checkpoint: Path,
    assets: Path,
    out: Path,
    *,
    vision: tuple[Path, str, str] | None = None,
    name: str = "seal",
) -> str:
    """Write published SEAL weights as a checkpoint and return its fingerprint.

    Parameters
    ----------
    checkpoint : Path
        The gene model, ``seal_BACKBONE_omics.pth``.
    assets : Path
        See `read_gene_list`.
    out : Path
        Checkpoint folder; its two files are replaced if they are there.
    vision : tuple of (Path, str, str), optional
        The vision model ``seal_BACKBONE_vision.pth``, which holds LoRA; the backbone's name in the registry;
        and its weights, a file or ``hub``. Without it the encoder refuses images.
    name : str
        Of the encoder; see `checked_name`.

    Raises
    ------
    EncoderError
        If a file is missing, damaged or of another model; nothing is written then.
    """
    checked_name(name)
    state = read_published(checkpoint)
    vae = build_vae(published_seal_state(state))
    genes = read_gene_list(assets, state["encoder.0.weight"].shape[1])
    projection = projection_of(state)
    files = [checkpoint, *asset_files(assets)]
    image = None
    if vision is not None:
        files.append(vision[0])
        image = _seal_vision(read_published(vision[0]), vision[1:], has_projection=bool(projection))
    encoder = PublishedSealEncoder(
        vae, genes, vision=image, projection=_linear(projection), name=name
    )
    source = _source("SEAL (arXiv 2602.14177)", SEAL_TERMS, files)
    return save_encoder(encoder, out, training=source)


def _seal_vision(state: State, backbone: tuple[str, str], *, has_projection: bool) -> SealVision:
    name, weights = backbone
    projection = projection_of(state)
    if bool(projection) != has_projection:
        with_it = "gene" if has_projection else "vision"
        msg = (
            f"Only SEAL's {with_it} checkpoint holds a projection head: the two are of different runs and their "
            "embeddings do not meet. Give the gene and the vision file of one backbone."
        )
        raise EncoderError(msg)
    loaded = load_backbone(name, weights=weights)
    merge_lora(loaded.network, state)
    return SealVision(name, loaded, _linear(projection))


def _linear(state: State) -> nn.Module | None:
    return linear(state) if state else None


def _source(model: str, terms: str, files: list[Path]) -> dict[str, Any]:
    """Say in the manifest where the weights came from."""
    return {
        "published": model,
        "terms": terms,
        "files": {path.name: _sha256(path) for path in files if path.is_file()},
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
