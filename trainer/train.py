"""Train a recipe on slides: ``python -m trainer.train SLIDE... --hold-out-patient P --out RUN``.

A run's folder holds ``split.json``, ``log.jsonl``, ``losses.png``, ``state.pt`` (to resume from), the
checkpoint ``encoder/`` and the closed-form floor ``ridge/`` fitted on the same slides.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch
from tqdm import tqdm

from stamp_index.encoders.checkpoint import save_encoder
from stamp_index.encoders.features import FeatureCache
from stamp_index.encoders.image_tower import HybridTower
from stamp_index.encoders.model import StampModel
from stamp_index.encoders.ridge_encoder import RidgeEncoder, mean_token
from stamp_index.encoders.stamp_encoder import StampEncoder
from stamp_index.errors import StampIndexError
from stamp_index.readers import SlideOptions, find_slides, read
from trainer.data import assemble, fit_gene_input
from trainer.initialise import start_from_statistics
from trainer.loop import LOG, STATE, Run, train
from trainer.plot import plot_losses
from trainer.recipe import Recipe, RecipeError, load_recipe
from trainer.split import make_split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.encoders.gene_input import GeneInput
    from stamp_index.slides import Slide
    from trainer.data import TrainingSet

_RIDGE_AXES = 32


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--recipe", "recipe_name", default="stamp", help="Name of a recipe, or a .toml file.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--hold-out-patient", multiple=True, help="Patients kept out of training.")
@click.option("--hold-out-slide", multiple=True, help="Slides kept out of training.")
@click.option("--gene", "always", multiple=True, help="A gene that the panel must hold.")
@click.option("--set", "overrides", multiple=True, help="section.key=value of the recipe.")
@click.option("--mpp", type=float, help="Microns per pixel, where the slides do not say.")
@click.option("--features", type=click.Path(path_type=Path), help="Folder of the feature cache.")
@click.option("--seed", default=0, show_default=True)
@click.option("--quiet", is_flag=True, help="No progress bars.")
def main(**options: object) -> None:
    """Train a recipe on slides (folders or counts files; a folder of slides is searched)."""
    try:
        run_training(**options)  # type: ignore[arg-type]
    except (StampIndexError, ValueError, OSError) as exc:
        notes = getattr(exc, "__notes__", ())
        raise click.ClickException("\n".join([str(exc), *notes])) from exc


def run_training(  # noqa: PLR0913 - one argument per command-line option
    *,
    paths: Sequence[Path],
    recipe_name: str,
    out: Path,
    hold_out_patient: Sequence[str],
    hold_out_slide: Sequence[str],
    always: Sequence[str],
    overrides: Sequence[str],
    mpp: float | None,
    features: Path | None,
    seed: int,
    quiet: bool,
) -> str:
    """Read, split, prepare, train and save; returns the encoder's fingerprint."""
    recipe = load_recipe(recipe_name, tuple(overrides))
    slides = [read(path, SlideOptions(mpp=mpp)) for given in paths for path in find_slides(given)]
    if not slides:
        msg = (
            f"There is no slide at or below {', '.join(map(str, paths))}. Give Space Ranger folders or counts "
            "files of legacy ST sections."
        )
        raise RecipeError(msg)
    split = make_split(slides, hold_out_patient, hold_out_slide)
    training = [slide for slide in slides if slide.slide_id in split.train]
    click.echo(split.describe())
    torch.manual_seed(seed)
    gene_input = fit_gene_input(recipe, training, always)
    record = {
        "recipe": recipe.to_dict(),
        "seed": seed,
        "split": split.to_dict(),
        "panel": gene_input.panel.hash,
        "slides": {slide.slide_id: _content(slide) for slide in training},
    }
    _check_same_run(out, record)
    split.save(out)
    model = _build(recipe, len(gene_input.panel))
    n_images = sum(slide.n_spots for slide in training) * (1 + recipe.n_placements)
    with tqdm(total=n_images, unit="image", desc="preparing images", disable=quiet) as bar:
        cache = FeatureCache(features or out / "features", model.image, progress=bar.update)
        data = assemble(recipe, training, gene_input, cache, seed=seed)
    start_from_statistics(model, data, gene_input.context)
    train(recipe, model, data, Run(out, seed, quiet))
    encoder = StampEncoder(model, gene_input, name=recipe.name, fingerprint="")
    fingerprint = save_encoder(encoder, out / "encoder", training=record)
    if isinstance(model.image, HybridTower):  # ridge needs a frozen trunk's features
        save_encoder(_fit_ridge(recipe, gene_input, data), out / "ridge", training=record)
    plot_losses(out / LOG, out / "losses.png")
    click.echo(f"Encoder {recipe.name} {fingerprint} is in {out / 'encoder'}.")
    return fingerprint


def _build(recipe: Recipe, n_genes: int) -> StampModel:
    """Build the model; the checkpoint's config names no pretrained file, since it holds every weight."""
    try:
        model = StampModel(recipe.model, n_genes)
    except (TypeError, ValueError) as exc:
        msg = f"The towers of recipe {recipe.name!r} cannot be built: {exc}"
        raise RecipeError(msg) from exc
    tower = {key: value for key, value in recipe.model.image_tower.items() if key != "weights"}
    model.config = replace(recipe.model, image_tower=tower)
    return model


def _content(slide: Slide) -> str:
    """Hash of what is trained on: image, pixel size and counts with their positions."""
    image = slide.image.content_hash() if slide.image is not None else ""
    text = f"{image} {slide.mpp!r} {slide.counts_hash()} {slide.xy_px.tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fit_ridge(recipe: Recipe, gene_input: GeneInput, data: TrainingSet) -> RidgeEncoder:
    """Fit the floor on the same pairs, from the same trunk where the recipe has one."""
    specs = (recipe.model.patch, recipe.model.region)
    patches = np.concatenate([mean_token(np.asarray(part)) for part in data.patches])
    regions = np.concatenate([mean_token(np.asarray(placed[0])) for placed in data.regions])
    dim = min(_RIDGE_AXES, *data.genes.profile.shape)
    return RidgeEncoder.fit(gene_input, data.genes.profile, (patches, regions), specs, dim=dim)


def _check_same_run(out: Path, record: dict[str, object]) -> None:
    """Refuse to go on with a run of another recipe, seed or split."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "run.json"
    text = json.dumps(record, indent=1, sort_keys=True)
    if path.exists() and (out / STATE).exists() and path.read_text() != text:
        msg = (
            f"{out} holds a run with another recipe, seed, split, panel or slides. Give another --out, or delete the "
            "folder to start again."
        )
        raise RecipeError(msg)
    path.write_text(text)


if __name__ == "__main__":
    main()
