"""Train a gene encoder on counts alone: ``python -m trainer pretrain SLIDE... --out RUN``.

A run's folder holds ``run.json`` (recipe, seed, panel, slides), ``split.json``, ``environment.json``, ``log.jsonl``,
``tensorboard/``, ``losses.png``, ``state.pt`` (to resume from) and the result, ``gene_encoder/``.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch

from stamp_index.encoders.stage1_weights import save_stage1
from stamp_index.errors import StampIndexError
from stamp_index.genes import GenePanel
from trainer.environment import record_environment
from trainer.prepare import read_slides, refuse_input_folder
from trainer.recipe import RecipeError
from trainer.stage1.baseline import RankFrequency
from trainer.stage1.config import Stage1Recipe, load_stage1_recipe
from trainer.stage1.data import prepare, split_counts
from trainer.stage1.evaluate import Probe
from trainer.stage1.loop import Stage1Trainer
from trainer.stage1.model import Stage1Model, build_tower
from trainer.stage1.plot import plot_run
from trainer.stage1.state import Run
from trainer.state import check_same_run, read_log, run_lock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.slides import Slide
    from trainer.split import Split

GENE_ENCODER = "gene_encoder"


@click.command("pretrain")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--recipe",
    "recipe_name",
    default="stage1_small",
    show_default=True,
    help="Name of a recipe, or a .toml file.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--hold-out-patient", multiple=True, help="Patients kept out of training.")
@click.option("--hold-out-slide", multiple=True, help="Slides kept out of training.")
@click.option("--gene", "always", multiple=True, help="A gene that the panel must hold.")
@click.option("--set", "overrides", multiple=True, help="section.key=value of the recipe.")
@click.option("--mpp", type=float, help="Microns per pixel, where the slides do not say.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1))
@click.option("--quiet", is_flag=True, help="No progress bars, and nothing said.")
def command(**options: object) -> None:
    """Train a gene encoder on the counts of slides, with or without images."""
    try:
        run_pretraining(**options)  # type: ignore[arg-type]
    except (StampIndexError, ValueError, OSError) as exc:
        notes = getattr(exc, "__notes__", ())
        raise click.ClickException("\n".join([str(exc), *notes])) from exc


def run_pretraining(  # noqa: PLR0913 - one argument per command-line option
    *,
    paths: Sequence[Path],
    recipe_name: str,
    out: Path,
    hold_out_patient: Sequence[str],
    hold_out_slide: Sequence[str],
    always: Sequence[str],
    overrides: Sequence[str],
    mpp: float | None,
    seed: int,
    quiet: bool,
) -> str:
    """Read, split, train and save; returns the gene encoder's fingerprint.

    Raises
    ------
    RecipeError
        Under torchrun; or as `train_on`.
    """
    _refuse_several_processes()
    refuse_input_folder(out, paths)
    recipe = load_stage1_recipe(recipe_name, tuple(overrides))
    return train_on(
        read_slides(paths, mpp),
        recipe,
        Run(out, seed, quiet),
        hold_out=(hold_out_patient, hold_out_slide),
        always=always,
    )


def _refuse_several_processes() -> None:
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if n_processes > 1:
        msg = (
            f"torchrun started {n_processes} processes (WORLD_SIZE), but stage 1 trains in one: each would write the "
            "same run. Give the command without torchrun."
        )
        raise RecipeError(msg)


def train_on(
    slides: Sequence[Slide],
    recipe: Stage1Recipe,
    run: Run,
    *,
    hold_out: tuple[Sequence[str], Sequence[str]] = ((), ()),
    always: Sequence[str] = (),
) -> str:
    """Train on slides that are read already; `hold_out` names patients and slides.

    Returns
    -------
    str
        Fingerprint of the gene encoder, which is in ``run.folder / "gene_encoder"``.

    Raises
    ------
    RecipeError
        If recipe, slides and held-out names do not go together, or the folder holds another run.
    TrainingError
        See `Stage1Trainer`.
    """
    split = split_counts(slides, *hold_out)
    _say(run, split.describe())
    training = [slide for slide in slides if slide.slide_id in split.train]
    held_out = [slide for slide in slides if slide.slide_id in split.held_out]
    panel = _fit_panel(recipe, training, always)
    spots = prepare(training, panel, recipe.context)
    measured = prepare(held_out, panel, recipe.context) if held_out else spots
    record = _record(recipe, run.seed, split, panel=panel, slides=training)
    with run_lock(run.folder):
        check_same_run(run.folder, record)
        split.save(run.folder)
        record_environment(run.folder / "environment.json")
        probe = Probe.make(recipe, measured, RankFrequency.fit(spots.tokens, len(panel)))
        torch.manual_seed(run.seed)
        model = Stage1Model(build_tower(recipe.gene_tower, len(panel)), len(panel))
        trainer = Stage1Trainer(recipe, model, spots, run, probe=probe)
        trainer.train()
        facts = {
            **record,
            "n_spots": len(spots.spot_ids),
            "measured_on": "held-out slides" if held_out else "training slides",
            "last": read_log(run.folder)[-1],
        }
        return _save(trainer, panel, facts)


def _save(trainer: Stage1Trainer, panel: GenePanel, facts: dict[str, Any]) -> str:
    """Keep the gene encoder and its curves, and say so; returns the fingerprint."""
    recipe, run = trainer.recipe, trainer.run
    folder, measured_on = run.folder / GENE_ENCODER, facts["measured_on"]
    fingerprint = save_stage1(
        folder, trainer.model.tower, panel, gene_tower=recipe.gene_tower, training=facts
    )
    plot_run(run.folder, run.folder / "losses.png", measured_on)
    done = f"Gene encoder {recipe.name} {fingerprint} is in {folder}."
    _say(run, _summary(facts["last"], measured_on), done)
    return fingerprint


def _say(run: Run, *lines: str) -> None:
    if not run.quiet:
        for line in lines:
            click.echo(line)


def _fit_panel(recipe: Stage1Recipe, slides: Sequence[Slide], always: Sequence[str]) -> GenePanel:
    panel = GenePanel.fit(slides, recipe.genes.n_genes or None, always=always)
    missing = [gene for gene in always if gene not in panel.column_of]
    if missing:
        msg = (
            f"The panel cannot hold {', '.join(missing)}: not measured by half of the training slides, or expressed "
            "in too few spots. Correct or leave them out."
        )
        raise RecipeError(msg)
    return panel


def _record(
    recipe: Stage1Recipe, seed: int, split: Split, *, panel: GenePanel, slides: Sequence[Slide]
) -> dict[str, Any]:
    """Everything that decides a run, as plain values."""
    return {
        "recipe": recipe.to_dict(),
        "seed": seed,
        "split": split.to_dict(),
        "panel": panel.hash,
        "slides": {slide.slide_id: _content(slide) for slide in slides},
    }


def _content(slide: Slide) -> str:
    places = np.ascontiguousarray(slide.xy_um, dtype="<f8").tobytes()
    return hashlib.sha256(slide.counts_hash().encode() + places).hexdigest()[:16]


def _summary(last: dict[str, Any], measured_on: str) -> str:
    if "probe_igr" not in last:
        return f"Nothing was measured: no niche on the {measured_on}."
    return (
        f"Hidden genes on {measured_on}: loss {last['probe_igr']:.3f} nats, accuracy {last['probe_accuracy']:.3f}; by rank "
        f"frequency alone {last['baseline_igr']:.3f} and {last['baseline_accuracy']:.3f}."
    )
