"""A run's state and log on disk: whole or not there, whatever stops the run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from stamp_index.errors import StampIndexError
from trainer.state import DAMAGED, LOG, STATE, read_log, reason, write_log, write_state

if TYPE_CHECKING:
    from pathlib import Path

BAD_BATCH: Final = "bad_batch.json"


class TrainingError(StampIndexError):
    """Training cannot go on: a loss that is no number, or a state that cannot be written or read."""


@dataclass(frozen=True)
class Run:
    """Where a run writes, and its seed."""

    folder: Path
    seed: int
    quiet: bool = False

    def save(self, state: dict[str, Any], record: dict[str, Any]) -> None:
        """Write the state, then its line in the log; a kill in between is made good by `load`.

        Raises
        ------
        TrainingError
            If the state cannot be written, as on a full disk. The state before stays.
        """
        try:
            write_state(self.folder, {**state, "record": record})
        except OSError as exc:
            raise TrainingError(str(exc)) from exc
        with (self.folder / LOG).open("a") as log:
            log.write(json.dumps(record) + "\n")

    def load(self) -> dict[str, Any] | None:
        """Read the last state and cut the log back to it; None where there is none.

        Raises
        ------
        TrainingError
            If the state is damaged.
        """
        path = self.folder / STATE
        if not path.exists():
            (self.folder / LOG).unlink(missing_ok=True)
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            last = state["record"]
        except DAMAGED as exc:
            msg = f"The state {path} is damaged ({reason(exc)}). Delete it to start the run again."
            raise TrainingError(msg) from exc
        before = [record for record in read_log(self.folder) if record["step"] < last["step"]]
        write_log(self.folder, [*before, last])
        return state

    def stop(self, spot_ids: list[str], facts: dict[str, Any]) -> TrainingError:
        """Save the batch that gave no number; returns the error to raise."""
        path = self.folder / BAD_BATCH
        path.write_text(json.dumps({**facts, "spot_ids": spot_ids}, indent=1))
        return TrainingError(
            f"At step {facts['step']} the loss is {facts['loss']} and its gradient's norm {facts['gradient_norm']}. The batch's "
            f"{len(spot_ids)} spots are in {path}. Lower schedule.lr, or look at these spots' counts; the last "
            "saved state is from before."
        )
