"""Train a recipe on slides: ``python -m trainer train SLIDE... --hold-out-patient P --out RUN``.

A run's folder holds ``run.json`` (recipe, seed, slides, kept epoch), ``split.json``, ``environment.json``,
``log.jsonl``, ``tensorboard/``, ``curves.png``, ``state.pt`` (to go on from), the checkpoint ``encoder/`` with its
card, and the baseline ``ridge/`` fitted on the same slides.
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from stamp_index.encoders.checkpoint import save_encoder
from stamp_index.encoders.image_tower import HybridTower
from stamp_index.encoders.ridge_encoder import RidgeEncoder
from stamp_index.encoders.towers import find_pretrained
from stamp_index.encoders.trained_encoder import TrainedEncoder
from stamp_index.errors import StampIndexError
from trainer.card import licences, numbers, random_starts, write_card
from trainer.data import fit_gene_input
from trainer.environment import record_environment
from trainer.images import CachedImages
from trainer.initialise import standardise_channels, start_from_statistics
from trainer.loop import Run, TrainingStoppedError, train
from trainer.plot import plot_curves
from trainer.prepare import (
    Cohort,
    Job,
    Preparation,
    build_model,
    read_slides,
    refuse_input_folder,
    stage1_origin,
    stage1_overlap,
    stage1_panel,
    worker_count,
)
from trainer.recipe import Recipe, RecipeError
from trainer.recipe_file import load_recipe
from trainer.recipe_toml import overlay_names, recipe_names
from trainer.runtime import Runtime
from trainer.split import Split, Wish, make_split, read_split
from trainer.state import LOG, STATE, check_same_run, note_in_run, read_log, run_lock
from trainer.validation import Validator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.encoders.gene_input import GeneInput
    from stamp_index.encoders.model import AlignModel
    from stamp_index.slides import Slide
    from trainer.data import TrainingSet

_RIDGE_AXES = 32
_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("paths", metavar="SLIDE...", nargs=-1, required=True, type=_PATH)
@click.option(
    "--recipe",
    "recipe_name",
    default="stamp",
    show_default=True,
    help=f"One of {', '.join(recipe_names())}, or a .toml file.",
)
@click.option(
    "--overlay",
    "overlays",
    multiple=True,
    help=f"A partial recipe laid over it: {', '.join(overlay_names())}, or a .toml file.",
)
@click.option("--out", required=True, type=_PATH, help="Folder of the run.")
@click.option("--hold-out-patient", multiple=True, help="Patients kept out of training.")
@click.option("--hold-out-slide", multiple=True, help="Slides kept out of training.")
@click.option(
    "--validate-patient", multiple=True, help="Patients that the best epoch is chosen on."
)
@click.option("--validate-slide", multiple=True, help="Slides that the best epoch is chosen on.")
@click.option("--split", "split_path", type=_PATH, help="split.json of another run, instead.")
@click.option("--gene", "always", multiple=True, help="A gene that the panel must hold.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    help="section.key=value of the recipe, such as optimiser.epochs=10 or optimiser.lr=1e-4.",
)
@click.option("--mpp", type=float, help="Microns per pixel, where the slides do not say.")
@click.option("--features", type=_PATH, help="Folder of the feature cache.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Processes that read patches; by default as needed.",
)
@click.option(
    "--skip-unreadable",
    is_flag=True,
    help="Go on without a slide whose pixels fail while training (not while its features are prepared).",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1))
@click.option("--quiet", is_flag=True, help="No progress bars, and nothing said.")
def command(**options: object) -> None:
    """Train a recipe on slides (folders or counts files; a folder of slides is searched)."""
    try:
        run_training(**options)  # type: ignore[arg-type]
    except (StampIndexError, TrainingStoppedError, ValueError, OSError) as exc:
        notes = getattr(exc, "__notes__", ())
        raise click.ClickException("\n".join([str(exc), *notes])) from exc


def run_training(  # noqa: PLR0913 - one argument per command-line option
    *,
    paths: Sequence[Path],
    recipe_name: str,
    out: Path,
    hold_out_patient: Sequence[str] = (),
    hold_out_slide: Sequence[str] = (),
    validate_patient: Sequence[str] = (),
    validate_slide: Sequence[str] = (),
    split_path: Path | None = None,
    overrides: Sequence[str] = (),
    overlays: Sequence[str] = (),
    mpp: float | None = None,
    **options: Any,  # noqa: ANN401
) -> str:
    """Read slides, split them and train; `options` are the fields of `Job`. Returns the fingerprint."""
    wished = any((hold_out_patient, hold_out_slide, validate_patient, validate_slide))
    if split_path is not None and wished:
        msg = "--split already says what is held out and what validates; leave --hold-out-* and --validate-* out."
        raise RecipeError(msg)
    refuse_input_folder(out, paths)
    recipe = load_recipe(recipe_name, overrides, overlays)
    for tower in (recipe.model.image_tower, recipe.model.region_tower):
        find_pretrained(tower)
    slides = read_slides(paths, mpp)
    if split_path is not None:
        split = read_split(split_path, slides)
    else:
        held, checked = (
            Wish(hold_out_patient, hold_out_slide),
            Wish(validate_patient, validate_slide),
        )
        split = make_split(slides, held, checked)
    return train_slides(slides, split, Job(recipe, out, **options))


def train_slides(slides: Sequence[Slide], split: Split, job: Job) -> str:
    """Prepare, train and save; returns the encoder's fingerprint (empty in all but the main process).

    Raises
    ------
    RecipeError, StampIndexError, TrainingStoppedError
        For whatever does not fit, before anything of an earlier run is touched.
    """
    recipe = job.recipe
    if recipe.validation.patience and not split.validate:
        msg = "validation.patience needs slides to validate on; give --validate-patient or --validate-slide."
        raise RecipeError(msg)
    roles = ([s for s in slides if s.slide_id in ids] for ids in (split.train, split.validate))
    cohort = Cohort(split, *roles)
    runtime = Runtime(recipe.optimiser.precision)
    _say(
        job,
        runtime,
        split.describe(),
        *licences(recipe.model.to_dict()),
        *random_starts(recipe.model.to_dict()),
    )
    _say(job, runtime, *stage1_overlap(recipe, split))
    torch.manual_seed(job.seed)
    panel = stage1_panel(recipe)
    gene_input = fit_gene_input(recipe, cohort.train, always=job.always, panel=panel)
    with run_lock(job.out) if runtime.is_main else nullcontext():
        fingerprint = _train_in_folder(cohort, gene_input, job, runtime)
    done = f"Encoder {recipe.name} {fingerprint} is in {job.out / 'encoder'}."
    _say(job, runtime, *numbers(read_log(job.out), recipe.validation.k), done)
    runtime.finish()
    return fingerprint


def _train_in_folder(cohort: Cohort, gene_input: GeneInput, job: Job, runtime: Runtime) -> str:
    """Everything that is kept in the run's folder, from its record to its encoder."""
    recipe, out = job.recipe, job.out
    record = _record(recipe, cohort, gene_input, job.seed)
    if runtime.is_main:
        # A run without steps or validation has no state.
        features = {} if job.features is None else {"features": str(job.features.resolve())}
        check_same_run(out, record, holds=(STATE, "encoder"), notes=features)
        cohort.split.save(out)
        record_environment(out / "environment.json")
    runtime.wait()
    model = build_model(recipe, gene_input).to(runtime.device)
    data, cache = Preparation(cohort, gene_input, job).assemble(model, runtime)
    standardise_channels(model, data)
    if recipe.start == "closed_form":
        start_from_statistics(model, data)
    validate = None
    if cohort.validate:
        validate = Validator(cohort.validate, gene_input, cache, recipe.validation.k)
        if runtime.is_main:
            validate.prepare(model, quiet=job.quiet)
    n_workers = job.workers if job.workers is not None else worker_count(data, runtime)
    run = Run(out, job.seed, job.quiet, workers=n_workers, skip_unreadable=job.skip_unreadable)
    kept = train(recipe, model, data, run, validate=validate, runtime=runtime)
    if not runtime.is_main:
        return ""
    note_in_run(out, kept_epoch=kept)
    return _save(recipe, model, gene_input, (out, record, data))


def _say(job: Job, runtime: Runtime, *lines: str) -> None:
    if runtime.is_main and not job.quiet:
        for line in lines:
            click.echo(line)


def _record(recipe: Recipe, cohort: Cohort, gene_input: GeneInput, seed: int) -> dict[str, object]:
    record = {
        "recipe": recipe.to_dict(),
        "seed": seed,
        "split": cohort.split.to_dict(),
        "panel": gene_input.panel.hash,
        "slides": {slide.slide_id: _content(slide) for slide in (*cohort.train, *cohort.validate)},
    }
    origin = stage1_origin(recipe)
    if origin is None:
        return record
    return {**record, "stage1": {**origin, "overlap": stage1_overlap(recipe, cohort.split)}}


def _save(
    recipe: Recipe,
    model: AlignModel,
    gene_input: GeneInput,
    made: tuple[Path, dict[str, object], TrainingSet],
) -> str:
    out, record, data = made
    _merge_adapters(model)
    encoder = TrainedEncoder(model, gene_input, name=recipe.name, fingerprint="")
    fingerprint = save_encoder(encoder, out / "encoder", training=record)
    if isinstance(model.tower_of("patch"), HybridTower):
        save_encoder(_fit_ridge(recipe, gene_input, data), out / "ridge", training=record)
    if (out / LOG).exists():
        plot_curves([out], out / "curves.png")
    write_card(out)
    return fingerprint


def _merge_adapters(model: AlignModel) -> None:
    """Fold LoRA into the weights that it adapts: searching then needs no peft."""
    merged: dict[str, Any] = {}
    for field, name in (("image_tower", "image"), ("region_tower", "region")):
        settings = getattr(model.config, field)
        if settings.get("train") == "lora":
            tower: Any = model.towers[name]
            n_blocks = settings.get("blocks", 1) or tower.n_blocks
            tower.merge()
            merged[field] = {**settings, "train": "last", "blocks": n_blocks}
    model.config = replace(model.config, **merged)


def _content(slide: Slide) -> str:
    """Hash of what is trained on: image, pixel size and counts with their positions."""
    image = slide.image.content_hash() if slide.image is not None else ""
    text = f"{image} {slide.mpp!r} {slide.counts_hash()} {slide.xy_px.tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fit_ridge(recipe: Recipe, gene_input: GeneInput, data: TrainingSet) -> RidgeEncoder:
    """Fit the baseline on the same pairs and images, from the same trunk."""
    images = data.images
    if not isinstance(images, CachedImages):
        msg = "Ridge is fitted on cached features."
        raise TypeError(msg)
    specs = (recipe.model.patch, recipe.model.region)
    around = None if recipe.model.retrieval == "patch" else images.mean_regions()
    dim = min(_RIDGE_AXES, *data.genes.profile.shape)
    features = (images.mean_patches(), around)
    return RidgeEncoder.fit(gene_input, data.genes.profile, features, specs, dim=dim)
