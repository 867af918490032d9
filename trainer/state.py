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
    from collections.abc import Sequence
    from pathlib import Path

    from torch.optim import Optimizer
    from torch.optim.swa_utils import AveragedModel

    from stamp_index.encoders.model import AlignModel
    from trainer.objective import Objective

STATE: Final = "state.pt"
LOG: Final = "log.jsonl"
# What torch and `load_state_dict` raise for a state that is cut off, or not the one that was expected.
DAMAGED: Final = (RuntimeError, KeyError, ValueError, EOFError, TypeError, pickle.UnpicklingError)


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
    """Write the state of a stage-2 run.

    Raises
    ------
    OSError
        As `write_state`.
    """
    state = {
        "model": parts.model.state_dict(),
        "objective": parts.objective.state_dict(),
        "optimiser": parts.optimiser.state_dict(),
        "average": None if parts.average is None else parts.average.state_dict(),
        "best": parts.best,
        "progress": vars(progress),
    }
    write_state(folder, state)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a state in one step: the old one stays until the new one is whole and on disk.

    Raises
    ------
    OSError
        If there is no space; the old state is kept.
    """
    draft = folder / f"{STATE}.tmp"
    try:
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as exc:  # torch says RuntimeError for a full disk
        draft.unlink(missing_ok=True)
        msg = (
            f"The state of the run was not written ({exc}); the one before is still in {folder}. Make space there and "
            "give the same command again."
        )
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
    except DAMAGED as exc:
        msg = f"{path} is damaged or of another architecture ({exc}). Delete the folder to start again."
        raise RecipeError(msg) from exc
    return progress


def append_log(folder: Path, record: dict[str, Any], *, epoch: int) -> None:
    """Add an epoch's record, in the place of what a run that was killed wrote after its last state."""
    kept = [known for known in read_log(folder) if known["epoch"] < epoch]
    write_log(folder, [*kept, record])


def write_log(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Replace a run's log."""
    replace_text(folder / LOG, "".join(f"{json.dumps(record)}\n" for record in records))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the records of a run's log; a line that a kill cut off is left out."""
    path = folder / LOG
    found = map(_record, path.read_text().splitlines() if path.exists() else [])
    return [record for record in found if record is not None]


def _record(line: str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return record


class Board:
    """A run's ``tensorboard/``, where TensorBoard is installed; ``log.jsonl`` has the same numbers.

    Parameters
    ----------
    run : Path
        Folder of the run.
    by : str
        Field that counts the records: ``epoch`` or ``step``.
    """

    def __init__(self, run: Path, by: str) -> None:
        self.folder, self.by = run / "tensorboard", by
        # What a killed process wrote after its last state gives way to the first record of this one. Later records
        # must not say so: files of one second are not read in the order in which they were written.
        self._supersedes = self.folder.exists()

    def add(self, record: dict[str, Any]) -> None:
        """Add the numbers of a log's record."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return  # an extra
        at = record[self.by]
        with SummaryWriter(str(self.folder), purge_step=at if self._supersedes else None) as writer:
            for name, value in record.items():
                number = isinstance(value, int | float) and not isinstance(value, bool)
                if number and name != self.by:
                    writer.add_scalar(name, value, at)
        self._supersedes = False


def check_same_run(
    folder: Path, record: dict[str, Any], *, holds: Sequence[str] = (STATE,)
) -> None:
    """Write ``run.json``, or refuse to go on with a run of another recipe, seed, split, panel or slides.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    record : dict
        Everything that decides the run, as plain JSON values.
    holds : sequence of str
        Files or folders any of which makes it a run that must not be replaced.

    Raises
    ------
    RecipeError
        If the folder holds another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    text = json.dumps(record, indent=1, sort_keys=True)
    held = any((folder / name).exists() for name in holds)
    if path.exists() and held and path.read_text() != text:
        msg = (
            f"{folder} holds a run with another recipe, seed, split, panel or slides. Give another --out, or delete "
            "the folder to start again."
        )
        raise RecipeError(msg)
    replace_text(path, text)


def replace_text(path: Path, text: str) -> None:
    """Write a file in one step: what stood there stays until the new text is whole."""
    draft = path.with_suffix(".tmp")
    draft.write_text(text)
    draft.replace(path)
