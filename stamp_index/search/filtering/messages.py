"""How a refusal shows the place in a filter's text."""

from __future__ import annotations

import unicodedata
from typing import Final

from stamp_index.errors import QueryError

_BEFORE: Final = 44  # characters shown before the place
_SHOWN: Final = 76  # characters shown in all


def refusal(text: str, start: int, end: int, problem: str) -> QueryError:
    """Make the error for one place of a text, with a caret under it.

    Parameters
    ----------
    text : str
        The whole filter.
    start, end : int
        The place, as in ``text[start:end]``; may be empty at the text's end.
    problem : str
        What is wrong, what was expected and what to do, in sentences.
    """
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    last = len(text) if last < 0 else last
    left = max(first, start - _BEFORE)
    right = min(last, left + _SHOWN)
    before = printable(text[left:start])
    place = printable(text[start : min(end, right)])
    lead = "  ..." if left > first else "  "
    tail = "..." if right < last else ""
    after = printable(text[max(start, min(end, right)) : right])
    carets = "^" * max(_width(place), 1)
    msg = (
        f"Cannot read the filter at character {start + 1}. {problem}\n"
        f"{lead}{before}{place}{after}{tail}\n"
        f"{' ' * (len(lead) + _width(before))}{carets}"
    )
    return QueryError(msg)


def shown(text: str) -> str:
    """Text in double quotes as a filter is written, made printable and short."""
    return quoted(short(text))


def short(text: str) -> str:
    """Make a text printable and cut what is too long to be shown."""
    return printable(text if len(text) <= 60 else f"{text[:57]}...")


def quoted(text: str) -> str:
    """Text in double quotes as a filter is written; quotes and backslashes have a backslash."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def number_text(number: float) -> str:
    """Shortest text that is read as the same number; whole numbers without a point."""
    return repr(number).removesuffix(".0")


def printable(text: str) -> str:
    """Put a replacement character for what cannot be shown in one line."""
    return "".join(
        character if character.isprintable() else " " if character == "\t" else "\ufffd"
        for character in text
    )


def _width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(
        0
        if unicodedata.combining(character)
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )
