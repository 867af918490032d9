"""One shard, open: answers what the undivided index would find among its rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from stamp_index.errors import AnnIndexError, QueryError, StalePlanError
from stamp_index.index.engine import Engine, read_index
from stamp_index.index.engine.search import compare_ns
from stamp_index.index.engine.sources import Lists, Look, least_breadth, lists_cost_ns
from stamp_index.index.files import check_file, read_stamps
from stamp_index.index.folder import FAISS, ROWS
from stamp_index.index.generation import map_vectors
from stamp_index.shards.messages import unpacked
from stamp_index.shards.plan import VECTORS, part_folder, read_plan

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.index.engine import Allowed
    from stamp_index.shards.messages import Question
    from stamp_index.shards.plan import PartPlan, ShardPlan

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]

_KEPT: Final = 8  # filters made ready
_DEEPER: Final = 4  # candidates per hit, as in an undivided index


@dataclass(frozen=True, eq=False)
class PartQuestion:
    """What is asked of one shard; names are as in `Question`.

    Attributes
    ----------
    whole : Question
        Without filters and positions; its queries are what `check_queries` returned.
    allowed : ndarray or None
        What `packed` made of the rows of the shard that may be found; None for all.
    positions : ndarray of shape (m,), int64
        Of the shard.
    """

    whole: Question
    allowed: NDArray[Any] | None
    positions: NDArray[np.int64]


class AnswersPart(Protocol):
    """What can be asked as a shard; in this process or elsewhere."""

    def answer(self, question: PartQuestion) -> Hits:
        """Scores and positions of the undivided index, (q, k') each; of cosines (1, m) and (1, 0)."""
        ...


class PartEngine(Engine):
    """Finds at least what the undivided index would find among these rows.

    The lists are those of the undivided index, and so are the codes. As many of them are looked into, as many
    candidates are scored again, and where the undivided index would compare all allowed rows, so does the shard. What
    is best among the candidates of all shards is then at least as good.

    Parameters
    ----------
    index, vectors
        As `Engine`: of the shard.
    plan : ShardPlan
        Of the undivided index.
    """

    def __init__(self, index: Any, vectors: NDArray[np.float16], plan: ShardPlan) -> None:  # noqa: ANN401 - a faiss.Index
        super().__init__(index, vectors)
        self._plan = plan

    def find(self, question: Question, allowed: Allowed | None) -> Hits:
        """Find the best rows: scores and positions in the shard, as `Engine.search`."""
        if allowed is not None and allowed.n == len(self):
            allowed = None
        queries, n = question.queries, len(self) if allowed is None else allowed.n
        k = min(question.k, n)
        source = self.source
        if question.exactly or k == 0 or len(queries) == 0 or not isinstance(source, Lists):
            return self.exact(queries, k, allowed)
        most = source.most(allowed)
        breadth = max(question.breadth, least_breadth(k, n, most))
        depth = min(max(question.n_rerank, _DEEPER * question.k), n)
        look = Look(min(breadth, most), depth, allowed)
        if self._exact_is_cheaper(len(queries), look) or self._whole_would(
            question, len(queries), most
        ):
            return self.exact(queries, k, allowed)
        return self._search_source(queries, k, look)

    def _whole_would(self, question: Question, n_queries: int, n_lists: int) -> bool:
        """Whether the undivided index compares all allowed rows: its costs, from above those of looking for candidates.

        `n_lists` hold an allowed row here, which are no more than those that do in all shards.
        """
        if not question.in_pieces:
            return False
        plan, n = self._plan, question.n_allowed
        breadth = min(
            max(question.breadth, least_breadth(question.k, max(n, 1), plan.n_lists)), plan.n_lists
        )
        looking = lists_cost_ns(
            plan.dim,
            plan.code_bytes,
            n_centres=plan.n_lists,
            met=breadth * plan.n / plan.n_lists,
            inside=min(breadth * n / max(n_lists, 1), n),
            depth=max(question.n_rerank, _DEEPER * question.k),
        )
        return n * plan.dim * compare_ns(n_queries) < looking


class Part:
    """One shard of a plan. Threads may share it.

    Made by `Part.open`.
    """

    def __init__(self, plan: ShardPlan, number: int, engine: PartEngine) -> None:
        self.plan, self.number = plan, number
        self._engine = engine
        self._ready = lru_cache(_KEPT)(self._prepared)  # the filters of the last queries

    @property
    def facts(self) -> PartPlan:
        """What lies in it."""
        return self.plan.parts[self.number]

    @classmethod
    def open(cls, folder: Path, number: int, name: str | None = None) -> Part:
        """Open a shard; of the others' files nothing is read.

        Parameters
        ----------
        folder : Path
            Of all plans, as `shards_folder` says.
        number : int
            Which shard, from 0.
        name : str, optional
            Of a plan that is not the current one.

        Raises
        ------
        AnnIndexError
            If there is no such shard, or a file of it is missing or damaged.
        """
        plan = read_plan(folder, name)
        if not 0 <= number < len(plan.parts):
            msg = f"There is no shard {number} at {folder}; plan {plan.name} has {len(plan.parts)}."
            raise AnnIndexError(msg)
        facts, place = plan.parts[number], part_folder(folder / plan.name, number)
        needed = {ROWS, VECTORS} | (set() if plan.kind == "flat" else {FAISS})
        if not needed <= set(facts.files):
            msg = f"The plan of the shards at {folder} does not list the files of shard {number}. Divide the index again."
            raise AnnIndexError(msg)
        known = read_stamps(place)
        for file in sorted(needed):
            check_file(place / file, [facts.files[file]], known.get(file))
        vectors = map_vectors(place / VECTORS, len(facts), plan.dim)
        index = None if plan.kind == "flat" else read_index(place / FAISS)
        return cls(plan, number, PartEngine(index, vectors, plan))

    def answer(self, question: PartQuestion) -> Hits:
        """See `AnswersPart`.

        Raises
        ------
        StalePlanError
            If another plan is asked, naming both.
        QueryError
            If the question does not fit the shard.
        """
        whole, n = question.whole, len(self.facts)
        if whole.plan != self.plan.name:
            msg = f"Shard {self.number} is of plan {self.plan.name}; {whole.plan} was asked."
            raise StalePlanError(msg)
        if whole.kind == "cosines":
            at = question.positions
            if len(at) and not (at.min() >= 0 and at.max() < n):
                msg = (
                    f"Shard {self.number} has {n} rows; positions up to {at.max()} were asked for."
                )
                raise QueryError(msg)
            return self._engine.cosines(at, whole.queries[0])[None], np.empty((1, 0), np.int64)
        allowed = None if question.allowed is None else self._ready(_Filter(question.allowed))
        scores, at = self._engine.find(whole, allowed)
        return scores, at + self.facts.start

    def _prepared(self, asked: _Filter) -> Allowed:
        return self._engine.prepare(unpacked(asked.values, len(self.facts)))


class _Filter:
    """What `packed` made of a filter, which equals another of the same bytes."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self._bytes = values.tobytes()
        self._kind = str(values.dtype), values.shape

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Filter):
            return NotImplemented
        return (self._kind, self._bytes) == (other._kind, other._bytes)
