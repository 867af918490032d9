"""Learning rate and weight decay of each step, and which parameters decay."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.recipe import Optimiser


def make_optimiser(modules: Iterable[nn.Module], settings: Optimiser) -> torch.optim.AdamW:
    """AdamW that decays matrices of the towers only: not biases, norms, prompts, positions, direct paths or the scale."""
    groups: dict[str, list[nn.Parameter]] = {"decayed": [], "plain": [], "direct": []}
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                matrix = parameter.ndim >= 2 and name.endswith("weight")
                kind = "direct" if name.startswith("direct.") else "decayed" if matrix else "plain"
                groups[kind].append(parameter)
    decay = {"decayed": settings.weight_decay, "plain": 0.0, "direct": 0.0}
    return torch.optim.AdamW(
        [{"params": found, "weight_decay": decay[kind]} for kind, found in groups.items()],
        lr=settings.lr,
    )


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
    decayed, plain, direct = optimiser.param_groups
    decayed["lr"] = plain["lr"] = learning_rate(settings, step, total)
    direct["lr"] = settings.direct_share * decayed["lr"]
    decayed["weight_decay"] = weight_decay(settings, step, total)
