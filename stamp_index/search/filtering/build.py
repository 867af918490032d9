"""Filters made without text, for user interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.search.filtering.nodes import And, Compare, Condition, Field, In, Not

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stamp_index.search.filtering.nodes import Value


def field_in(name: str, values: Iterable[Value]) -> Condition | None:
    """Only rows whose field has one of some values.

    Parameters
    ----------
    name : str
        A field, such as ``"organ"``.
    values : iterable of str or of float
        At most 10,000.

    Returns
    -------
    Condition or None
        None where there are no values: an empty choice restricts nothing.

    Raises
    ------
    QueryError
        If there is no such field, or a value does not fit it.
    TypeError
        If `values` is a single string, or one is neither text nor a number.
    """
    field = Field(name)
    given = values if isinstance(values, str) else tuple(values)
    if not given:
        return None
    found = In(field, given)  # type: ignore[arg-type]  # refuses a single string
    return found if len(found.values) > 1 else Compare(field, "==", found.values[0])


def field_not_in(name: str, values: Iterable[Value]) -> Condition | None:
    """Only rows whose field has none of some values; else as `field_in`."""
    found = field_in(name, values)
    if isinstance(found, Compare):
        return Compare(found.subject, "!=", found.value)
    return None if found is None else Not(found)


def all_of(*conditions: Condition | None) -> Condition | None:
    """Only rows that pass every condition; those that are None restrict nothing.

    Returns
    -------
    Condition or None
        None where no condition is given.

    Raises
    ------
    QueryError
        If conditions are nested more than 64 deep.
    TypeError
        If one is no condition.
    """
    given = tuple(condition for condition in conditions if condition is not None)
    return And(given) if len(given) > 1 else given[0] if given else None
