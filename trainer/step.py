"""One optimisation step with contrastive gradients that are exact for any micro-batch and any number of ranks.

The loss of a batch needs all its embeddings at once, the towers do not: embeddings are computed first, the loss
and its gradients with respect to the embeddings next, and then each tower's backward pass. Where a batch is cut
into micro-batches the first pass keeps no activations and the second repeats it with the same random numbers
(Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup", arXiv 2101.06983).
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stamp_index.encoders.model import AlignModel
    from trainer.data import Batch
    from trainer.objective import Objective
    from trainer.runtime import Runtime


class NonFiniteLossError(ArithmeticError):
    """The loss is not a number; nothing was changed by its step."""


def gradients(
    model: AlignModel,
    objective: Objective,
    batch: Batch,
    *,
    wanted: frozenset[str],
    runtime: Runtime,
    micro_batch: int = 0,
) -> dict[str, torch.Tensor]:
    """Put the gradients of one batch's loss into the parameters.

    Parameters
    ----------
    model, objective : Module
        Without gradients of an earlier batch: those of all ranks are summed up here.
    batch : Batch
        This rank's rows, on its device.
    wanted : frozenset of str
        Outputs of the model that the objective needs.
    runtime : Runtime
    micro_batch : int
        Rows per forward pass; 0 for all. Batch normalisation sees one micro-batch at a time.

    Returns
    -------
    dict of str to Tensor
        ``loss`` and every loss by name, of the joined batch of all ranks.

    Raises
    ------
    NonFiniteLossError
        If the loss is NaN or infinite.
    """
    parts = _parts(batch, micro_batch)
    once = len(parts) == 1
    outputs, states = [], []
    with nullcontext() if once else _statistics_kept(model):
        for part in parts:
            states.append(None if once else _random_state(runtime.device))
            with torch.set_grad_enabled(once), runtime.autocast():
                outputs.append(model(part.inputs, wanted))
    local = {
        name: torch.cat([out[name] for out in outputs]) if not once else outputs[0][name]
        for name in outputs[0]
    }
    leaves = {name: view.detach().requires_grad_() for name, view in local.items()}
    extras = {"label": batch.label, "place": batch.place}
    if batch.target.shape[1]:
        extras["target"] = batch.target
    loss, values = objective(runtime.join({**leaves, **extras}))
    if not torch.isfinite(loss):
        found = ", ".join(f"{name} = {value.item():g}" for name, value in values.items())
        msg = f"The loss is not finite ({found})."
        raise NonFiniteLossError(msg)
    loss.backward()
    start = 0
    for part, state, out in zip(parts, states, outputs, strict=True):
        stop = start + len(part)
        if state is not None:
            _set_random_state(state, runtime.device)
            with runtime.autocast():
                out = model(part.inputs, wanted)
        _backward(
            out,
            {name: leaf.grad[start:stop] for name, leaf in leaves.items() if leaf.grad is not None},
        )
        start = stop
    runtime.sum_gradients(model.parameters())
    runtime.sum_gradients(
        objective.parameters(), 1 / runtime.world
    )  # each rank holds the whole of these
    return {"loss": loss.detach(), **{name: value.detach() for name, value in values.items()}}


def _parts(batch: Batch, micro_batch: int) -> list[Batch]:
    if not micro_batch or micro_batch >= len(batch):
        return [batch]
    # Of nearly equal sizes, two rows at least: batch normalisation cannot do with a single one.
    n_parts = max(1, min(-(-len(batch) // micro_batch), len(batch) // 2))
    cuts = [len(batch) * i // n_parts for i in range(n_parts + 1)]
    return [batch.rows(slice(start, stop)) for start, stop in pairwise(cuts)]


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Keep running means and variances as they are: a micro-batch counts once, in its second pass."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _backward(outputs: dict[str, torch.Tensor], grads: dict[str, torch.Tensor]) -> None:
    names = [name for name in grads if outputs[name].requires_grad]
    torch.autograd.backward(
        [outputs[name] for name in names], [grads[name].to(outputs[name].dtype) for name in names]
    )


def _random_state(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), own


def _set_random_state(
    state: tuple[torch.Tensor, torch.Tensor | None], device: torch.device
) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
