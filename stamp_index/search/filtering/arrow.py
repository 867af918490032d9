"""Filters as Arrow expressions, for scans of the spots table.

Expressions are built from objects, never from text, so no value can be taken for a command. They
are true or not: what is missing in a comparison is refused inside, as Arrow's kernels and Lance's
engine see NaN differently (Lance: above all numbers and equal to itself).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from stamp_index.search.filtering.fields import FIELDS
from stamp_index.search.filtering.matching import COMPARES, asked_values, leaf_of, push_not
from stamp_index.search.filtering.nodes import And, Compare, Condition, Field, Known, Or

if TYPE_CHECKING:
    from collections.abc import Sequence

# Lance takes expressions as Substrait, which pyarrow writes with everything twice per level of calls
# (apache/arrow issue 48761, seen in 26.0.1): 600 comparisons joined by "or" took it 28 s, 31 levels of
# "and" in "or" more memory than there is. 20,000 calls are 4 MB and some 0.1 s.
_MOST_CALLS: Final = 20_000
# Of the longest expressions of one comparison below.
_TEXT_CALLS: Final = 9
_NUMBER_CALLS: Final = 13


@dataclass(frozen=True, eq=False)
class Pushed:
    """A filter, in two parts.

    Attributes
    ----------
    expression : pyarrow.compute.Expression or None
        True for every row that passes the filter, and maybe for more; None where nothing could be
        expressed.
    remaining : Condition or None
        What a row must pass besides; None where `expression` says it all.
    """

    expression: pc.Expression | None
    remaining: Condition | None


def to_arrow(condition: Condition | None, schema: pa.Schema) -> Pushed:
    """Express as much of a filter as the columns of a table allow.

    Parameters
    ----------
    condition : Condition or None
        The filter; its values are not looked up, so one that does not occur finds nothing.
    schema : pyarrow.Schema
        Of the spots table. Fields that it lacks remain, and so do expr, count and label.

    Returns
    -------
    Pushed
        Both parts are None where `condition` is.

    Notes
    -----
    Some thirty comparisons can be expressed; a filter with many more remains. A list of values is
    one comparison, however long it is.
    """
    if condition is None:
        return Pushed(None, None)
    pushed = push_not(condition)
    whole = _implied(pushed, schema)
    terms = pushed.terms if isinstance(pushed, And) else (pushed,)
    remaining = [term for term in terms if whole is None or not _says_all(_implied(term, schema))]
    return Pushed(
        None if whole is None else whole.expression,
        And(tuple(remaining)) if len(remaining) > 1 else remaining[0] if remaining else None,
    )


@dataclass(frozen=True, eq=False)
class _Implied:
    """What is true where a condition is; whether only there; and the calls that are written for it."""

    expression: pc.Expression
    says_all: bool
    n_calls: int


def _says_all(implied: _Implied | None) -> bool:
    return implied is not None and implied.says_all


def _implied(condition: Condition, schema: pa.Schema) -> _Implied | None:
    """Express what a condition implies; None where nothing can be."""
    if isinstance(condition, (And, Or)):
        return _joined(condition, [_implied(term, schema) for term in condition.terms])
    subject = leaf_of(condition)[0].subject
    if not isinstance(subject, Field) or FIELDS[subject.name].column not in schema.names:
        return None
    if subject.kind == "text":
        return _Implied(_text(condition, subject), says_all=True, n_calls=_TEXT_CALLS)
    return _Implied(_number(condition, subject, schema), says_all=True, n_calls=_NUMBER_CALLS)


def _joined(condition: And | Or, terms: Sequence[_Implied | None]) -> _Implied | None:
    """Join in pairs: a chain would be as deep as it is long."""
    is_and = isinstance(condition, And)
    joined = [term for term in terms if term is not None]
    if not joined or (not is_and and len(joined) < len(terms)):
        return None  # an alternative that cannot be expressed lets any row pass
    says_all = all(map(_says_all, terms))
    while len(joined) > 1:
        pairs = zip(joined[::2], joined[1::2], strict=False)
        last = joined[-1:] if len(joined) % 2 else []
        joined = [_pair(a, b, is_and=is_and) for a, b in pairs] + last
    if joined[0].n_calls > _MOST_CALLS:
        return None
    return _Implied(joined[0].expression, says_all, joined[0].n_calls)


def _pair(a: _Implied, b: _Implied, *, is_and: bool) -> _Implied:
    expression = a.expression & b.expression if is_and else a.expression | b.expression
    return _Implied(expression, a.says_all and b.says_all, 1 + 2 * (a.n_calls + b.n_calls))


def _text(condition: Condition, subject: Field) -> pc.Expression:
    """Null is the empty text. Written so that an index on the column can be used."""
    column = pc.field(FIELDS[subject.name].column)
    leaf, is_negated = leaf_of(condition)
    values = asked_values(leaf)
    if isinstance(leaf, Known):
        values, is_negated = ("",), not is_negated
    elif isinstance(leaf, Compare):
        is_negated = leaf.operator == "!="
    if len(values) > 1:
        found = column.isin(pa.array(values, pa.string()))
        found = ~found if is_negated else found
    else:
        found = column != values[0] if is_negated else column == values[0]
    if ("" in values) != is_negated:
        return found | column.is_null()
    return found & column.is_valid() if is_negated else found  # null is not in a list to Arrow


def _number(condition: Condition, subject: Field, schema: pa.Schema) -> pc.Expression:
    name = FIELDS[subject.name].column
    column = pc.field(name)
    if schema.field(name).type != pa.float64():
        column = column.cast(pa.float64(), safe=False)  # Lance takes no other cast
    leaf, is_negated = leaf_of(condition)
    known = ~pc.is_nan(column)  # null where the column is, and so never true
    if isinstance(leaf, Known):
        return column.is_null() | pc.is_nan(column) if is_negated else known
    if isinstance(leaf, Compare):
        return known & COMPARES[leaf.operator](column, leaf.value)
    # Arrow tells -0.0 from 0.0 in lists, and nowhere else.
    values = pa.array([*leaf.values, *([-0.0] if 0.0 in leaf.values else [])], pa.float64())
    found = column.isin(values)
    return known & (~found if is_negated else found)
