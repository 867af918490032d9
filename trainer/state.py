"""What a run keeps on disk to go on from, and its log."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from torch.optim import Optimizer
    from torch.optim.swa_utils import AveragedModel

    from stamp_index.encoders.model import AlignModel
    from trainer.objective import Objective

STATE: Final = "state.pt"
LOG: Final = "log.jsonl"


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    step : int
        Steps done.
    sums : dict of str to float
        Losses summed over the steps of the epoch under way.
    best : float
        Best validation recall so far; -1 before the first.
    best_epoch : int
    stale : int
        Epochs since then.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: float = -1.0
    best_epoch: int = 0
    stale: int = 0


@dataclass
class Parts:
    """Everything that changes in training."""

    model: AlignModel
    objective: Objective
    optimiser: Optimizer
    average: AveragedModel | None = None
    best: dict[str, torch.Tensor] | None = None


def save_state(folder: Path, parts: Parts, progress: Progress) -> None:
    """Write the state in one step: the old one stays until the new one is whole and on disk.

    Raises
    ------
    OSError
        If there is no space; the old state is kept.
    """
    state = {
        "model": parts.model.state_dict(),
        "objective": parts.objective.state_dict(),
        "optimiser": parts.optimiser.state_dict(),
        "average": None if parts.average is None else parts.average.state_dict(),
        "best": parts.best,
        "progress": vars(progress),
    }
    draft = folder / f"{STATE}.tmp"
    try:
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as exc:  # torch says RuntimeError for a full disk
        draft.unlink(missing_ok=True)
        msg = f"The state of the run was not written ({exc}); the one before is still in {folder}. Make space there."
        raise OSError(msg) from exc
    draft.replace(folder / STATE)


def load_state(folder: Path, parts: Parts) -> Progress:
    """Go back to the saved state, or to the start where there is none.

    Raises
    ------
    RecipeError
        If the state is damaged or of another architecture.
    """
    path = folder / STATE
    if not path.exists():
        (folder / LOG).unlink(missing_ok=True)
        return Progress()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        parts.model.load_state_dict(state["model"])
        parts.objective.load_state_dict(state["objective"])
        parts.optimiser.load_state_dict(state["optimiser"])
        if parts.average is not None:
            parts.average.load_state_dict(state["average"])
        parts.best = state["best"]
        progress = Progress(**state["progress"])
    except (RuntimeError, KeyError, ValueError, EOFError, TypeError, pickle.UnpicklingError) as exc:
        msg = f"{path} is damaged or of another architecture ({exc}). Delete the folder to start again."
        raise RecipeError(msg) from exc
    return progress


def append_log(folder: Path, record: dict[str, Any], *, epoch: int) -> None:
    """Add an epoch's record, in the place of what a run that was killed wrote after its last state."""
    path = folder / LOG
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if _epoch(line) < epoch]
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(f"{line}\n" for line in [*kept, json.dumps(record)]))
    draft.replace(path)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the records of all epochs."""
    path = folder / LOG
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _epoch(line: str) -> int:
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError):
        return 1 << 62  # a line cut off by a kill
