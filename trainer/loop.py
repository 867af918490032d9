"""The training loop: one file, plain torch."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from stamp_index.encoders.image_tower import pool_cells
from trainer.data import draw
from trainer.losses import loss_of
from trainer.sampler import batches

if TYPE_CHECKING:
    from pathlib import Path

    from stamp_index.encoders.model import StampModel
    from trainer.data import Batch, TrainingSet
    from trainer.recipe import Optimiser, Recipe

STATE = "state.pt"
LOG = "log.jsonl"


@dataclass(frozen=True)
class Run:
    """Where a run writes, and its seed."""

    folder: Path
    seed: int
    quiet: bool = False


def train(recipe: Recipe, model: StampModel, data: TrainingSet, run: Run) -> None:
    """Train `model` in place; a run that was interrupted goes on after its last whole epoch.

    Every epoch starts from its own seed, so an interrupted run ends where an uninterrupted one does.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimiser = torch.optim.AdamW(parameter_groups(model, recipe.optimiser), lr=recipe.optimiser.lr)
    per_epoch = _steps_per_epoch(recipe, data)
    total = per_epoch * recipe.optimiser.epochs
    first = _resume(run, model, optimiser)
    with tqdm(total=total, initial=first * per_epoch, unit="step", disable=run.quiet) as bar:
        for epoch in range(first, recipe.optimiser.epochs):
            rng = np.random.default_rng([run.seed, epoch])
            torch.manual_seed(run.seed * 100_003 + epoch)
            started, sums, step = time.perf_counter(), {}, epoch * per_epoch
            for spots in batches(recipe.sampler, data.slide_of, rng):
                _set_lr(optimiser, recipe.optimiser, step, total)
                batch = _to(draw(data, spots, recipe, rng), device)
                values = training_step(recipe, model, optimiser, batch)
                sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
                step += 1
                bar.update()
                bar.set_postfix(loss=f"{values['loss']:.2f}", refresh=False)
            record = {
                "epoch": epoch + 1,
                "step": step,
                "lr": optimiser.param_groups[0]["lr"],
                "scale": float(model.log_scale.detach().exp()),
                "seconds": round(time.perf_counter() - started, 2),
                **{name: value / per_epoch for name, value in sums.items()},
            }
            _save(run, model, optimiser, record)
    model.eval()


def training_step(
    recipe: Recipe, model: StampModel, optimiser: torch.optim.Optimizer, batch: Batch
) -> dict[str, float]:
    """One step; returns every loss by name, and their weighted sum as ``loss``."""
    embeddings = embed_batch(recipe, model, batch)
    scale = model.log_scale.exp().clamp(max=recipe.optimiser.max_scale)
    values = {term.name: loss_of(term, embeddings, scale) for term in recipe.losses}
    loss = sum(
        (term.weight * values[term.name] for term in recipe.losses),
        torch.zeros((), device=scale.device),
    )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimiser.max_norm)
    optimiser.step()
    return {"loss": loss.item(), **{name: value.item() for name, value in values.items()}}


def embed_batch(recipe: Recipe, model: StampModel, batch: Batch) -> dict[str, torch.Tensor]:
    """Embed what the recipe's losses need, and nothing else."""
    needed = {side for term in recipe.losses for side in (term.left, term.right)}
    if "image" in needed:
        needed |= {"patch", "region"}
    localised = any(term.kind == "locate" for term in recipe.losses)
    embeddings = {"same": batch.same, "label": batch.label}
    if "patch" in needed:
        embeddings["patch"] = model.embed_patch(batch.patch)
    if "gene" in needed:
        embeddings["gene"] = model.embed_genes(batch.tokens, batch.profile)
    if localised or ("region" in needed and model.config.region_sees_patch):
        seen = model.image(batch.region, batch.patch)
        embeddings["reference"] = model.project("position", seen.inserted)
        embeddings["cells"] = model.project("position", pool_cells(seen.tokens))
        embeddings["region"] = model.project("region", seen.cls)
    if "region" in needed and not model.config.region_sees_patch:
        embeddings["region"] = model.embed_region(batch.region, batch.patch)
    if "image" in needed:
        both = embeddings["patch"] + embeddings["region"]
        embeddings["image"] = torch.nn.functional.normalize(both, dim=-1)
    return embeddings


def parameter_groups(model: StampModel, settings: Optimiser) -> list[dict[str, Any]]:
    """Weight decay on matrices only: not on biases, norms, prompts, positions or the scale."""
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim == 2 and name.endswith(".weight")
            (decayed if matrix else plain).append(parameter)
    return [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def learning_rate(settings: Optimiser, step: int, total: int) -> float:
    """Linear warm-up, then a cosine that ends at zero and stays there."""
    warmup = max(1, round(settings.warmup_share * total))
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return settings.lr * 0.5 * (1 + math.cos(math.pi * progress))


def _set_lr(optimiser: torch.optim.Optimizer, settings: Optimiser, step: int, total: int) -> None:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(settings, step, total)


def _steps_per_epoch(recipe: Recipe, data: TrainingSet) -> int:
    n = len(data.slide_of)
    steps, rest = divmod(n, recipe.sampler.batch_size)
    alone = rest == 1 and recipe.sampler.kind == "uniform"
    return steps + (rest > 0 and not alone)


def _to(batch: Batch, device: str) -> Batch:
    return type(batch)(**{name: tensor.to(device) for name, tensor in vars(batch).items()})


def _save(
    run: Run, model: StampModel, optimiser: torch.optim.Optimizer, record: dict[str, Any]
) -> None:
    """Write the state, then the log line: a line in the log always has its state behind it."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "record": record}
    draft = run.folder / f"{STATE}.tmp"
    torch.save(state, draft)
    draft.replace(run.folder / STATE)
    with (run.folder / LOG).open("a") as log:
        log.write(json.dumps(record) + "\n")


def _resume(run: Run, model: StampModel, optimiser: torch.optim.Optimizer) -> int:
    path = run.folder / STATE
    if not path.exists():
        (run.folder / LOG).unlink(missing_ok=True)
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["record"]["epoch"])
