"""Learning rate and weight decay of each step, and which parameters decay."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.recipe import Optimiser


def make_optimiser(modules: Iterable[nn.Module], settings: Optimiser) -> torch.optim.AdamW:
    """AdamW that decays matrices only: not biases, norms, prompts, positions or the logit scale."""
    decayed, plain = [], []
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                matrix = parameter.ndim >= 2 and name.endswith("weight")
                (decayed if matrix else plain).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr)


def learning_rate(settings: Optimiser, step: int, total: int) -> float:
    """Linear warm-up, then a cosine that ends at zero and stays there."""
    warmup = max(1, round(settings.warmup_share * total))
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return settings.lr * 0.5 * (1 + math.cos(math.pi * progress))


def weight_decay(settings: Optimiser, step: int, total: int) -> float:
    """Constant, or along half a cosine to its end (ST-Align, arXiv 2411.16793: .04 to .4)."""
    end = settings.weight_decay_end
    if end is None:
        return settings.weight_decay
    progress = min(1.0, step / max(1, total - 1))
    return end + (settings.weight_decay - end) * 0.5 * (1 + math.cos(math.pi * progress))


def set_step(optimiser: torch.optim.Optimizer, settings: Optimiser, step: int, total: int) -> None:
    """Move the optimiser to a step of the schedule."""
    decayed, plain = optimiser.param_groups
    decayed["lr"] = plain["lr"] = learning_rate(settings, step, total)
    decayed["weight_decay"] = weight_decay(settings, step, total)
