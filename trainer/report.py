"""``python -m trainer report RUN...``: runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.plot import measured_names, plot_curves, run_labels, whole_epochs
from trainer.recipe import RecipeError
from trainer.state import read_log

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--png", type=click.Path(path_type=Path), help="Draw the runs' curves into this file."
)
def command(runs: Sequence[Path], png: Path | None) -> None:
    """Put runs side by side: recipe, split, losses, validation, evaluation."""
    try:
        click.echo(compare(runs))
        if png is not None:
            plot_curves(runs, png)
            click.echo(f"Curves are in {png}.")
    except (RecipeError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def compare(runs: Sequence[Path]) -> str:
    """Markdown table with one column a run.

    Raises
    ------
    RecipeError
        If a folder holds no run, or a damaged one.
    """
    columns = [_summary(run) for run in runs]
    rows = list(dict.fromkeys(name for column in columns for name in column))
    lines = ["| | " + " | ".join(run_labels(runs)) + " |", "|---" * (len(runs) + 1) + "|"]
    lines += [
        f"| {row} | " + " | ".join(column.get(row, "") for column in columns) + " |" for row in rows
    ]
    splits = {column["split"] for column in columns}
    if len(splits) > 1:
        lines += ["", "These runs have different splits: their figures cannot be compared."]
    return "\n".join(lines)


def _summary(run: Path) -> dict[str, str]:
    path = run / "run.json"
    if not path.is_file():
        msg = f"{run} is not a run: it has no run.json. Give the folder that --out named."
        raise RecipeError(msg)
    made = _read_json(path)
    missing = [key for key in ("recipe", "seed", "split", "panel") if key not in made]
    if missing:
        msg = f"{path} has no {', '.join(missing)}: it is not of a training run. Leave {run} out."
        raise RecipeError(msg)
    split, recipe, records = made["split"], made["recipe"], read_log(run)
    epochs = whole_epochs(records)
    found = {
        "recipe": recipe.get("name", "stage 1"),
        "seed": str(made["seed"]),
        "split": f"{split['hash']} (by {split['by']})",
        "train / validate / held out": " / ".join(
            str(len(split[role])) for role in ("train", "validate", "held_out")
        ),
        "panel": made["panel"][:12],
        "epochs": f"{len(epochs)} of {_planned_epochs(recipe)}",
    }
    if records:
        found["seconds"] = f"{sum(record['seconds'] for record in records):.0f}"
    return {**found, **_figures(epochs), **_evaluation(run)}


def _planned_epochs(recipe: dict[str, Any]) -> str:
    """Epochs that a recipe of either stage asks for."""
    schedule = recipe.get("schedule")
    if schedule is not None:  # of stage 1
        return str(schedule["mask_epochs"] + schedule["both_epochs"])
    return str(recipe.get("optimiser", {}).get("epochs", "?"))


def _figures(epochs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Give what the last epoch measured, and the best recall of all."""
    if not epochs:
        return {}
    last = epochs[-1]
    found = {name: f"{last[name]:.3f}" for name in measured_names(epochs) if name in last}
    best = max(record.get("validation_recall", -1.0) for record in epochs)
    if best >= 0:
        found["best validation recall"] = f"{best:.3f}"
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except ValueError as exc:
        msg = f"{path} is damaged ({exc}). Give the command that wrote it again, or leave the run out."
        raise RecipeError(msg) from exc
    if not isinstance(values, dict):
        msg = f"{path} holds no table of values. Give the command that wrote it again, or leave the run out."
        raise RecipeError(msg)
    return values


def _evaluation(run: Path) -> dict[str, str]:
    """Held-out figures, where `stamp-index evaluate` has written them."""
    path = run / "evaluation.json"
    if not path.is_file():
        return {}
    report = _read_json(path)
    found = {}
    for row in report.get("retrieval", ()):
        if row["encoder"] in ("trained", "PCA + ridge") and "R@10" in row:
            name = f"{row['gallery']}, {row['direction']} R@10 (N {row['N']}, chance {row['chance R@10']:.3f})"
            found[f"{name}, {row['encoder']}"] = f"{row['R@10']:.3f}"
    return found
