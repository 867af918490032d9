"""Does a store have what a filter names? A typo would silently find nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.genes import close_names
from stamp_index.search.filtering.fields import FIELDS
from stamp_index.search.filtering.matching import asked_values
from stamp_index.search.filtering.messages import shown
from stamp_index.search.filtering.nodes import (
    And,
    Call,
    Compare,
    Condition,
    Field,
    In,
    Known,
    Not,
    Or,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.search.filtering.columns import Columns
    from stamp_index.search.filtering.nodes import Leaf, Subject

_MAX_LISTED: Final = 20  # values that a message lists


def checked(condition: Condition, columns: Columns) -> Condition:
    """Refuse names and values that the store does not have.

    Returns
    -------
    Condition
        The same with the store's symbols of its genes.

    Raises
    ------
    MissingGenesError
        If no slide measured a gene.
    QueryError
        If a label, or a value of a field or label, does not occur; what occurs is listed.
    """
    if isinstance(condition, (And, Or)):
        return type(condition)(tuple(checked(term, columns) for term in condition.terms))
    if isinstance(condition, Not):
        return Not(checked(condition.term, columns))
    if isinstance(condition.subject, Call):
        return _checked_call(condition, condition.subject, columns)
    _check_field(condition, condition.subject, columns)
    return condition


def slides_of_spots(values: Iterable[str], slide_ids: pd.Series[str]) -> NDArray[np.bool_]:
    """Which slides spot ids ``<slide_id>:<barcode>`` may belong to; either part may hold a colon."""
    named = {
        value[:at] for value in values for at, character in enumerate(value) if character == ":"
    }
    return slide_ids.isin(named).to_numpy(np.bool_)


def _checked_call(leaf: Leaf, call: Call, columns: Columns) -> Condition:
    if call.function != "label":
        return _about(leaf, Call(call.function, columns.resolve_gene(call.argument)))
    if call.argument not in columns.label_names:
        there = _listed(columns.label_names, call.argument)
        msg = f"No spot of the store has a label {shown(call.argument)}. {there}"
        raise QueryError(msg)
    asked = asked_values(leaf)
    if asked:
        texts, has_numbers = columns.label_texts(call.argument)
        if isinstance(asked[0], str):
            _refuse_unknown(str(call), _texts(asked), texts)
        elif not has_numbers:
            there = _listed(texts, "")
            msg = f"{call} is never a number in this store. {there}"
            raise QueryError(msg)
    return leaf


def _check_field(leaf: Leaf, field: Field, columns: Columns) -> None:
    spec = FIELDS[field.name]
    asked = _texts(asked_values(leaf))
    if field.name == "spot" and asked:
        _check_spots(asked, columns)
    elif spec.kind == "text" and spec.is_per_slide and asked:
        _refuse_unknown(field.name, asked, set(columns.slides[spec.column].dropna()))


def _check_spots(asked: Sequence[str], columns: Columns) -> None:
    slide_ids = columns.slides["slide_id"]
    at = np.flatnonzero(slides_of_spots(asked, slide_ids))
    existing = set(columns.text(FIELDS["spot"].column, at)) if len(at) else set()
    unknown = [value for value in asked if value not in existing]
    if not unknown:
        return
    names = _enumerated(unknown)
    if len(at):
        where = f"{_enumerated(list(slide_ids.iloc[at]))} {'has' if len(at) == 1 else 'have'} no such spot."
    else:
        where = f"None names a slide of the store. {_listed(slide_ids, unknown[0])}"
    msg = f"The filter asks for spot {names}. {where} A spot is written <slide>:<barcode>."
    raise QueryError(msg)


def _refuse_unknown(what: str, asked: Sequence[str], existing: Collection[str]) -> None:
    unknown = [value for value in asked if value and value not in existing]  # "" is always allowed
    if not unknown:
        return
    msg = (
        f"The filter asks for {what} {_enumerated(unknown)}, which is not in the store. "
        f"{_listed(existing, unknown[0])} Correct the filter or leave it out."
    )
    raise QueryError(msg)


def _listed(existing: Iterable[str], asked: str) -> str:
    """Sentences that say what is close and what there is."""
    names = sorted(set(existing) - {""})
    if not names:
        return "It has none at all."
    near = [shown(name) for name in close_names(asked, names)]
    hint = f"Close: {', '.join(near)}. " if near else ""
    return f"{hint}It has {_enumerated(names)}."


def _enumerated(names: Sequence[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ", ".join(map(shown, names[:_MAX_LISTED])) + (f" and {more} more" if more > 0 else "")


def _texts(values: Iterable[str | float]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _about(leaf: Leaf, subject: Subject) -> Leaf:
    """Make the same comparison of something else."""
    if isinstance(leaf, Compare):
        return Compare(subject, leaf.operator, leaf.value)
    return In(subject, leaf.values) if isinstance(leaf, In) else Known(subject)
