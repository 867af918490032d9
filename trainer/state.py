"""What a run keeps on disk to go on from, and its log."""

from __future__ import annotations

import fcntl
import json
import math
import os
import pickle
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import torch

from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch.optim import Optimizer
    from torch.optim.swa_utils import AveragedModel

    from stamp_index.encoders.model import AlignModel
    from trainer.objective import Objective

STATE: Final = "state.pt"
LOG: Final = "log.jsonl"
# What torch and `load_state_dict` raise for a state that is cut off, or not the one that was expected.
DAMAGED: Final = (
    *(RuntimeError, LookupError, ValueError, EOFError, TypeError, AttributeError, OSError),
    pickle.UnpicklingError,
)
LOCK: Final = ".lock"
# What run.json says beside what decides a run: where its features are cached, and which epoch's weights were kept.
NOTES: Final = ("features", "kept_epoch")
_LARGEST: Final = 2**63
_MOST_NAMED: Final = 3  # keys in which runs differ
_NONE: Final = object()


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
        Epoch that it was measured after; 0 is the start, before any step.
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
        if isinstance(
            exc.__context__, KeyboardInterrupt
        ):  # and for a file that was left in its middle
            raise exc.__context__ from None
        kept = "the one before is still there" if (folder / STATE).exists() else "there is none yet"
        msg = (
            f"The state of the run was not written to {folder} ({exc}); {kept}. Make space there and give the same "
            "command again."
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
        _check_finite(state["model"])
        parts.model.load_state_dict(state["model"])
        parts.objective.load_state_dict(state["objective"])
        parts.optimiser.load_state_dict(state["optimiser"])
        _check_shapes(parts.optimiser)
        if parts.average is not None:
            parts.average.load_state_dict(state["average"])
        if state["best"] is not None:
            _check_finite(state["best"])
        parts.best = state["best"]
        progress = _progress(state["progress"])
    except DAMAGED as exc:
        msg = f"{path} is damaged or of another architecture ({reason(exc)}). Delete the folder to start again."
        raise RecipeError(msg) from exc
    return progress


def reason(exc: Exception) -> str:
    """First line of what an error says; of an unpickler's not its advice to trust the file."""
    if isinstance(exc, pickle.UnpicklingError):
        return "it holds more than tensors and plain values, or is cut off"
    return (str(exc).splitlines() or [type(exc).__name__])[0]


def _check_finite(weights: dict[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            msg = f"{name} holds values that are not finite"
            raise ValueError(msg)


def _check_shapes(optimiser: Optimizer) -> None:
    """Refuse moments of another shape than their weights', which torch takes over unseen."""
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                msg = f"{name} is of shape {tuple(value.shape)}, its weight of {tuple(parameter.shape)}"
                raise ValueError(msg)


def _progress(found: dict[str, Any]) -> Progress:
    progress = Progress(**found)
    counts = (progress.step, progress.best_epoch, progress.stale)
    are_counts = all(isinstance(count, int) and count >= 0 for count in counts)
    numbers = [progress.best, *progress.sums.values()]
    if not are_counts or not all(isinstance(number, (int, float)) for number in numbers):
        msg = f"progress is {found}"
        raise ValueError(msg)
    return progress


def append_log(folder: Path, record: dict[str, Any], *, epoch: int) -> None:
    """Add an epoch's record, in the place of what a run that was killed wrote after its last state."""
    kept = [known for known in read_log(folder) if known["epoch"] < epoch]
    write_log(folder, [*kept, record])


def write_log(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Replace a run's log."""
    replace_text(folder / LOG, "".join(f"{json.dumps(record)}\n" for record in records))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the records of a run's log; a line that a kill cut off, or that is no record, is left out."""
    path = folder / LOG
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = map(_record, text.splitlines())
    return [record for record in found if record is not None]


def best_record(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Give the record with the best validation recall, the first of several, whose epoch's weights a run keeps."""
    measured = [record for record in records if _recall(record) >= 0]
    return max(measured, key=_recall, default=None)


def _recall(record: dict[str, Any]) -> float:
    found = record.get("validation_recall")
    return float(found) if is_number(found) and math.isfinite(found) else -1.0


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a log can be shown: a number, and no whole one that is too large for a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) < _LARGEST


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_record = isinstance(record, dict) and isinstance(record.get("epoch"), int)
    return record if is_record else None


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
    folder: Path,
    record: dict[str, Any],
    *,
    holds: Sequence[str] = (STATE,),
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write ``run.json``, or refuse to go on with a run of another recipe, seed, split, panel or slides.

    Parameters
    ----------
    folder : Path
        As `run_lock` made it.
    record : dict
        Everything that decides the run, as plain JSON values.
    holds : sequence of str
        Files or folders any of which makes it a run that must not be replaced.
    notes : mapping, optional
        Of `NOTES`, what is so now; the same run may be gone on with under others.

    Raises
    ------
    RecipeError
        If the folder holds another run.
    """
    path = folder / "run.json"
    held = any((folder / name).exists() for name in holds)
    other = _other(_read_object(path), record) if held else ""
    if other:
        msg = f"{folder} holds a run {other}. Give another --out, or delete the folder to start again."
        raise RecipeError(msg)
    _write_object(path, {**record, **(notes or {})})


def _other(known: dict[str, Any] | None, record: dict[str, Any]) -> str:
    """Say in what a run on disk differs from the one that was asked for; empty where it does not."""
    if known is None:
        return "whose run.json is missing or damaged, so that nobody knows what it is of"
    known = {key: value for key, value in known.items() if key not in NOTES}
    different = list(_different(record, known, ""))
    more = f" and {len(different) - _MOST_NAMED} more" if len(different) > _MOST_NAMED else ""
    named = (
        " and ".join(different[:_MOST_NAMED]) if not more else ", ".join(different[:_MOST_NAMED])
    )
    return f"with another {named}{more}" if different else ""


def _different(asked: object, there: object, where: str) -> Iterator[str]:
    """Keys, with the tables that they are in, whose values differ."""
    if isinstance(asked, dict) and isinstance(there, dict):
        inside = f"{where}." if where else ""
        for key in [*asked, *(key for key in there if key not in asked)]:
            yield from _different(asked.get(key, _NONE), there.get(key, _NONE), f"{inside}{key}")
    # Compared as text, in which also a value that no value equals, such as NaN, is equal to itself.
    elif asked is _NONE or there is _NONE or _text(asked) != _text(there):
        yield where


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def note_in_run(folder: Path, **notes: object) -> None:
    """Add to a run's ``run.json`` what its training has found; `notes` are of `NOTES`."""
    path = folder / "run.json"
    _write_object(path, {**(_read_object(path) or {}), **notes})


def _write_object(path: Path, values: Mapping[str, Any]) -> None:
    replace_text(path, json.dumps(values, indent=1, sort_keys=True))


def _read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none that is whole."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Make a run's folder and hold it for this process alone; the lock ends with the process, however it ends.

    Raises
    ------
    RecipeError
        If another process writes there, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as exc:
        msg = f"--out {folder} cannot be written ({exc.strerror}). Give a folder that is a run's, or a new one."
        raise RecipeError(msg) from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            msg = f"Another process trains into {folder}. Wait for it, or give another --out."
            raise RecipeError(msg) from exc
        yield


def replace_text(path: Path, text: str) -> None:
    """Write a file in one step: what stood there stays until the new text is whole."""
    draft = path.with_suffix(".tmp")
    draft.write_text(text)
    draft.replace(path)
