"""The training loop: steps, epochs, validation, resume."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from trainer.data import Steps
from trainer.images import UnreadableSlideError
from trainer.objective import Objective
from trainer.recipe import RecipeError
from trainer.runtime import Runtime
from trainer.schedule import learning_rate, make_optimiser, set_step
from trainer.shared_arrays import Shared
from trainer.state import Board, Parts, append_log, load_state, save_state
from trainer.step import NonFiniteLossError, gradients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stamp_index.encoders.model import AlignModel
    from trainer.data import Batch, TrainingSet
    from trainer.recipe import Recipe

BAD_BATCH: Final = "non_finite_batch.json"


class TrainingStoppedError(RuntimeError):
    """Training cannot go on; what was reached is kept."""


@dataclass(frozen=True)
class Run:
    """Where a run writes, its seed, and how it works.

    Attributes
    ----------
    folder : Path
    seed : int
    quiet : bool
        No progress bar.
    workers : int
        Processes that draw batches; 0 draws them in this one.
    save_minutes : float
        The state is written after every epoch, and within one after this many minutes.
    skip_unreadable : bool
        See `trainer.data.Steps`.
    """

    folder: Path
    seed: int
    quiet: bool = False
    workers: int = 0
    save_minutes: float = 10.0
    skip_unreadable: bool = False


def train(
    recipe: Recipe,
    model: AlignModel,
    data: TrainingSet,
    run: Run,
    *,
    validate: Callable[[AlignModel], dict[str, float]] | None = None,
    runtime: Runtime | None = None,
) -> int:
    """Train `model` in place; a run that was interrupted goes on exactly where its state was saved.

    Parameters
    ----------
    recipe, model, data, run
        What to train, and where to write.
    validate : callable, optional
        Gives ``recall`` and anything else to log, of the model in eval mode; called before the first step (epoch
        0) and after each epoch, in the main process. The model ends at the best of them, else at its last step.
    runtime : Runtime, optional
        Made of the recipe's precision by default.

    Returns
    -------
    int
        Epoch whose weights the model ends with; 0 is the start.

    Raises
    ------
    TrainingStoppedError
        If the loss is not finite; the spots of its batch are in ``non_finite_batch.json``.
    UnreadableSlideError
        If a slide cannot be read any more, unless `run.skip_unreadable`.
    """
    runtime = runtime or Runtime(recipe.optimiser.precision)
    return _Training(recipe, model, data, run, runtime).run(validate)


class _Training:
    """One run while it lasts."""

    def __init__(  # noqa: PLR0917 - what `train` was given
        self, recipe: Recipe, model: AlignModel, data: TrainingSet, run: Run, runtime: Runtime
    ) -> None:
        self.recipe, self.data, self.where, self.runtime = recipe, data, run, runtime
        self.settings = recipe.optimiser
        model.to(runtime.device)
        objective = Objective(recipe).to(runtime.device)
        optimiser = make_optimiser((model, objective), self.settings)
        average = None
        if self.settings.ema:
            mean = get_ema_multi_avg_fn(self.settings.ema)  # type: ignore[no-untyped-call]
            average = AveragedModel(model, multi_avg_fn=mean, use_buffers=True)
        self.parts = Parts(model, objective, optimiser, average)
        self.progress = load_state(run.folder, self.parts)
        runtime.broadcast(model, objective, *([average] if average is not None else []))
        self.board = Board(run.folder, by="epoch")
        self.steps = Steps(
            data,
            recipe,
            seed=run.seed,
            rank=runtime.rank,
            world=runtime.world,
            skip_unreadable=run.skip_unreadable,
        )
        self.total = len(self.steps)
        if self.progress.step > self.total:
            msg = (
                f"{run.folder} has taken {self.progress.step} steps of {self.total}: its state is damaged, or of other "
                "slides. Delete the folder to start again."
            )
            raise RecipeError(msg)
        self.unreadable: set[str] = set()

    def run(self, validate: Callable[[AlignModel], dict[str, float]] | None) -> int:
        # Until every process has looked for a state and a log, which the first of them writes next.
        self.runtime.wait()
        if validate is not None and self.runtime.is_main:
            self._validate_start(validate)
        started = saved = time.monotonic()
        hidden = self.where.quiet or not self.runtime.is_main or not self.total
        with tqdm(total=self.total, initial=self.progress.step, unit="step", disable=hidden) as bar:
            for batch in () if self._stopped_early(validate) else self._batches():
                values = self._step(batch)
                bar.update()
                bar.set_postfix(loss=f"{values['loss']:.2f}", refresh=False)
                now = time.monotonic()
                if self.progress.step % self.steps.per_epoch == 0:
                    stop = self._end_epoch(validate, now - started)
                    started = saved = time.monotonic()
                    if stop:
                        break
                elif now - saved > 60 * self.where.save_minutes:
                    self._save()
                    saved = now
        return self._finish()

    def _stopped_early(self, validate: object) -> bool:
        """Say whether there was no better epoch for as long as the recipe waits."""
        patience = self.recipe.validation.patience
        return validate is not None and bool(patience) and self.progress.stale >= patience

    def _batches(self) -> Iterator[Batch]:
        """Batches from the step that comes next; one loader for the whole run, so that it never drains."""
        cuda = self.runtime.device.type == "cuda"
        workers = self.where.workers
        remaining = range(self.progress.step, self.total)
        loader = DataLoader(
            Shared(self.steps, self.where.folder) if workers else self.steps,
            batch_size=None,
            sampler=remaining,
            num_workers=workers,
            # Slides hold open files, which must not be shared with a forked process.
            multiprocessing_context="spawn" if workers else None,
            pin_memory=cuda,
        )
        try:
            yield from loader
        except UnreadableSlideError as exc:
            # From a worker it comes in the text of that process's traceback.
            text = str(exc).rpartition(f"{UnreadableSlideError.__name__}: ")[2]
            raise UnreadableSlideError(text.strip()) from exc

    def _step(self, batch: Batch) -> dict[str, float]:
        parts, runtime, step = self.parts, self.runtime, self.progress.step
        self._name_unreadable(batch)
        few = runtime.total(len(batch)) < 2 * batch.group
        if runtime.agree(flag=few or not len(batch)):
            self.progress.step += 1  # nothing left to contrast
            self.progress.sums["skipped"] = self.progress.sums.get("skipped", 0.0) + 1
            return {"loss": float("nan")}
        torch.manual_seed((self.where.seed * 1_000_003 + step) * 64 + runtime.rank)
        parts.model.train()
        set_step(parts.optimiser, self.settings, step, self.total)
        parts.optimiser.zero_grad(set_to_none=True)
        try:
            values = gradients(
                parts.model,
                parts.objective,
                batch.to(runtime.device),
                wanted=self.recipe.wanted,
                runtime=runtime,
                micro_batch=self.settings.micro_batch,
            )
        except NonFiniteLossError as exc:
            raise self._stopped(batch, exc) from exc
        learned = [*parts.model.parameters(), *parts.objective.parameters()]
        norm = torch.nn.utils.clip_grad_norm_(learned, self.settings.max_norm)
        if not torch.isfinite(norm):
            raise self._stopped(
                batch, NonFiniteLossError(f"The gradients are not finite (norm {norm.item():g}).")
            )
        parts.optimiser.step()
        parts.objective.hold_scale()
        if parts.average is not None:
            parts.average.update_parameters(parts.model)
        self.progress.step += 1
        numbers = torch.stack(list(values.values())).tolist()
        found = dict(zip(values, numbers, strict=True))
        sums = self.progress.sums
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value
        sums["steps"] = sums.get("steps", 0.0) + 1
        return found

    def _name_unreadable(self, batch: Batch) -> None:
        for name in set(batch.unreadable) - self.unreadable:
            self.unreadable.add(name)
            tqdm.write(f"Slide {name} cannot be read any more and is left out.")

    def _stopped(self, batch: Batch, exc: NonFiniteLossError) -> TrainingStoppedError:
        path = self.where.folder / BAD_BATCH.replace(
            ".json", f"_{self.runtime.rank}.json" if self.runtime.rank else ".json"
        )
        spots = [str(self.data.spot_ids[row]) for row in batch.row.tolist()]
        path.write_text(
            json.dumps({"step": self.progress.step, "error": str(exc), "spots": spots}, indent=1)
        )
        msg = (
            f"{exc} Training stopped at step {self.progress.step}; the spots of its batch are in {path}. Look at "
            "their images and counts, or train with a lower optimiser.lr, or optimiser.precision = fp32, and another --out."
        )
        return TrainingStoppedError(msg)

    def _end_epoch(
        self, validate: Callable[[AlignModel], dict[str, float]] | None, seconds: float
    ) -> bool:
        """Log, validate and save; True when training is to end here."""
        epoch = self.progress.step // self.steps.per_epoch
        self.unreadable = self.runtime.union(self.unreadable)
        record = self._record(epoch, seconds)
        stop = False
        if validate is not None and self.runtime.is_main:
            stop = self._validate(validate, epoch, record)
        stop = self.runtime.agree(flag=stop)
        self.progress.sums = {}
        if self.runtime.is_main:
            # Before the state: an epoch that was logged and not saved is done and logged again.
            append_log(self.where.folder, record, epoch=epoch)
            self.board.add(record)
        self._save()
        return stop

    def _validate_start(self, validate: Callable[[AlignModel], dict[str, float]]) -> None:
        """Measure, log and save the start, as epoch 0: one in closed form may be better than what comes of it."""
        progress = self.progress
        if progress.step or progress.best >= 0:
            return  # the state was saved after it was measured
        record = {"epoch": 0, "step": 0, "scale": self._scale(), "seconds": 0.0}
        self._validate(validate, 0, record)
        append_log(self.where.folder, record, epoch=0)
        self.board.add(record)
        self._save()

    def _scale(self) -> float:
        return float(self.parts.objective.scale.detach())

    def _record(self, epoch: int, seconds: float) -> dict[str, Any]:
        sums = dict(self.progress.sums)
        steps, skipped = sums.pop("steps", 0.0), sums.pop("skipped", 0.0)
        if not steps:
            msg = f"No step of epoch {epoch} had two spots to contrast on every process: raise sampler.batch_size, or restore unreadable slides."
            raise TrainingStoppedError(msg)
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": self.progress.step,
            "lr": learning_rate(self.settings, self.progress.step - 1, self.total),
            "scale": self._scale(),
            "seconds": round(seconds, 2),
            **{name: value / steps for name, value in sums.items()},
        }
        if skipped:
            record["skipped_steps"] = int(skipped)
        if self.unreadable:
            record["unreadable"] = sorted(self.unreadable)
        return record

    def _validate(
        self,
        validate: Callable[[AlignModel], dict[str, float]],
        epoch: int,
        record: dict[str, Any],
    ) -> bool:
        model = self._averaged()
        model.eval()
        found = validate(model)
        record.update({f"validation_{name}": value for name, value in found.items()})
        progress = self.progress
        if found["recall"] > progress.best:
            progress.best, progress.best_epoch, progress.stale = found["recall"], epoch, 0
            self.parts.best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        else:
            progress.stale += 1
        return self._stopped_early(validate)

    def _averaged(self) -> AlignModel:
        average = self.parts.average
        return self.parts.model if average is None else cast("AlignModel", average.module)

    def _finish(self) -> int:
        """Leave the model at its best epoch, or its average, or its last step; says which epoch that is."""
        model, kept = self.parts.model, self.progress.step // max(self.steps.per_epoch, 1)
        if self.parts.best is not None:
            model.load_state_dict(self.parts.best)
            kept = self.progress.best_epoch
        elif self.parts.average is not None:
            model.load_state_dict(self.parts.average.module.state_dict())
        model.eval()
        self.runtime.wait()
        return kept

    def _save(self) -> None:
        if self.runtime.is_main:
            save_state(self.where.folder, self.parts, self.progress)
