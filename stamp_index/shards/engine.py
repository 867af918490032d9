"""An index's engine whose rows lie in shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.index.engine import Settings
from stamp_index.index.engine.sources import breadth_under, least_breadth
from stamp_index.index.exact import check_allowed, check_queries
from stamp_index.shards.messages import MOST_HITS, MOST_POSITIONS, MOST_QUERIES, Question, packed
from stamp_index.shards.silence import not_again, report_missing, skipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.shards.messages import Reply
    from stamp_index.shards.plan import ShardPlan
    from stamp_index.shards.service import ShardService

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]

_SCATTERED: Final = 65_536  # rows up to which an undivided index compares scattered ones one by one
_STRETCH: Final = 256  # rows of a stretch from which it reads them where they lie


@dataclass(frozen=True, eq=False)
class AllowedParts:
    """Rows that may be found, for each shard.

    Attributes
    ----------
    n : int
        How many, in all shards.
    in_pieces : bool
        See `Question`.
    filters : dict of int to ndarray
        See `Question`.
    bits : ndarray of uint8
        One bit a position of the undivided index.
    """

    n: int
    in_pieces: bool
    filters: dict[int, NDArray[Any]]
    bits: NDArray[np.uint8]


class ShardedEngine:
    """Asks shards as `Engine` searches vectors; see `PositionSearch`.

    Parameters
    ----------
    plan : ShardPlan
        How the index was divided.
    service : ShardService
        What answers for the shards.
    settings : Settings, optional
        For searches that bring none.
    """

    def __init__(
        self, plan: ShardPlan, service: ShardService, settings: Settings | None = None
    ) -> None:
        self.plan, self.service = plan, service
        self.settings = settings or Settings()

    def __len__(self) -> int:
        return self.plan.n

    @property
    def is_exact(self) -> bool:
        """Whether every search compares all rows."""
        return self.plan.kind == "flat"

    def prepare(self, mask: NDArray[np.bool_]) -> AllowedParts:
        """Make a filter ready: see `Engine.prepare`."""
        check_allowed(mask, len(self))
        n = int(np.count_nonzero(mask))
        n_edges = int(np.count_nonzero(mask[1:] != mask[:-1]))
        stretches = n > 0 and n_edges // 2 <= n // _STRETCH + 1
        filters = {}
        for number, part in enumerate(self.plan.parts):
            here = mask[part.start : part.stop]
            if not here.all():
                filters[number] = packed(here)
        bits = np.packbits(mask, bitorder="little")
        return AllowedParts(n, stretches or n <= _SCATTERED, filters, bits)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        settings: Settings | None = None,
        allowed: AllowedParts | None = None,
    ) -> Hits:
        """Find the rows of highest cosine: see `Engine.search`.

        Where shards do not answer, these are the hits of the others: see `silence`.

        Raises
        ------
        ShardError
            If none answers, or some do not and nobody listens.
        StalePlanError
            If other shards were put in their place.
        """
        return self._search(queries, k, settings or self.settings, allowed)

    def exact(self, queries: NDArray[np.float32], k: int, allowed: AllowedParts | None) -> Hits:
        """Compare every allowed row; as `search` otherwise."""
        return self._search(queries, k, None, allowed)

    def cosines(
        self, positions: NDArray[np.int64], query: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Cosine of rows at some positions (m,) with one unit query (d,), (m,); NaN where a shard did not answer."""
        scores = np.empty(len(positions), np.float32)
        for at in range(0, len(positions), MOST_POSITIONS):
            part = slice(at, at + MOST_POSITIONS)
            question = Question(
                self.plan.name,
                "cosines",
                query[None],
                positions=positions[part],
                skip=skipped(self.plan),
            )
            reply = self.service.ask(self.plan.modality, question)
            not_again(self.plan, reply.silent)
            scores[part] = reply.scores[0]
        return scores

    # ---- helpers -----------------------------------------------------------------------------

    def _search(
        self,
        queries: NDArray[np.float32],
        k: int,
        settings: Settings | None,
        allowed: AllowedParts | None,
    ) -> Hits:
        queries = check_queries(queries, self.plan.dim, k)
        if allowed is not None and allowed.n == len(self):
            allowed = None
        n = len(self) if allowed is None else allowed.n
        k = min(int(k), n)
        if k == 0 or len(queries) == 0:
            return np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        step = max(1, min(MOST_QUERIES, MOST_HITS // k))
        blocks = [queries[at : at + step] for at in range(0, len(queries), step)]
        while True:
            before = skipped(self.plan)
            replies = [self._ask(block, k, settings, allowed) for block in blocks]
            if len(blocks) == 1 or skipped(self.plan) == before:  # else some are of fewer shards
                break
        if len(replies) == 1:
            return replies[0].scores, replies[0].positions
        scores, positions = (
            np.concatenate([getattr(reply, name) for reply in replies])
            for name in ("scores", "positions")
        )
        return scores, positions

    def _ask(
        self,
        queries: NDArray[np.float32],
        k: int,
        settings: Settings | None,
        allowed: AllowedParts | None,
    ) -> Reply:
        n = len(self) if allowed is None else allowed.n
        exactly = settings is None or self.is_exact
        breadth = 1 if settings is None else settings.breadth
        if not exactly:
            if allowed is not None:
                breadth = breadth_under(breadth, n / len(self))
            breadth = max(breadth, least_breadth(k, n, self.plan.n_lists))
        question = Question(
            plan=self.plan.name,
            kind="search",
            queries=queries,
            k=k,
            exactly=exactly,
            breadth=min(breadth, max(self.plan.n_lists, 1)),
            n_rerank=1 if settings is None else settings.n_rerank,
            n_allowed=n,
            in_pieces=allowed is not None and allowed.in_pieces,
            filters={} if allowed is None else allowed.filters,
            skip=skipped(self.plan),
        )
        reply = self.service.ask(self.plan.modality, question)
        filters = question.filters
        wanted = {n for n in range(len(self.plan.parts)) if n not in filters or filters[n].any()}
        # Those that were not asked, as they did not answer this query before, are missing here too.
        missing = wanted & {*reply.silent, *question.skip}
        report_missing(self.plan, missing, answered=len(missing) < len(wanted))
        return reply
