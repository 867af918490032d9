"""What is decided for whole slides, and in which order the rest is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.search.filtering.checks import slides_of_spots
from stamp_index.search.filtering.fields import FIELDS
from stamp_index.search.filtering.matching import (
    asked_values,
    leaf_of,
    matching_numbers,
    matching_text,
)
from stamp_index.search.filtering.nodes import And, Compare, Condition, Field, Known, Or

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Verdicts on a slide. "and" of verdicts is their minimum, "or" their maximum.
NO_SPOT: Final = 0
OPEN: Final = 1  # some spots may pass, others not
EVERY_SPOT: Final = 2

# How much a spot costs to read, relative: a plain number, a sparse gene, strings, objects.
_COSTS: Final = {"number": 1, "count": 2, "expr": 3, "text": 6, "label": 8}


@dataclass(frozen=True, eq=False)
class Plan:
    """A condition with its verdict on every slide.

    Attributes
    ----------
    condition : Condition
        What is asked; only comparisons are evaluated themselves.
    verdicts : ndarray of shape (n_slides,), int8
        NO_SPOT, OPEN or EVERY_SPOT.
    cost : int
        Of reading a spot, relative.
    terms : tuple of Plan
        Of ``and`` and ``or``: its terms, the cheapest first; else empty.
    """

    condition: Condition
    verdicts: NDArray[np.int8]
    cost: int
    terms: tuple[Plan, ...] = ()

    @property
    def is_and(self) -> bool:
        """Whether all terms must pass, rather than one."""
        return isinstance(self.condition, And)


def make_plan(condition: Condition, slides: pd.DataFrame) -> Plan:
    """Decide what the slides table alone decides.

    Parameters
    ----------
    condition : Condition
        With every ``not`` pushed down (`push_not`).
    slides : DataFrame
        As `Columns.slides`.
    """
    if isinstance(condition, (And, Or)):
        terms = [make_plan(term, slides) for term in condition.terms]
        join = np.minimum if isinstance(condition, And) else np.maximum
        verdicts = join.reduce([term.verdicts for term in terms])
        terms.sort(key=lambda term: term.cost)
        return Plan(condition, verdicts, sum(term.cost for term in terms), tuple(terms))
    subject = leaf_of(condition)[0].subject
    if not isinstance(subject, Field):
        return Plan(condition, np.full(len(slides), OPEN, np.int8), _COSTS[subject.function])
    spec = FIELDS[subject.name]
    if not spec.is_per_slide:
        return Plan(condition, _spot_verdicts(condition, subject, slides), _COSTS[spec.kind])
    column = slides[spec.column]
    if spec.kind == "number":
        passing = matching_numbers(condition, column.to_numpy(np.float64))
    else:
        passing = matching_text(condition, column.to_numpy(object))
    return Plan(condition, np.where(passing, EVERY_SPOT, NO_SPOT).astype(np.int8), 0)


def _spot_verdicts(condition: Condition, field: Field, slides: pd.DataFrame) -> NDArray[np.int8]:
    """Everything is open, but a spot id names its slide."""
    verdicts = np.full(len(slides), OPEN, np.int8)
    leaf, is_negated = leaf_of(condition)
    if field.name != "spot" or isinstance(leaf, Known):
        return verdicts
    named = slides_of_spots(map(str, asked_values(leaf)), slides["slide_id"])
    is_negated = is_negated or (isinstance(leaf, Compare) and leaf.operator == "!=")
    verdicts[~named] = EVERY_SPOT if is_negated else NO_SPOT
    return verdicts
