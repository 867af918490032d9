"""``python -m trainer report RUN...``: runs side by side."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from trainer.plot import measured_names, plot_curves, run_labels, whole_epochs
from trainer.recipe import RecipeError
from trainer.state import best_record, is_number, read_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PICTURES: Final = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
_KINDS: Final = {dict: "a table", list: "a list", str: "text", int: "a whole number"}


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--png", type=click.Path(path_type=Path), help="Draw the runs' curves into this file."
)
def command(runs: Sequence[Path], png: Path | None) -> None:
    """Put runs side by side: recipe, split, losses, validation, evaluation."""
    try:
        if png is not None:
            _check_picture(png)  # before the table, so that nobody finds out after it
        click.echo(compare(runs))
        if png is not None:
            plot_curves(runs, png)
            click.echo(f"Curves are in {png}.")
    except (RecipeError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def _check_picture(path: Path) -> None:
    """Refuse a path that no picture can be written to."""
    if path.is_dir():
        msg = (
            f"--png {path} is a folder; give the name of a file, for example {path / 'curves.png'}."
        )
        raise RecipeError(msg)
    if path.suffix.lower() not in _PICTURES:
        msg = f"--png {path} is no name of a picture; it must end in .png (or {', '.join(_PICTURES[1:])})."
        raise RecipeError(msg)
    if not path.parent.is_dir():
        msg = f"--png {path} cannot be written: there is no folder {path.parent}. Make it, or name another."
        raise RecipeError(msg)


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
    records = read_log(run)
    epochs = whole_epochs(records)
    with _damage_of(path):
        # Epoch 0, the start, is measured and not trained.
        found = _what_was_run(made, sum(record["epoch"] > 0 for record in epochs))
    seconds = [record.get("seconds") for record in records]
    known = [value for value in seconds if is_number(value)]
    if known:
        found["seconds"] = f"{sum(known):.0f}"
    return {**found, **_figures(epochs), **_evaluation(run)}


def _what_was_run(made: dict[str, Any], n_epochs: int) -> dict[str, str]:
    """Rows from a run's record."""
    recipe, split = _part(made, "recipe", dict), _part(made, "split", dict)
    roles = [_part(split, role, list) for role in ("train", "validate", "held_out")]
    return {
        "recipe": _part({"name": "stage 1", **recipe}, "name", str),
        "seed": str(_part(made, "seed", int)),
        "split": f"{_part(split, 'hash', str)} (by {_part(split, 'by', str)})",
        "train / validate / held out": " / ".join(str(len(role)) for role in roles),
        "panel": _part(made, "panel", str)[:12],
        "epochs": f"{n_epochs} of {_planned_epochs(recipe)}",
    }


def _planned_epochs(recipe: dict[str, Any]) -> str:
    """Epochs that a recipe of either stage asks for."""
    if recipe.get("schedule") is not None:  # of stage 1
        schedule = _part(recipe, "schedule", dict)
        return str(_part(schedule, "mask_epochs", int) + _part(schedule, "both_epochs", int))
    optimiser = _part({"optimiser": {}, **recipe}, "optimiser", dict)
    return str(optimiser.get("epochs", "?"))


def _part(values: dict[str, Any], key: str, kind: type) -> Any:  # noqa: ANN401 - of that kind
    """Take a value that must be there and of a kind."""
    value = values.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        msg = f"{key} is {value!r}; expected {_KINDS[kind]}"
        raise TypeError(msg)
    return value


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    """Say in words that a file does not hold what it should."""
    try:
        yield
    except RecursionError as exc:
        msg = f"{path} is damaged (it nests too deeply). Give the command that wrote it again, or leave the run out."
        raise RecipeError(msg) from exc
    except (ValueError, TypeError) as exc:
        msg = f"{path} is damaged ({exc}). Give the command that wrote it again, or leave the run out."
        raise RecipeError(msg) from exc


def _figures(epochs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Give what the last epoch measured, and the best recall of all beside those of the start and of chance."""
    if not epochs:
        return {}
    last = epochs[-1]
    found = {
        name: f"{last[name]:.3f}" for name in measured_names(epochs) if is_number(last.get(name))
    }
    best = best_record(epochs)
    if best is None:
        return found
    start = {record["epoch"]: record.get("validation_recall") for record in epochs}.get(0)
    recalls = {
        "best validation recall": best["validation_recall"],
        "validation recall of the start": start,
        "validation recall by chance": best.get("validation_chance"),
    }
    found |= {name: f"{value:.3f}" for name, value in recalls.items() if is_number(value)}
    return {**found, "weights are of epoch": f"{best['epoch'] or '0 (the start)'}"}


def _read_json(path: Path) -> dict[str, Any]:
    with _damage_of(path):
        values = json.loads(path.read_text())
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
    found: dict[str, str] = {}
    with _damage_of(path):
        for row in _part({"retrieval": [], **report}, "retrieval", list):
            if not isinstance(row, dict):
                msg = f"a row of retrieval is {row!r}; expected a table"
                raise TypeError(msg)
            if _part(row, "encoder", str) in ("trained", "PCA + ridge") and "R@10" in row:
                found |= _recall(row)
    return found


def _recall(row: dict[str, Any]) -> dict[str, str]:
    """One row of the table from one of an evaluation."""
    gallery, direction, encoder = (
        _part(row, key, str) for key in ("gallery", "direction", "encoder")
    )
    for key in ("R@10", "chance R@10"):
        if not is_number(row.get(key)):
            msg = f"{key} is {row.get(key)!r}; expected a number"
            raise TypeError(msg)
    chance = f"chance {row['chance R@10']:.3f}"
    name = f"{gallery}, {direction} R@10 (N {_part(row, 'N', int)}, {chance}), {encoder}"
    return {name: f"{row['R@10']:.3f}"}
