"""One pass over all cosines between queries and targets, in tiles that stay in the cache.

Everything that an evaluation needs of the n x n cosines is taken from each tile while it is hot: how many reach a
query's thresholds, and the best k. Nothing of size n x n ever exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.evaluate.metrics import TIE
from stamp_index.evaluate.retrieval.zones import N_ZONES, OWN_SLIDE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from stamp_index.evaluate.retrieval.zones import Block

TILE: Final = 8192  # targets at once: with 512 queries 16 MiB of cosines
SAMPLED: Final = 4  # of the first tile every 4th target says what the k best may be
NONE: Final = np.float32(-4.0)  # below every cosine
NONE_BELOW, SPREAD = 2.0, 8.0  # so that a row's sort keys lie within one
FEW: Final = 0.02  # share of a tile up to which it is quicker to look at single cosines


@dataclass(frozen=True, eq=False)
class Found:
    """What one block of b queries found.

    Attributes
    ----------
    block : Block
    reached : ndarray of shape (b, t, 3), int64
        Targets of each zone whose cosine reaches each of the query's t thresholds, up to `TIE` below.
    best : ndarray of shape (b, 3, k), int64
        The k best targets of each zone, best first, equal ones by their place; -1 where a zone has fewer. A query's own
        spot is not among them.
    """

    block: Block
    reached: NDArray[np.int64]
    best: NDArray[np.int64]


def scan(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
    blocks: Iterable[Block],
    thresholds: NDArray[np.float32],
    k: int,
    *,
    device: str = "cpu",
) -> Iterator[Found]:
    """Compare every query with every target.

    Parameters
    ----------
    vectors : (ndarray, ndarray) of shape (n, d), float32
        Queries and targets of unit length; row i of both is the same spot.
    blocks : iterable of Block
    thresholds : ndarray of shape (n, t), float32
        Cosines of each query that are to be reached, ascending.
    k : int
        Best targets to keep of each zone; 0 for none.
    device : str
        "cpu", or a device of torch.
    """
    if device != "cpu":
        from stamp_index.evaluate.retrieval.scan_torch import scan_torch

        yield from scan_torch(vectors, blocks, thresholds, k, device=device)
        return
    queries, targets = vectors
    reach = thresholds - np.float32(TIE)
    for block in blocks:
        rows = slice(block.start, block.stop)
        yield _scan_block(queries[rows], targets, block, reach=reach[rows], k=k)


def _scan_block(
    asked: NDArray[np.float32],
    targets: NDArray[np.float32],
    block: Block,
    *,
    reach: NDArray[np.float32],
    k: int,
) -> Found:
    reached = np.zeros((len(asked), reach.shape[1], N_ZONES), np.int64)
    best = [_Best(len(asked), k) for _ in range(N_ZONES)]
    cosines = np.empty((len(asked), TILE), np.float32)
    for first, last, zone in block.stretches:
        for start in range(first, last, TILE):
            part = targets[start : min(start + TILE, last)]
            tile = np.matmul(asked, part.T, out=_room(cosines, len(part)))
            reached[:, :, zone] += _count(tile, reach)
            if zone == OWN_SLIDE:
                _hide_own(tile, block, start)
            if k:
                best[zone].offer(tile, start)
    return Found(block, reached, np.stack([one.ids() for one in best], axis=1))


def _count(tile: NDArray[np.float32], reach: NDArray[np.float32]) -> NDArray[np.int64]:
    """Cosines (b, w) of each row that reach each of its ascending thresholds (b, t), (b, t)."""
    counts: NDArray[np.int64] = np.zeros(reach.shape, np.int64)
    for at in range(reach.shape[1]):
        hit = tile >= reach[:, at, None]
        counts[:, at] = [np.count_nonzero(row) for row in hit]
        if counts[:, at].sum() > FEW * tile.size:
            continue
        # What reaches a higher threshold is among these few: no further look at the tile.
        places = np.flatnonzero(hit)
        rows, cosines = places // tile.shape[1], tile.ravel()[places]
        for higher in range(at + 1, reach.shape[1]):
            kept = rows[cosines >= reach[rows, higher]]
            counts[:, higher] = np.bincount(kept, minlength=len(tile))
        break
    return counts


def _room(buffer: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Take a contiguous (b, width) array in the buffer's memory."""
    return buffer.reshape(-1)[: len(buffer) * width].reshape(len(buffer), width)


def _hide_own(tile: NDArray[np.float32], block: Block, start: int) -> None:
    own = np.arange(block.start, block.stop) - start
    here = np.flatnonzero((own >= 0) & (own < tile.shape[1]))
    tile[here, own[here]] = NONE


class _Best:
    """The k best targets of each of b queries so far.

    What passes a query's worst of the k is set aside, and sorted only when much has gathered.
    """

    def __init__(self, b: int, k: int) -> None:
        self.cosines = np.full((b, k), NONE, np.float32)
        self._ids = np.full((b, k), -1, np.int64)
        self._aside: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
        self._n_aside = 0

    def offer(self, tile: NDArray[np.float32], start: int) -> None:
        """Take in a tile whose first target is `start`; tiles come in ascending order."""
        k, width = self._ids.shape[1], tile.shape[1]
        least = self.cosines[:, -1]
        sample = tile[:, ::SAMPLED]
        if least[0] == NONE and sample.shape[1] > k:  # nothing yet to hold the first tile against
            at_least = np.partition(sample, sample.shape[1] - k, axis=1)[:, sample.shape[1] - k]
            least = np.nextafter(at_least, NONE)
        at = np.flatnonzero(tile > least[:, None])
        self._aside.append((at // width, at % width + start, tile.ravel()[at]))
        self._n_aside += len(at)
        if self._n_aside > self._ids.size:
            self._sort()

    def ids(self) -> NDArray[np.int64]:
        """Places of the best, (b, k), best first; -1 where there are fewer."""
        self._sort()
        return self._ids

    def _sort(self) -> None:
        b, k = self._ids.shape
        parts = [
            (np.repeat(np.arange(b), k), self._ids.ravel(), self.cosines.ravel()),
            *self._aside,
        ]
        rows, ids, cosines = (np.concatenate(column) for column in zip(*parts, strict=True))
        # Equal cosines stay as they came: by their place.
        order = np.argsort(rows + (NONE_BELOW - cosines.astype(np.float64)) / SPREAD, kind="stable")
        first = np.searchsorted(rows[order], np.arange(b))
        kept = order[first[:, None] + np.arange(k)]
        self._ids, self.cosines = ids[kept], cosines[kept]
        self._aside, self._n_aside = [], 0
