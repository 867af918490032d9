"""The filter as a tree: what is asked about, conditions on it, and how they are joined.

``str()`` of every node is its canonical text, which `parse_filter` reads as the same node.
Each node checks itself, so a tree that exists can be evaluated on any store that has its values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias, get_args

from stamp_index.errors import QueryError
from stamp_index.search.filtering.fields import FIELDS, FUNCTIONS, Kind, unknown_name
from stamp_index.search.filtering.messages import number_text, quoted, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_DEPTH: Final = 64  # conditions inside conditions
MAX_VALUES: Final = 10_000  # of one list

Operator = Literal["==", "!=", "<", "<=", ">", ">="]
Function = Literal["expr", "count", "label"]
Value = str | float
Subject: TypeAlias = "Field | Call"
Leaf: TypeAlias = "Compare | In | Known"
Condition: TypeAlias = "And | Or | Not | Compare | In | Known"


@dataclass(frozen=True)
class Field:
    """A field of slides or spots, such as ``organ``.

    Raises
    ------
    QueryError
        If there is no such field; close names are given.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in FIELDS:
            raise QueryError(unknown_name(self.name))

    @property
    def kind(self) -> Kind:
        """What its values are."""
        return FIELDS[self.name].kind

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Call:
    """A function of a gene or label, such as ``expr("CD8A")``.

    Attributes
    ----------
    function : {"expr", "count", "label"}
        Expression (log1p of counts per 10,000), raw count, or label.
    argument : str
        Name of the gene or label.

    Raises
    ------
    QueryError
        If there is no such function or the name is empty.
    """

    function: Function
    argument: str

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise QueryError(unknown_name(self.function))
        argument = _checked_value(self.argument)
        if not isinstance(argument, str):
            msg = (
                f"{self.function}({self.argument}) names no {self.noun}: a name is text in quotes."
            )
            raise QueryError(msg)
        if not argument.strip():
            example = FUNCTIONS[self.function][1]
            msg = f'{self.function}("") names no {self.noun}; write {self.function}("{example}").'
            raise QueryError(msg)
        object.__setattr__(self, "argument", argument)

    @property
    def kind(self) -> Kind:
        """What its values are."""
        return FUNCTIONS[self.function][0]

    @property
    def noun(self) -> str:
        """What its argument names."""
        return "label" if self.function == "label" else "gene"

    def __str__(self) -> str:
        return f"{self.function}({quoted(self.argument)})"


@dataclass(frozen=True)
class Compare:
    """One comparison, such as ``n_counts > 1000``.

    Attributes
    ----------
    subject : Field or Call
        What is compared.
    operator : {"==", "!=", "<", "<=", ">", ">="}
        How; text knows only the first two.
    value : str or float
        With what; numbers are finite.

    Raises
    ------
    QueryError
        If the value is of another kind than the subject, or text is asked for its order.
    TypeError
        If the value is neither text nor a number.
    """

    subject: Subject
    operator: Operator
    value: Value
    depth: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.operator not in get_args(Operator):
            msg = f"The operator is {self.operator!r}; expected one of {get_args(Operator)}."
            raise ValueError(msg)
        value = _checked_value(self.value)
        kind = self.subject.kind
        is_text = kind == "text" or (kind == "either" and isinstance(value, str))
        if is_text and self.operator not in ("==", "!="):
            msg = f"{self} asks for the order of text, and there is none. Use ==, != or in."
            raise QueryError(msg)
        _refuse_other_kind(self.subject, value)
        object.__setattr__(self, "value", value)

    def __str__(self) -> str:
        return f"{self.subject} {self.operator} {_value_text(self.value)}"


@dataclass(frozen=True)
class In:
    """One of several values, such as ``organ in ("breast", "skin")``.

    Attributes
    ----------
    subject : Field or Call
        What is compared.
    values : tuple of str or tuple of float
        1 to 10,000, all of one kind; said twice is said once.

    Raises
    ------
    QueryError
        If there are none or too many, or one is of another kind than the subject.
    TypeError
        If the values are a single string, or one is neither text nor a number.
    """

    subject: Subject
    values: tuple[Value, ...]
    depth: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if isinstance(self.values, str):
            msg = (
                f"The values are the string {self.values!r}; expected several, as in ('P1', 'P2')."
            )
            raise TypeError(msg)
        values = tuple(dict.fromkeys(_checked_value(value) for value in self.values))
        if not 1 <= len(values) <= MAX_VALUES:
            msg = (
                f"The list of {self.subject} has {len(values)} values; expected 1 to {MAX_VALUES:,}. "
                f"{'Split it into several filters.' if values else 'Name at least one.'}"
            )
            raise QueryError(msg)
        for value in values:
            _refuse_other_kind(self.subject, value)
        if len({isinstance(value, str) for value in values}) > 1:
            msg = f"The list of {self.subject} mixes text and numbers; use two lists, joined by or."
            raise QueryError(msg)
        object.__setattr__(self, "values", values)

    def __str__(self) -> str:
        return f"{self.subject} in {self.list_text}"

    @property
    def list_text(self) -> str:
        """The values in parentheses."""
        return f"({', '.join(map(_value_text, self.values))})"


@dataclass(frozen=True)
class Known:
    """Whether there is a value at all, such as ``expr("CD8A") is known``."""

    subject: Subject
    depth: ClassVar[int] = 0

    def __str__(self) -> str:
        return f"{self.subject} is known"


@dataclass(frozen=True)
class Not:
    """The opposite of a condition.

    Raises
    ------
    QueryError
        If conditions are nested more than 64 deep.
    TypeError
        If it is given something else than a condition.
    """

    term: Condition
    depth: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _checked_depth((self.term,)))

    def __str__(self) -> str:
        if isinstance(self.term, In):
            return f"{self.term.subject} not in {self.term.list_text}"
        if isinstance(self.term, Known):
            return f"{self.term.subject} is missing"
        return f"not {_inner_text(self.term)}"


@dataclass(frozen=True)
class _Joined:
    """Several conditions; those of the same kind among them are taken apart."""

    terms: tuple[Condition, ...]
    depth: int = field(init=False, repr=False, compare=False)
    word: ClassVar[str]

    def __post_init__(self) -> None:
        flat: list[Condition] = []
        for term in self.terms:
            flat.extend(term.terms if isinstance(term, type(self)) else (term,))
        if len(flat) < 2:
            msg = f"{type(self).__name__} joins {len(flat)} conditions; expected two or more."
            raise ValueError(msg)
        object.__setattr__(self, "terms", tuple(flat))
        object.__setattr__(self, "depth", _checked_depth(flat))

    def __str__(self) -> str:
        return f" {self.word} ".join(map(_inner_text, self.terms))


@dataclass(frozen=True)
class And(_Joined):
    """All of two or more conditions.

    Raises
    ------
    QueryError
        If conditions are nested more than 64 deep.
    TypeError
        If it is given something else than conditions.
    ValueError
        If there are fewer than two.
    """

    word: ClassVar[str] = "and"


@dataclass(frozen=True)
class Or(_Joined):
    """At least one of two or more conditions; raises as `And` does."""

    word: ClassVar[str] = "or"


def _inner_text(condition: Condition) -> str:
    """Text inside another condition; parentheses everywhere, so that nobody needs the precedence."""
    return f"({condition})" if isinstance(condition, _Joined) else str(condition)


def _value_text(value: Value) -> str:
    return quoted(value) if isinstance(value, str) else number_text(value)


def _checked_depth(terms: Iterable[Condition]) -> int:
    depth = 0
    for term in terms:
        if not isinstance(term, _CONDITIONS):
            msg = f"{term!r} is no condition. Make one with field_in, or read it with parse_filter."
            raise TypeError(msg)
        depth = max(depth, term.depth + 1)
    if depth > MAX_DEPTH:
        msg = f"Conditions are nested more than {MAX_DEPTH} deep. Write the filter more simply."
        raise QueryError(msg)
    return depth


_CONDITIONS: Final = (And, Or, Not, Compare, In, Known)


def _checked_value(value: object) -> Value:
    """Return the value as plain str or float."""
    if isinstance(value, str):
        try:
            value.encode()  # neither Arrow nor Lance can hold half of a surrogate pair
        except UnicodeEncodeError as exc:
            msg = f"The text {shown(value)} holds a character that is not valid Unicode. Remove it."
            raise QueryError(msg) from exc
        return str(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        msg = f"The value is {value!r}; expected text or a number."
        raise TypeError(msg)
    try:
        number = float(value) + 0.0  # turns -0.0 into 0.0, its equal
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        msg = "The number is infinite, too large or NaN; expected one of -1.8e308 to 1.8e308."
        raise QueryError(msg)
    return number


def _refuse_other_kind(subject: Subject, value: Value) -> None:
    if subject.kind == "text" and not isinstance(value, str):
        number = number_text(value)
        msg = f'{subject} is text, not a number: put {number} in quotes, as in "{number}".'
        raise QueryError(msg)
    if subject.kind == "number" and isinstance(value, str):
        msg = (
            f"{subject} is a number and cannot be compared with the text {shown(value)}. "
            f"Write a number without quotes."
        )
        raise QueryError(msg)
