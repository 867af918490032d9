"""What answers for all shards of a store, and that in this process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, Self

from stamp_index.errors import AnnIndexError
from stamp_index.shards.gather import joined, part_questions, raise_refusals
from stamp_index.shards.part import Part
from stamp_index.shards.patience import TIMEOUT_S
from stamp_index.shards.plan import has_plan, read_plan, shards_folder
from stamp_index.store.schema import MODALITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from stamp_index.shards.messages import Question, Reply
    from stamp_index.shards.part import AnswersPart, Hits
    from stamp_index.shards.plan import ShardPlan
    from stamp_index.store import Modality
    from stamp_index.store.view import StoreView


class ShardService(Protocol):
    """What answers for all shards, wherever they are. Threads may share it."""

    def plans(self) -> Mapping[str, Mapping[str, str]]:
        """Say what is served now: `ShardPlan.facts` by modality.

        Raises
        ------
        ShardError
            If it cannot be reached, or what it says cannot be read.
        """
        ...

    def ask(self, modality: Modality, question: Question) -> Reply:
        """Ask all shards of one embedding that may have an answer.

        Raises
        ------
        ShardError
            If it cannot be reached, or none of the shards answers.
        StalePlanError
            If it serves another plan.
        """
        ...


class Parts:
    """Shards of one plan that this process can ask, each in a thread of its own.

    Parameters
    ----------
    plan : ShardPlan
        What they are of.
    parts : sequence of AnswersPart
        One for each of its shards.
    timeout_s : float
        For a shard to answer.
    """

    def __init__(
        self, plan: ShardPlan, parts: Sequence[AnswersPart], *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.plan = plan
        self._parts = list(parts)
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(max(2 * len(parts), 1), "shard")

    def ask(self, question: Question) -> Reply:
        """See `ShardService.ask`."""
        asked = part_questions(question, self.plan)
        futures: dict[Future[Hits], int] = {
            self._threads.submit(self._parts[number].answer, one): number
            for number, one in asked.items()
            if number not in question.skip
        }
        until = time.monotonic() + self._timeout_s
        failed: dict[int, BaseException] = {}
        for future, number in futures.items():
            # One after the other takes less CPU than waiting for all at once.
            failure = _failure(future, until - time.monotonic())
            if failure is not None:
                failed[number] = failure
        raise_refusals(self.plan, failed)
        answers = {n: future.result() for future, n in futures.items() if n not in failed}
        return joined(question, self.plan, answers, failed)


def _failure(future: Future[Hits], left_s: float) -> BaseException | None:
    """Wait for an answer as long as there is time; why there is none."""
    try:
        return future.exception(max(left_s, 0))
    except TimeoutError as exc:
        future.cancel()
        return exc


class LocalShards:
    """Shards in this process: for one machine, and for tests.

    Made by `LocalShards.open`.
    """

    def __init__(self, parts: Mapping[Modality, Parts]) -> None:
        self._parts = dict(parts)

    @classmethod
    def open(cls, store: StoreView, *, timeout_s: float = TIMEOUT_S) -> Self:
        """Open all shards of a store.

        Raises
        ------
        AnnIndexError
            If a store has none, or one is missing or damaged.
        """
        sides = [side for side in MODALITIES if has_plan(store, side)]
        if not sides:
            msg = f"The store at {store.place} has no shards. Divide its indexes with `stamp-index shard STORE --shards N`."
            raise AnnIndexError(msg)
        return cls({s: _open(shards_folder(store, s), timeout_s=timeout_s) for s in sides})

    def plans(self) -> Mapping[str, Mapping[str, str]]:
        """See `ShardService`."""
        return {side: parts.plan.facts for side, parts in self._parts.items()}

    def ask(self, modality: Modality, question: Question) -> Reply:
        """See `ShardService`."""
        return self._parts[modality].ask(question)


def _open(folder: Path, *, timeout_s: float) -> Parts:
    plan = read_plan(folder)
    parts = [Part.open(folder, number, plan.name) for number in range(len(plan.parts))]
    return Parts(plan, parts, timeout_s=timeout_s)
