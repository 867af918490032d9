"""Which shards did not answer while one query was asked.

A query may ask the shards several times. A shard that was silent once is not asked again until the query is over, so
that all parts of an answer are of the same shards and nobody waits for it twice. Whoever can say in his answer that spots
were not searched listens; where nobody does, a shard that does not answer is an error.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stamp_index.errors import ShardError
from stamp_index.shards.gather import nobody_answered, not_searched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stamp_index.shards.plan import ShardPlan


@dataclass
class Silence:
    """Shards that did not answer, of every plan that was asked.

    Attributes
    ----------
    answered : set of str
        Names of the plans of which any shard did.
    """

    answered: set[str] = field(default_factory=set)
    _skipped: dict[str, set[int]] = field(default_factory=dict)  # by name of the plan
    _missed: dict[str, tuple[ShardPlan, set[int]]] = field(default_factory=dict)

    def skip(self, plan: ShardPlan) -> tuple[int, ...]:
        """Shards that are not to be asked again."""
        return tuple(sorted(self._skipped.get(plan.name, ())))

    def add(self, plan: ShardPlan, silent: Iterable[int]) -> None:
        """Remember that shards did not answer, but that nothing is missing for it."""
        self._skipped.setdefault(plan.name, set()).update(silent)

    def miss(self, plan: ShardPlan, silent: Iterable[int]) -> None:
        """Remember that the rows of shards were not searched."""
        self.add(plan, silent)
        self._missed.setdefault(plan.name, (plan, set()))[1].update(silent)

    def __bool__(self) -> bool:
        return any(silent for _, silent in self._missed.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of the answer."""
        return tuple(not_searched(plan, silent) for plan, silent in self._missed.values() if silent)


_heard: ContextVar[Silence | None] = ContextVar("silence", default=None)


@contextmanager
def listening() -> Iterator[Silence]:
    """Hear which shards do not answer in this block; a block within another begins with what that has heard."""
    outer, inner = _heard.get(), Silence()
    if outer is not None:
        inner.answered |= outer.answered
        inner._skipped = {name: set(silent) for name, silent in outer._skipped.items()}
    token = _heard.set(inner)
    try:
        yield inner
    finally:
        _heard.reset(token)
        if outer is not None:
            for name, silent in inner._skipped.items():
                outer._skipped.setdefault(name, set()).update(silent)
            for plan, silent in inner._missed.values():
                outer.miss(plan, silent)
            outer.answered |= inner.answered


def skipped(plan: ShardPlan) -> tuple[int, ...]:
    """Shards that are not to be asked, as they did not answer this query before."""
    heard = _heard.get()
    return () if heard is None else heard.skip(plan)


def not_again(plan: ShardPlan, silent: Iterable[int]) -> None:
    """Say that shards did not answer, but that what they would have said is known from elsewhere."""
    heard = _heard.get()
    if heard is not None:
        heard.add(plan, silent)


def report_missing(plan: ShardPlan, silent: Iterable[int], *, answered: bool) -> None:
    """Say that the rows of shards were not searched, and whether any shard answered.

    Raises
    ------
    ShardError
        If some did not and nobody listens, or none answered all this query long.
    """
    heard, missing = _heard.get(), sorted(silent)
    if missing and not answered and (heard is None or plan.name not in heard.answered):
        raise ShardError(nobody_answered(plan, missing))
    if heard is not None:
        heard.miss(plan, missing)
        if answered:
            heard.answered.add(plan.name)
    elif missing:
        msg = f"{not_searched(plan, missing)} Try again in a moment."
        raise ShardError(msg)


def is_missing() -> bool:
    """Whether rows were not searched for this query, as far as whoever listens has heard."""
    return bool(_heard.get())
