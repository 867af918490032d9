"""Filters: which spots of a store may be hits.

Grammar, clauses separated by semicolons or line ends, values by commas::

    organ=breast,skin; patient!=P1; slide="my slide, second cut"

Fields are ``organ`` (only ``=``), ``slide`` and ``patient``. A value stands in double quotes where
it holds a comma, semicolon, quote or line end; a quote inside is written twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.store import Store

_MAX_NAMED: Final = 20  # existing values that a message lists
_HELP: Final = "Write filters such as 'organ=breast,skin; patient!=P1'."
_HEAD: Final = re.compile(r"(?P<field>[A-Za-z_]+)[ \t]*(?P<sign>!=|=)")
_VALUE: Final = re.compile(
    r'[ \t]*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^,;"\r\n]*))[ \t]*(?P<end>[,;\r\n]|\Z)'
)
_SEPARATORS: Final = re.compile(r"[;\s]*")
_PLAIN: Final = re.compile(r"[\w.:/+()-]+(?: [\w.:/+()-]+)*", re.ASCII)

# Clause of the grammar -> attribute, and attribute -> column of the store's slides.
_ATTRIBUTES: Final = {
    ("organ", "="): "organs",
    ("slide", "="): "slides",
    ("patient", "="): "patients",
    ("slide", "!="): "exclude_slides",
    ("patient", "!="): "exclude_patients",
}
_COLUMNS: Final = {
    "organs": "organ",
    "slides": "slide_id",
    "patients": "patient_id",
    "exclude_slides": "slide_id",
    "exclude_patients": "patient_id",
}


@dataclass(frozen=True)
class Filters:
    """Which spots may be hits; a spot must pass every field that is given.

    Attributes
    ----------
    organs, slides, patients : tuple of str
        Only spots with one of these values; empty for all.
    exclude_slides, exclude_patients : tuple of str
        No spots with one of these values.

    Raises
    ------
    TypeError
        If a field is a single string or holds something else than strings.
    """

    organs: tuple[str, ...] = ()
    slides: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    exclude_slides: tuple[str, ...] = ()
    exclude_patients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            if isinstance(values, str) or not all(isinstance(value, str) for value in values):
                msg = f"{field.name} is {values!r}; expected several strings, as in ('{values}',)."
                raise TypeError(msg)
            object.__setattr__(self, field.name, tuple(dict.fromkeys(values)))

    def __bool__(self) -> bool:
        """Whether anything is filtered at all."""
        return any(getattr(self, name) for name in _COLUMNS)

    @property
    def text(self) -> str:
        """The canonical text, which `parse_filters` turns into the same filters."""
        clauses = []
        for (name, sign), attribute in _ATTRIBUTES.items():
            values = getattr(self, attribute)
            if values:
                clauses.append(f"{name}{sign}{','.join(_quoted(value) for value in values)}")
        return "; ".join(clauses)

    def __str__(self) -> str:
        return self.text

    def mask(self, store: Store) -> NDArray[np.bool_]:
        """Which rows of a store pass.

        Returns
        -------
        ndarray of shape (store.n_rows,), bool
            By row id.

        Raises
        ------
        QueryError
            If a value does not occur in the store; what occurs is listed.
        """
        slides = store.slides()
        passing = np.ones(len(slides), np.bool_)  # per slide
        for attribute, column in _COLUMNS.items():
            asked = getattr(self, attribute)
            if not asked:
                continue
            _refuse_unknown(asked, slides[column], column)
            is_listed = slides[column].isin(asked).to_numpy(np.bool_)
            passing &= ~is_listed if attribute.startswith("exclude_") else is_listed
        return store.mask_of(passing)


def parse_filters(text: str) -> Filters:
    """Read filters from text; the module's docstring gives the grammar.

    Parameters
    ----------
    text : str
        For example ``"organ=breast,skin; patient!=P1"``. Empty text filters nothing.

    Raises
    ------
    QueryError
        If a clause cannot be read, its field is not one of organ, slide and patient, or a value is
        missing.
    """
    found: dict[str, list[str]] = {}
    at = _end_of_separators(text, 0)
    while at < len(text):
        head = _HEAD.match(text, at)
        if head is None:
            raise QueryError(_unreadable(text[at:]))
        attribute = _attribute(head["field"], head["sign"])
        values, at = _parse_values(text, head.end())
        found.setdefault(attribute, []).extend(values)
        at = _end_of_separators(text, at)
    return Filters(**{name: tuple(values) for name, values in found.items()})


def _parse_values(text: str, at: int) -> tuple[list[str], int]:
    """Values from `at` to the end of the clause, and where that is."""
    values = []
    while True:
        match = _VALUE.match(text, at)
        if match is None:
            raise QueryError(_unreadable(text[at:]))
        quoted, plain = match["quoted"], match["plain"]
        value = plain.strip() if quoted is None else quoted.replace('""', '"')
        if quoted is None and not value:
            msg = f"A value is missing in the filter {_short(text)}. {_HELP}"
            raise QueryError(msg)
        values.append(value)
        at = match.end()
        if match["end"] != ",":
            return values, at


def _attribute(name: str, sign: str) -> str:
    attribute = _ATTRIBUTES.get((name.casefold(), sign))
    if attribute is None:
        known = ", ".join(f"{field}{known_sign}" for field, known_sign in _ATTRIBUTES)
        msg = f"There is no filter '{name}{sign}'; there are {known}. {_HELP}"
        raise QueryError(msg)
    return attribute


def _end_of_separators(text: str, at: int) -> int:
    match = _SEPARATORS.match(text, at)
    return match.end() if match else at


def _refuse_unknown(asked: tuple[str, ...], column: pd.Series[str], name: str) -> None:
    existing = sorted(set(column) - {""})
    unknown = [value for value in asked if value not in existing]
    if not unknown:
        return
    shown = ", ".join(existing[:_MAX_NAMED]) or f"no {name} at all"
    more = f" and {len(existing) - _MAX_NAMED} more" if len(existing) > _MAX_NAMED else ""
    msg = (
        f"The filter asks for {name} {', '.join(map(_short, unknown))}, which is not in the store. "
        f"It has {shown}{more}. Correct the filter or leave it out."
    )
    raise QueryError(msg)


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    doubled = value.replace('"', '""')
    return f'"{doubled}"'


def _unreadable(rest: str) -> str:
    return f"Cannot read {_short(rest)} in the filter. {_HELP}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
