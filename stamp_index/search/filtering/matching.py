"""Which values pass one comparison.

A comparison with a value that is missing is neither true nor false. Conditions come here with every
``not`` pushed down to the comparisons, so it is enough to know where they are true.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stamp_index.search.filtering.nodes import And, Compare, Condition, In, Known, Leaf, Not, Or

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.search.filtering.nodes import Operator, Value


_OPPOSITE: Final[dict[Operator, Operator]] = {
    "==": "!=", "!=": "==", "<": ">=", ">=": "<", "<=": ">", ">": "<=",
}  # fmt: skip
COMPARES: Final = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def push_not(condition: Condition, *, is_negated: bool = False) -> Condition:
    """Rewrite so that ``not`` stands before ``in`` and ``is known`` only.

    The same rows pass: in three-valued logic ``not (a and b)`` is ``not a or not b``, and
    ``not (x < 1)`` is ``x >= 1``, as both are unknown where x is missing.
    """
    if isinstance(condition, Not):
        return push_not(condition.term, is_negated=not is_negated)
    if isinstance(condition, (And, Or)):
        terms = tuple(push_not(term, is_negated=is_negated) for term in condition.terms)
        return And(terms) if isinstance(condition, And) != is_negated else Or(terms)
    if not is_negated:
        return condition
    if isinstance(condition, Compare):
        return Compare(condition.subject, _OPPOSITE[condition.operator], condition.value)
    return Not(condition)


def leaf_of(condition: Condition) -> tuple[Leaf, bool]:
    """Return a single comparison without the ``not`` before it, and whether there is one."""
    is_negated = isinstance(condition, Not)
    leaf = condition.term if isinstance(condition, Not) else condition
    if isinstance(leaf, (Compare, In, Known)):
        return leaf, is_negated
    msg = f"'{condition}' is more than one comparison."
    raise TypeError(msg)


def asked_values(leaf: Leaf) -> tuple[Value, ...]:
    """Values that a comparison names."""
    if isinstance(leaf, Compare):
        return (leaf.value,)
    return leaf.values if isinstance(leaf, In) else ()


def matching_numbers(condition: Condition, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where numbers (n,) pass; NaN is missing."""
    leaf, is_negated = leaf_of(condition)
    known = ~np.isnan(values)
    if isinstance(leaf, Known):
        return known ^ is_negated
    if isinstance(leaf, Compare):
        found: NDArray[np.bool_] = COMPARES[leaf.operator](values, leaf.value)
        return found & known
    return (np.isin(values, np.array(leaf.values, np.float64)) ^ is_negated) & known


def matching_text(condition: Condition, values: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Where texts (n,) pass; None is read as "", an ordinary value that only is known calls missing."""
    leaf, is_negated = leaf_of(condition)
    texts = pd.Series(values, dtype=object).fillna("")
    if isinstance(leaf, Known):
        found = texts != ""
    else:
        found = texts.isin(asked_values(leaf))
        is_negated = is_negated or (isinstance(leaf, Compare) and leaf.operator == "!=")
    return found.to_numpy(np.bool_) ^ is_negated


def matching_labels(condition: Condition, values: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Where labels (n,) pass; None, NaN and values of the other kind than asked for are missing."""
    # There are few different labels, so each is looked at once.
    codes, different = pd.factorize(values)
    texts = np.array([isinstance(value, str) for value in different], np.bool_)
    passing = np.zeros(len(different) + 1, np.bool_)  # last: missing, whose code is -1
    leaf, is_negated = leaf_of(condition)
    if isinstance(leaf, Known):
        passing[:-1] = different != ""
        return (passing ^ is_negated)[codes]
    if isinstance(asked_values(leaf)[0], str):
        passing[:-1][texts] = matching_text(condition, different[texts])
    else:
        passing[:-1][~texts] = matching_numbers(condition, different[~texts].astype(np.float64))
    return passing[codes]


def object_array(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.object_]:
    """Make an array (n,) of the very same objects."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
