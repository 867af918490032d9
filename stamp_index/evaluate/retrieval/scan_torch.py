"""The pass of `scan` on a device of torch: the same answers from the same tiles, with the targets in the device's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.evaluate.metrics import TIE
from stamp_index.evaluate.retrieval.scan import Found
from stamp_index.evaluate.retrieval.zones import N_ZONES, OWN_SLIDE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch
    from numpy.typing import NDArray

    from stamp_index.evaluate.retrieval.zones import Block

TILE: Final = 65_536  # targets at once: with 512 queries 128 MiB of cosines
RESIDENT: Final = 8 * 2**30  # bytes of targets that stay on the device


def scan_torch(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
    blocks: Iterable[Block],
    thresholds: NDArray[np.float32],
    k: int,
    *,
    device: str,
) -> Iterator[Found]:
    """As `scan`."""
    import torch

    queries, targets = (torch.from_numpy(np.ascontiguousarray(side)) for side in vectors)
    if targets.nbytes <= RESIDENT:
        targets = targets.to(device)
    reach = torch.from_numpy(thresholds - np.float32(TIE))
    was = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False  # its cosines are off by more than TIE
    try:
        for block in blocks:
            rows = slice(block.start, block.stop)
            asked = queries[rows].to(device)
            yield _scan_block(asked, targets, block, reach=reach[rows].to(device), k=k)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = was


def _scan_block(
    asked: torch.Tensor, targets: torch.Tensor, block: Block, *, reach: torch.Tensor, k: int
) -> Found:
    import torch

    b, n_thresholds = reach.shape
    reached = torch.zeros((b, n_thresholds, N_ZONES), dtype=torch.int64, device=asked.device)
    best = [
        (
            torch.full((b, k), -torch.inf, device=asked.device),
            torch.full((b, k), -1, dtype=torch.int64, device=asked.device),
        )
        for _ in range(N_ZONES)
    ]
    for first, last, zone in block.stretches:
        for start in range(first, last, TILE):
            part = targets[start : min(start + TILE, last)].to(asked.device)
            tile = asked @ part.T
            for at in range(n_thresholds):
                reached[:, at, zone] += (tile >= reach[:, at, None]).sum(1)
            if zone == OWN_SLIDE:
                _hide_own(tile, block, start)
            if k:
                best[zone] = _better(best[zone], tile, start)
    ids = torch.stack([ids for _, ids in best], dim=1)
    return Found(block, reached.cpu().numpy(), ids.cpu().numpy())


def _hide_own(tile: torch.Tensor, block: Block, start: int) -> None:
    import torch

    own = torch.arange(block.start, block.stop, device=tile.device) - start
    here = torch.nonzero((own >= 0) & (own < tile.shape[1]))[:, 0]
    tile[here, own[here]] = -torch.inf


def _better(
    held: tuple[torch.Tensor, torch.Tensor], tile: torch.Tensor, start: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the k best of what is held and of a tile; equal cosines by their place, which a stable sort keeps."""
    import torch

    cosines, ids = held
    k = ids.shape[1]
    found = torch.topk(tile, min(k, tile.shape[1]), dim=1)
    least = found.values[:, -1:]
    # topk takes any of those that are equal to its last one: the lowest places are put in their stead.
    equal = tile == least
    tied = torch.where(equal, -torch.arange(tile.shape[1], device=tile.device), -tile.shape[1])
    lowest = -torch.topk(tied, min(k, tile.shape[1]), dim=1).values
    above = (found.values > least).sum(1, keepdim=True)
    turn = torch.arange(found.indices.shape[1], device=tile.device)[None, :]
    chosen = torch.where(
        turn < above, found.indices, torch.gather(lowest, 1, (turn - above).clamp(min=0))
    )
    every = torch.cat([cosines, torch.gather(tile, 1, chosen)], dim=1)
    places = torch.cat([ids, chosen + start], dim=1)
    by_place = torch.argsort(places, dim=1, stable=True)
    every, places = torch.gather(every, 1, by_place), torch.gather(places, 1, by_place)
    order = torch.argsort(every, dim=1, descending=True, stable=True)[:, :k]
    kept = torch.gather(every, 1, order)
    return kept, torch.where(torch.isneginf(kept), -1, torch.gather(places, 1, order))
