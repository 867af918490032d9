"""The loop of stage 1: hidden genes first, then also the niche's centre from its neighbours."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stamp_index.genes import PAD, TOKEN_OFFSET
from trainer.recipe import RecipeError
from trainer.stage1.evaluate import NICHE_VALUES
from trainer.stage1.losses import gene_loss, niche_loss
from trainer.stage1.masking import corrupt
from trainer.stage1.niches import SIZE
from trainer.state import Board

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from trainer.stage1.config import Schedule, Stage1Recipe
    from trainer.stage1.data import Spots
    from trainer.stage1.evaluate import Probe
    from trainer.stage1.model import Stage1Model
    from trainer.stage1.state import Run


@dataclass(frozen=True)
class Batch:
    """One step's niches.

    Attributes
    ----------
    shown, targets : Tensor of shape (k * 9, t), int64
        Tokens with hidden genes, and as they are; t is the length of the longest spot.
    chosen : Tensor of shape (k * 9, t), bool
        Hidden ranks.
    """

    shown: torch.Tensor
    targets: torch.Tensor
    chosen: torch.Tensor


@dataclass
class Window:
    """Sums since the last line of the log."""

    started: float = field(default_factory=time.perf_counter)
    n_spots: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, total: float, n: int) -> None:
        """Add a sum over n positions."""
        self.sums[name] = self.sums.get(name, 0.0) + total
        self.counts[name] = self.counts.get(name, 0) + n

    def record(self) -> dict[str, float]:
        """Means and speed."""
        seconds = time.perf_counter() - self.started
        means = {name: total / max(1, self.counts[name]) for name, total in self.sums.items()}
        return {
            "seconds": round(seconds, 2),
            "spots_per_s": round(self.n_spots / seconds, 1),
            **means,
        }


class Stage1Trainer:
    """Trains a model in place; a run that was stopped goes on after its last saved step.

    Niches, hidden genes and dropout of a step come from a seed of their own, so that a run that was killed
    ends with the weights of one that was not.

    Parameters
    ----------
    recipe : Stage1Recipe
    model : Stage1Model
        Moved to the GPU if there is one.
    spots : Spots
        Of the training slides.
    run : Run
        Where state and log go.
    probe : Probe, optional
        Measured after every epoch.

    Raises
    ------
    TrainingError
        If the state of an earlier run is damaged.
    """

    def __init__(
        self,
        recipe: Stage1Recipe,
        model: Stage1Model,
        spots: Spots,
        run: Run,
        *,
        probe: Probe | None = None,
    ) -> None:
        self.recipe, self.spots, self.run, self.probe = recipe, spots, run, probe
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.optimiser = torch.optim.AdamW(parameter_groups(model, recipe.schedule.weight_decay))
        self.epoch = self.done = self.step = 0  # whole epochs, steps in this one, all steps
        self.board = Board(run.folder, by="step")
        state = run.load()
        if state is not None:
            model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.epoch, self.done, self.step = (state[name] for name in ("epoch", "done", "step"))

    def train(self) -> None:
        """Train to the end; the model is left in evaluation mode.

        Raises
        ------
        RecipeError
            If no slide has a niche.
        TrainingError
            If a loss or gradient is no number (the batch's spot ids are saved), or the state cannot be
            written.
        """
        while self.epoch < self.recipe.schedule.epochs:
            self._train_epoch()
        self.model.eval()

    def _train_epoch(self) -> None:
        self.model.train()
        per_step = self.recipe.schedule.niches
        niches = self._niches()
        n_steps = math.ceil(len(niches) / per_step)
        title = f"epoch {self.epoch + 1} of {self.recipe.schedule.epochs}"
        window = Window()
        with tqdm(
            total=n_steps, initial=self.done, unit="step", desc=title, disable=self.run.quiet
        ) as bar:
            while self.done < n_steps:
                part = niches[self.done * per_step : (self.done + 1) * per_step]
                self._train_step(part, (self.epoch + self.done / n_steps), window)
                self.done, self.step = self.done + 1, self.step + 1
                bar.update()
                if self.done < n_steps and self.done % self.recipe.schedule.save_every == 0:
                    self._save({"epoch": self.epoch + 1, **window.record()})
                    window = Window()
        record = {
            "epoch": self.epoch + 1,
            **window.record(),
            "n_niches": len(niches),
            **self._probed(),
        }
        self.epoch, self.done = self.epoch + 1, 0
        self._save({**record, "ends_epoch": True})

    def _niches(self) -> NDArray[np.int64]:
        """Return the niches (k, 9) of the current epoch in random order."""
        rng = np.random.default_rng([self.run.seed, self.epoch])
        niches = self.spots.niches(rng, self.recipe.objective.max_pitches)
        if not len(niches):
            msg = (
                f"No slide has a niche of {SIZE} spots within {self.recipe.objective.max_pitches:g} pitches. Give "
                "slides with more spots, or raise objective.max_pitches."
            )
            raise RecipeError(msg)
        return rng.permutation(niches)

    def _train_step(self, niches: NDArray[np.int64], at: float, window: Window) -> None:
        """One step on niches (k, 9), `at` epochs from the start."""
        rng = np.random.default_rng([self.run.seed, self.epoch, self.done])
        torch.manual_seed(int(rng.integers(2**62)))
        n_genes = self.model.gene_head.out_features - TOKEN_OFFSET
        batch = make_batch(self.spots.tokens[niches.ravel()], n_genes, self.recipe, rng)
        batch = Batch(**{name: value.to(self.device) for name, value in vars(batch).items()})
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe.schedule, at)
        with precision(self.device):
            loss = total_loss(self.recipe, self.model, batch, both=self._both, window=window)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.schedule.max_norm)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            names = [self.spots.spot_ids[spot] for spot in niches.ravel()]
            facts = {"epoch": self.epoch + 1, "step": self.step + 1, "loss": str(loss.item())}
            raise self.run.stop(names, {**facts, "gradient_norm": str(norm.item())})
        self.optimiser.step()
        window.n_spots += niches.size

    def _probed(self) -> dict[str, float]:
        if self.probe is None:
            return {}
        measured = self.probe.measure(self.model, self.device, precision(self.device))
        values = {f"probe_{name}": value for name, value in measured.items()} | self.probe.baseline
        if self._both:
            return values
        # The niche head has learnt nothing yet.
        return {name: value for name, value in values.items() if not name.endswith(NICHE_VALUES)}

    @property
    def _both(self) -> bool:
        """Whether the current epoch also predicts the centres of niches."""
        late = self.epoch >= self.recipe.schedule.mask_epochs
        return late and self.recipe.objective.cgr_weight > 0

    def _save(self, record: dict[str, Any]) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "done": self.done,
            "step": self.step,
        }
        lr = self.optimiser.param_groups[0]["lr"]
        record = {"step": self.step, "lr": lr, **record}
        self.run.save(state, record)
        self.board.add(record)


def make_batch(
    tokens: NDArray[np.integer], n_genes: int, recipe: Stage1Recipe, rng: np.random.Generator
) -> Batch:
    """Hide genes of tokens (k * 9, context), and cut off ranks that no spot reaches."""
    used = np.flatnonzero((tokens != PAD).any(axis=0))
    tokens = tokens[:, : used[-1] + 1 if len(used) else 1]
    hidden = corrupt(tokens, n_genes, recipe.objective.mask_share, rng)
    arrays = (hidden.tokens, hidden.targets, hidden.chosen)
    return Batch(*(torch.from_numpy(array) for array in arrays))


def total_loss(
    recipe: Stage1Recipe, model: Stage1Model, batch: Batch, *, both: bool, window: Window
) -> torch.Tensor:
    """Weighted sum of the losses; each is noted in the window, with its accuracy."""
    objective = recipe.objective
    features = model(batch.shown)  # (k * 9, t, width)
    own = gene_loss(features, batch.targets, batch.chosen, model.gene_head)
    loss = objective.igr_weight * own.loss
    window.add("igr", float(own.loss.detach()) * own.n, own.n)
    if both:
        grouped, targets, chosen = (
            torch.unflatten(part, 0, (-1, SIZE)) for part in (features, batch.targets, batch.chosen)
        )
        niche = niche_loss(
            grouped,
            targets,
            model.niche_head,
            chosen=chosen[:, 0] if objective.cgr_targets == "masked" else None,
        )
        loss = loss + objective.cgr_weight * niche.loss
        window.add("cgr", float(niche.loss.detach()) * niche.n, niche.n)
        window.add("niche_accuracy", float(niche.right), niche.n)
    window.add("accuracy", float(own.right), own.n)
    return loss


def precision(device: torch.device) -> AbstractContextManager[object]:
    """Bfloat16 for what tolerates it on a GPU, float32 on a CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only: not on biases, norms and rank positions."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[parameter.ndim == 2 and name.endswith("weight")].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]


def learning_rate(schedule: Schedule, at: float) -> float:
    """Linear warm-up, then a cosine that ends at zero and stays there; `at` epochs from the start.

    In epochs, since the number of niches differs a little from one epoch to the next.
    """
    progress = min(1.0, at / schedule.epochs)
    if progress < schedule.warmup_share:
        return schedule.lr * progress / schedule.warmup_share
    left = (1 - progress) / max(1e-9, 1 - schedule.warmup_share)
    return schedule.lr * 0.5 * (1 - math.cos(math.pi * left))
