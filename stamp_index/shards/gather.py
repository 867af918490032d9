"""Taking a question apart for the shards, and joining what they answer."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import QueryError, StalePlanError, StampIndexError
from stamp_index.index.exact import check_queries, in_order
from stamp_index.shards.messages import Reply
from stamp_index.shards.part import PartQuestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from stamp_index.shards.messages import Question
    from stamp_index.shards.plan import ShardPlan

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]

_SHOWN: Final = 10  # names in a sentence

_log = logging.getLogger(__name__)


def part_questions(question: Question, plan: ShardPlan) -> dict[int, PartQuestion]:
    """Return what each shard is asked that may have an answer, by number; those to skip are not left out.

    Queries are checked here, once for all shards.

    Raises
    ------
    StalePlanError
        If another plan is asked, naming both.
    QueryError
        If the question does not fit the plan.
    ValueError
        If its queries have no direction.
    """
    if question.plan != plan.name:
        msg = (
            f"Plan {question.plan[:80]} of the shards was asked; plan {plan.name} of generation {plan.generation} of "
            f"the {plan.modality} index is served now."
        )
        raise StalePlanError(msg)
    if question.queries.shape[1] != plan.dim:
        msg = f"Queries have shape {question.queries.shape}; expected (q, {plan.dim})."
        raise QueryError(msg)
    strange = [number for number in question.filters if number >= len(plan.parts)]
    if strange:
        msg = f"A filter is for shard {strange[0]}; there are {len(plan.parts)}, counted from 0."
        raise QueryError(msg)
    alone = replace(
        question,
        queries=check_queries(question.queries, plan.dim, max(question.k, 1)),
        filters={},
        positions=np.empty(0, np.int64),
    )
    return (_of_cosines if question.kind == "cosines" else _of_search)(question, plan, alone)


def _of_search(question: Question, plan: ShardPlan, alone: Question) -> dict[int, PartQuestion]:
    out = {}
    for number in range(len(plan.parts)):
        allowed = question.filters.get(number)
        if allowed is None or allowed.any():  # stretches of nothing are an empty array
            out[number] = PartQuestion(alone, allowed, alone.positions)
    return out


def _of_cosines(question: Question, plan: ShardPlan, alone: Question) -> dict[int, PartQuestion]:
    at = question.positions
    if len(at) and not (at.min() >= 0 and at.max() < plan.n):
        msg = (
            f"The index has {plan.n} rows; positions from {at.min()} to {at.max()} were asked for."
        )
        raise QueryError(msg)
    part_of = _part_of(at, plan)
    starts = [part.start for part in plan.parts]
    numbers = np.unique(part_of).tolist()
    return {n: PartQuestion(alone, None, at[part_of == n] - starts[n]) for n in numbers}


def _part_of(positions: NDArray[np.int64], plan: ShardPlan) -> NDArray[np.int64]:
    return np.searchsorted([part.stop for part in plan.parts], positions, side="right")


def joined(
    question: Question, plan: ShardPlan, answers: Mapping[int, Hits], silent: Iterable[int]
) -> Reply:
    """Join what shards answered.

    Parameters
    ----------
    question, plan
        What was asked of what.
    answers : dict of int to (scores, positions)
        Of the shards that answered.
    silent : iterable of int
        Those that were asked and did not.
    """
    quiet = tuple(sorted(silent))
    if question.kind == "cosines":
        scores = np.full((1, len(question.positions)), np.nan, np.float32)
        part_of = _part_of(question.positions, plan)
        for number, (values, _) in answers.items():
            scores[0, part_of == number] = values[0]
        return Reply(scores, np.empty((1, 0), np.int64), quiet)
    if len(answers) == 1:  # in order as it is
        return Reply(*next(iter(answers.values())), quiet)
    n_queries = len(question.queries)
    empty = np.empty((n_queries, 0), np.float32), np.empty((n_queries, 0), np.int64)
    found = [empty, *(answers[number] for number in sorted(answers))]
    scores = np.concatenate([values for values, _ in found], axis=1)
    positions = np.concatenate([at for _, at in found], axis=1)
    return Reply(*in_order(scores, positions, question.k), quiet)


def raise_refusals(plan: ShardPlan, failures: Mapping[int, BaseException]) -> None:
    """Raise what a shard refused; say in the log why others did not answer."""
    for number, failure in failures.items():
        if isinstance(failure, (QueryError, StalePlanError, ValueError)):
            raise failure
        if isinstance(failure, StampIndexError) or not isinstance(failure, TimeoutError):
            _log.warning("Shard %d of plan %s failed: %s", number, plan.name, failure)
        else:
            _log.warning("Shard %d of plan %s did not answer in time.", number, plan.name)


# ---- words ---------------------------------------------------------------------------------------


def not_searched(plan: ShardPlan, silent: Iterable[int]) -> str:
    """Say which spots were not searched, as some shards did not answer."""
    numbers = sorted(silent)
    n_spots = sum(len(plan.parts[number]) for number in numbers)
    return (
        f"{len(numbers)} of {len(plan.parts)} shards of the {plan.modality} index did not answer ({_slides(plan, numbers)}): "
        f"their {n_spots:,} spots were not searched."
    )


def nobody_answered(plan: ShardPlan, silent: Iterable[int]) -> str:
    """Say that there is no answer at all."""
    numbers = sorted(silent)
    return (
        f"None of the shards of the {plan.modality} index that hold spots to be searched answered ({_slides(plan, numbers)}). "
        f"Try again in a moment; if it stays so, look after the service of the shards."
    )


def _slides(plan: ShardPlan, numbers: Iterable[int]) -> str:
    names = list(dict.fromkeys(name for number in numbers for name in plan.parts[number].slides))
    shown = ", ".join(names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    )
    return f"slide {shown}" if len(names) == 1 else f"slides {shown}"
