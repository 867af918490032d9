"""Which rows of a store pass a filter, reading as little as possible.

The slides table decides what it can. Spots are read only of slides that it leaves open: the
cheapest column first, and the next one only of slides that the columns before left open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.search.filtering.checks import checked
from stamp_index.search.filtering.fields import FIELDS
from stamp_index.search.filtering.matching import (
    leaf_of,
    matching_labels,
    matching_numbers,
    matching_text,
    object_array,
    push_not,
)
from stamp_index.search.filtering.nodes import Field
from stamp_index.search.filtering.plan import EVERY_SPOT, OPEN, Plan, make_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.filtering.columns import Columns
    from stamp_index.search.filtering.nodes import Condition, Subject

_ROWS_AT_ONCE: Final = 4_000_000  # bounds memory: 32 MB a number column


@dataclass(frozen=True, eq=False)
class Allowed:
    """Rows that may be hits.

    Attributes
    ----------
    mask : ndarray of shape (n_rows,), bool, or None
        True for rows that pass; None where every row number is a row that passes.
    n : int
        How many pass.
    n_per_slide : ndarray of shape (n_slides,), int64
        How many pass of each slide, in the order of the slides table.
    """

    mask: NDArray[np.bool_] | None
    n: int
    n_per_slide: NDArray[np.int64]


def evaluate(condition: Condition | None, columns: Columns) -> Allowed:
    """Find the rows that pass a filter.

    Parameters
    ----------
    condition : Condition or None
        From `parse_filter` or `all_of`; None lets every row of a slide pass.
    columns : Columns
        The store.

    Raises
    ------
    MissingGenesError
        If no slide measured a gene that the filter names.
    QueryError
        If it names a label or value that does not occur in the store.
    """
    slides = columns.slides
    n_spots = slides["n_spots"].to_numpy(np.int64)
    first_spot = slides["first_spot"].to_numpy(np.int64)
    if condition is None:
        verdicts = np.full(len(slides), EVERY_SPOT, np.int8)
    else:
        plan = make_plan(push_not(checked(condition, columns)), slides)
        verdicts = plan.verdicts
    n_per_slide = np.where(verdicts == EVERY_SPOT, n_spots, 0)
    mask = np.zeros(columns.n_rows, np.bool_)
    for slide in np.flatnonzero(n_per_slide):
        mask[first_spot[slide] : first_spot[slide] + n_spots[slide]] = True
    for block in _blocks(np.flatnonzero((verdicts == OPEN) & (n_spots > 0)), n_spots):
        passing = _passing(plan, block, _Reader(columns, n_spots))
        n_per_slide[block] = _sums(passing, n_spots[block])
        pieces = np.split(passing, np.cumsum(n_spots[block])[:-1])
        for slide, piece in zip(block, pieces, strict=True):
            mask[first_spot[slide] : first_spot[slide] + n_spots[slide]] = piece
    n = int(n_per_slide.sum())
    return Allowed(None if n == columns.n_rows else mask, n, n_per_slide)


def _blocks(slides: NDArray[np.int64], n_spots: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut slides into runs of at most `_ROWS_AT_ONCE` rows, or of one slide."""
    if len(slides) == 0:
        return []
    before = np.cumsum(n_spots[slides]) - n_spots[slides]
    return np.split(slides, np.flatnonzero(np.diff(before // _ROWS_AT_ONCE)) + 1)


def _passing(plan: Plan, slides: NDArray[np.int64], reader: _Reader) -> NDArray[np.bool_]:
    """Which spots pass, of slides that the plan leaves open: their spots one slide after another."""
    if not plan.terms:
        return reader.matching(plan.condition, slides)
    n = reader.n_spots[slides]
    passing = np.full(int(n.sum()), plan.is_and)
    for term in plan.terms:
        # Done is a slide where no spot can pass any more ("and"), or all pass already ("or").
        is_done = _sums(passing, n) == (0 if plan.is_and else n)
        # A term is never the opposite of open here: it would have decided the whole plan.
        asked = (term.verdicts[slides] == OPEN) & ~is_done
        if not asked.any():
            continue
        rows = np.repeat(asked, n)
        found = _passing(term, slides[asked], reader)
        passing[rows] = passing[rows] & found if plan.is_and else passing[rows] | found
    return passing


def _sums(passing: NDArray[np.bool_], n: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pass of each slide; every slide has spots."""
    return np.add.reduceat(passing, np.cumsum(n) - n, dtype=np.int64)


class _Reader:
    """Values of spots.

    What was read last about a subject is kept, as the next question is often about the same slides
    or fewer of them.
    """

    def __init__(self, columns: Columns, n_spots: NDArray[np.int64]) -> None:
        self.n_spots = n_spots
        self._columns = columns
        self._kept: dict[Subject, tuple[NDArray[np.int64], NDArray[Any]]] = {}

    def matching(self, condition: Condition, slides: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Where one comparison is true."""
        subject = leaf_of(condition)[0].subject
        values = self._values(subject, slides)
        if subject.kind == "number":
            return matching_numbers(condition, values)
        return (matching_text if subject.kind == "text" else matching_labels)(condition, values)

    def _values(self, subject: Subject, slides: NDArray[np.int64]) -> NDArray[Any]:
        if subject not in self._kept or not np.isin(slides, self._kept[subject][0]).all():
            values = self._read(subject, slides)
            n = int(self.n_spots[slides].sum())
            if len(values) != n:
                msg = f"{len(values)} values of {subject} were read of slides with {n} spots."
                raise ValueError(msg)
            self._kept[subject] = (slides, values)
        held, values = self._kept[subject]
        if len(held) == len(slides):
            return values
        return values[np.repeat(np.isin(held, slides), self.n_spots[held])]

    def _read(self, subject: Subject, slides: NDArray[np.int64]) -> NDArray[Any]:
        if isinstance(subject, Field):
            read = self._columns.text if subject.kind == "text" else self._columns.numbers
            return read(FIELDS[subject.name].column, slides)
        if subject.function == "label":
            return object_array(self._columns.label(subject.argument, slides))
        return self._columns.genes(subject.argument, subject.function, slides)
