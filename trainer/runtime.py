"""Where training runs: one process or several, CPU or GPU; a thin layer over accelerate."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import InitProcessGroupKwargs  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Runtime:
    """Device, rank and the few things that processes say to each other.

    Under ``torchrun`` every process is one rank (NCCL between GPUs, gloo between CPUs).

    Parameters
    ----------
    precision : str
        ``auto``, ``fp32`` or ``bf16``; see `trainer.recipe.Optimiser`.
    """

    def __init__(self, precision: str = "auto") -> None:
        # Without `cpu` accelerate takes no notice of torchrun where there is no GPU, and every process trains alone.
        # Rank 0 alone prepares images and validates, for as long as that takes.
        patient = InitProcessGroupKwargs(timeout=timedelta(days=7))
        self.accelerator = Accelerator(
            mixed_precision="no", cpu=not torch.cuda.is_available(), kwargs_handlers=[patient]
        )
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        fits = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.bf16 = precision == "bf16" or (precision == "auto" and fits)

    @property
    def is_main(self) -> bool:
        """True in the process that writes files."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision for towers; losses are computed in float32."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def join(self, views: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rows of all ranks, in rank order; gradients flow into this rank's own rows.

        Ranks may hold different numbers of rows.
        """
        if self.world == 1:
            return views
        n = torch.tensor([len(next(iter(views.values())))], device=self.device)
        counts = [torch.zeros_like(n) for _ in range(self.world)]
        dist.all_gather(counts, n)
        sizes = [int(count) for count in counts]
        return {name: self._join(view, sizes) for name, view in views.items()}

    def _join(self, view: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        padded = view.detach().new_zeros((max(sizes), *view.shape[1:]))
        padded[: len(view)] = view.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        joined = [part[:size] for part, size in zip(parts, sizes, strict=True)]
        joined[self.rank] = view
        return torch.cat(joined)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter], factor: float = 1.0) -> None:
        """Add up the ranks' gradients, times `factor`, as one message.

        A gradient that some rank lacks counts as zero there; one that every rank lacks stays missing.
        """
        if self.world == 1:
            return
        learned = [parameter for parameter in parameters if parameter.requires_grad]
        if not learned:
            return
        has = torch.tensor([float(one.grad is not None) for one in learned], device=self.device)
        grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in learned]
        flat = torch.cat([has, *(grad.flatten().float() for grad in grads)])
        dist.all_reduce(flat)
        somewhere = (flat[: len(learned)] > 0).tolist()
        sums = torch.split(flat[len(learned) :] * factor, [one.numel() for one in learned])
        for parameter, grad, total, known in zip(learned, grads, sums, somewhere, strict=True):
            if known:
                parameter.grad = grad.copy_(total.view_as(grad))

    def broadcast(self, *modules: torch.nn.Module) -> None:
        """Give every rank the parameters and buffers of rank 0."""
        if self.world == 1:
            return
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                value = tensor.detach().contiguous()
                dist.broadcast(value, src=0)
                tensor.detach().copy_(value)

    def agree(self, *, flag: bool) -> bool:
        """Make a flag true everywhere if it is true anywhere."""
        if self.world == 1:
            return flag
        value = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item())

    def total(self, count: int) -> int:
        """Sum of the ranks' counts."""
        if self.world == 1:
            return count
        value = torch.tensor([count], device=self.device)
        dist.all_reduce(value)
        return int(value.item())

    def union(self, names: set[str]) -> set[str]:
        """Names that any rank has."""
        if self.world == 1:
            return names
        found: list[set[str]] = [set() for _ in range(self.world)]
        dist.all_gather_object(found, names)
        return set().union(*found)

    def wait(self) -> None:
        """Until every rank is here."""
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Leave the group of processes."""
        if dist.is_initialized():
            dist.destroy_process_group()
