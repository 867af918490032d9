"""``stamp-index import-model``: published weights become a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.group("import-model")
def import_model() -> None:
    """Turn published weights that you have downloaded into a checkpoint.

    Without --out it lies where `--encoder published:NAME` finds it. You need the right to use the weights.
    """


@import_model.command("stamp")
@click.argument("checkpoint", type=_PATH)
@click.option(
    "--assets",
    required=True,
    type=_PATH,
    help="Folder with model.h5ad, Visium_mean.npy and gene_name_id_dict.pkl.",
)
@click.option("--out", type=_PATH, help="Checkpoint folder to write.")
@click.option("--name", default="stamp", show_default=True, help="Of the encoder.")
@click.option("--bgr", is_flag=True, help="The weights were trained on BGR images.")
@click.option("--gene-heads", type=int, help="Attention heads; default: of the published size.")
@click.option("--vision-heads", type=int, help="Attention heads; default: usual for the width.")
def import_stamp_command(
    checkpoint: Path,
    assets: Path,
    *,
    out: Path | None,
    name: str,
    bgr: bool,
    gene_heads: int | None,
    vision_heads: int | None,
) -> None:
    """Import STAMP's published CHECKPOINT (pytorch_model.bin or .safetensors)."""
    from stamp_index.encoders.published.importing import STAMP_TERMS, import_stamp
    from stamp_index.encoders.published.locate import model_folder

    folder = out or model_folder(name)
    click.echo(STAMP_TERMS, err=True)
    heads = (gene_heads, vision_heads)
    fingerprint = import_stamp(checkpoint, assets, folder, heads=heads, bgr=bgr, name=name)
    _say(folder, name, fingerprint, out)


@import_model.command("seal")
@click.argument("checkpoint", type=_PATH)
@click.option(
    "--assets",
    required=True,
    type=_PATH,
    help="Folder with genes.txt, the model's genes in order, and perhaps gene_stats.csv.",
)
@click.option("--out", type=_PATH, help="Checkpoint folder to write.")
@click.option("--name", default="seal", show_default=True, help="Of the encoder.")
@click.option("--vision", type=_PATH, help="seal_BACKBONE_vision.pth, for image queries.")
@click.option("--backbone", help="The backbone's own weights: a file, or 'hub'.")
@click.option("--backbone-name", help="conch or uni2-h, or another name of the registry.")
def import_seal_command(
    checkpoint: Path,
    assets: Path,
    *,
    out: Path | None,
    name: str,
    vision: Path | None,
    backbone: str | None,
    backbone_name: str | None,
) -> None:
    """Import SEAL's published gene model CHECKPOINT (seal_BACKBONE_omics.pth)."""
    from stamp_index.encoders.published.importing import SEAL_TERMS, import_seal
    from stamp_index.encoders.published.locate import model_folder

    sides = None
    if vision and backbone and backbone_name:
        sides = (vision, backbone_name, backbone)
    elif vision or backbone or backbone_name:
        msg = "--vision, --backbone and --backbone-name go together: LoRA changes weights that it does not hold."
        raise click.UsageError(msg)
    folder = out or model_folder(name)
    click.echo(SEAL_TERMS, err=True)
    fingerprint = import_seal(checkpoint, assets, folder, vision=sides, name=name)
    if sides is None:
        click.echo("Gene side alone: this encoder refuses images.", err=True)
    _say(folder, name, fingerprint, out)


def _say(folder: Path, name: str, fingerprint: str, out: Path | None) -> None:
    how = folder if out else f"published:{name}"
    click.echo(f"{folder}: encoder {name} {fingerprint}; use it as --encoder {how}")
