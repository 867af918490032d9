"""Small stand-ins for the files that others publish: their names and layout, with random numbers."""

from __future__ import annotations

import csv
import pickle
from typing import TYPE_CHECKING

import h5py
import numpy as np
import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

GENE_IDS = tuple(f"ENSG{n:011d}" for n in range(40))
SYMBOLS = {f"GENE{n}": GENE_IDS[n] for n in range(38)} | {"OLDNAME": GENE_IDS[3]}
STAMP_HEADS = (4, 2)


def random_like(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def linear(name: str, n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def gene_shapes(width: int = 16, ffn: int = 24, context: int = 12) -> dict[str, tuple[int, ...]]:
    layer = {
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        **linear("self_attn.out_proj", width, width),
        **linear("linear1", width, ffn),
        **linear("linear2", ffn, width),
        **{f"norm{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")},
    }
    places = ("encoder_layer.", "encoder.layers.0.", "encoder.layers.1.")
    return {
        "embeddings.weight": (len(GENE_IDS) + 35, width),
        "positional_embedding.weight": (context, width),
        **{place + name: shape for place in places for name, shape in layer.items()},
        **linear("classifier_head", width, len(GENE_IDS) + 30),
        **linear("spatial_classifier_head", width, len(GENE_IDS) + 30),
    }


def vit_shapes(width: int = 16, patch: int = 8, side: int = 4) -> dict[str, tuple[int, ...]]:
    block = {
        **linear("attn.qkv", width, 3 * width),
        **linear("attn.proj", width, width),
        **linear("mlp.fc1", width, 2 * width),
        **linear("mlp.fc2", 2 * width, width),
        **{f"norm{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")},
        "ls1.gamma": (width,),
        "ls2.gamma": (width,),
    }
    return {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + side**2, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        **{f"blocks.{n}.{name}": shape for n in range(2) for name, shape in block.items()},
        "norm.weight": (width,),
        "norm.bias": (width,),
    }


def stamp_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """A STAMP checkpoint of 40 genes, 12 ranks and images of 32 px, under the published names."""
    shapes = {
        "logit_scale": (),
        **linear("spot_projection", 16, 10),
        **{
            k: v
            for n in ("patch", "region", "positioning")
            for k, v in linear(f"{n}_projection", 16, 10).items()
        },
        **{f"spot_backbone.{name}": shape for name, shape in gene_shapes().items()},
        **{f"visual_backbone.base_model.{name}": shape for name, shape in vit_shapes().items()},
        "visual_backbone.p_visual": (1, 1, 16),
        **linear("visual_backbone.ref_pos_embed", 16, 16),
    }
    return random_like(shapes, seed)


def stamp_means(seed: int = 0) -> np.ndarray:
    means = np.random.default_rng(seed).uniform(0.2, 9.0, len(GENE_IDS))
    means[5] = np.nan  # never seen in the corpus
    return means


def write_stamp_assets(folder: Path, *, original: bool = True) -> Path:
    """The assets as the STAMP repository has them, or as plain CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    if not original:
        _write_csv(
            folder / "vocabulary.csv",
            ["ensembl_id", "mean"],
            zip(GENE_IDS, stamp_means(), strict=True),
        )
        _write_csv(folder / "symbol_to_ensembl.csv", ["symbol", "ensembl_id"], SYMBOLS.items())
        return folder
    with h5py.File(folder / "model.h5ad", "w") as file:
        var = file.create_group("var")
        var.create_dataset("_index", data=list(GENE_IDS))
        var.attrs["_index"] = "_index"
    np.save(folder / "Visium_mean.npy", stamp_means())
    (folder / "gene_name_id_dict.pkl").write_bytes(pickle.dumps(SYMBOLS))
    return folder


def write_stamp(folder: Path) -> tuple[Path, Path]:
    """Checkpoint and assets."""
    assets = write_stamp_assets(folder / "assets")
    save_file(stamp_state(), folder / "stamp.safetensors")
    return folder / "stamp.safetensors", assets


def seal_state(
    n_genes: int = 30,
    hidden: tuple[int, int] = (12, 8),
    latent: int = 64,
    *,
    projection: bool = False,
) -> dict[str, torch.Tensor]:
    """A SEAL gene model under the published names."""
    a, b = hidden
    shapes = {
        **linear("encoder.0", n_genes, a),
        **linear("encoder.4", a, b),
        **linear("fc_mu", b, latent),
        **linear("fc_logvar", b, latent),
        **linear("decoder.0", latent, b),
        **linear("decoder.2", b, a),
        **linear("decoder.5", a, n_genes),
        **{f"flows.{n}.{k}": ((1,) if k == "b" else (latent,)) for n in range(3) for k in "wub"},
        **{
            f"encoder.{n}.{k}": (size,)
            for n, size in ((1, a), (5, b))
            for k in ("weight", "bias", "running_mean")
        },
        **(linear("projection_head", latent, latent) if projection else {}),
    }
    state = random_like(shapes)
    for n, size in ((1, a), (5, b)):
        state[f"encoder.{n}.running_var"] = (
            torch.rand(size, generator=torch.Generator().manual_seed(n)) + 0.5
        )
        state[f"encoder.{n}.num_batches_tracked"] = torch.tensor(7)
    return state


def write_seal(folder: Path, *, stats: bool = False, projection: bool = False) -> tuple[Path, Path]:
    """Gene checkpoint as the authors save it, and assets."""
    assets = folder / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    genes = [f"GENE{n}" for n in range(30)]
    (assets / "genes.txt").write_text("\n".join(genes) + "\n")
    if stats:
        _write_csv(
            assets / "gene_stats.csv",
            ["gene", "mean", "std"],
            [(gene, 0.5 + n / 30, 0.1 + n / 60) for n, gene in enumerate(genes)],
        )
    state = {f"module.{name}": value for name, value in seal_state(projection=projection).items()}
    torch.save({"state_dict": state, "epoch": 10}, folder / "seal_omics.pth")
    return folder / "seal_omics.pth", assets


def _write_csv(path: Path, head: list[str], rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows([["" if value != value else value for value in row] for row in rows])
