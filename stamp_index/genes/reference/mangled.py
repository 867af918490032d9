"""Symbols that a spreadsheet has turned into dates, and what they may have been.

Spreadsheets read MARCH1 and SEPT2 as days (Ziemann, Eren, El-Osta, Genome Biology 17:177, 2016). The day does not say which
symbol it was: 1-Mar was MARCH1 or MARC1. The names are listed, never chosen.
"""

from __future__ import annotations

import re
from typing import Final

_STEMS: Final = {
    "jan": ("JAN",),
    "feb": ("FEB",),
    "mar": ("MARCH", "MARC", "MAR"),
    "apr": ("APR",),
    "may": ("MAY",),
    "jun": ("JUN",),
    "jul": ("JUL",),
    "aug": ("AUG",),
    "sep": ("SEPT", "SEP"),
    "oct": ("OCT",),
    "nov": ("NOV",),
    "dec": ("DEC",),
}
_MONTH: Final = "|".join(_STEMS)
_YEAR: Final = r"(?:[-/ ](?:19|20)?\d\d)?"
_DAY_FIRST: Final = re.compile(rf"(\d{{1,2}})[-/ ]({_MONTH}){_YEAR}", re.IGNORECASE)
_MONTH_FIRST: Final = re.compile(rf"({_MONTH})[-/ ](\d{{1,2}})", re.IGNORECASE)
_NUMBERS: Final = re.compile(r"(?:19|20)\d\d-(\d\d)-(\d\d)(?: 00:00:00)?")


def names_before(name: str) -> tuple[str, ...]:
    """List the symbols that a date may have been.

    Parameters
    ----------
    name : str
        Such as ``1-Mar``, ``Sep-02`` or ``2006-09-02``.

    Returns
    -------
    tuple of str
        Such as ``("MARCH1", "MARC1", "MAR1")``; empty where `name` is no date.
    """
    name = name.strip()
    if match := _DAY_FIRST.fullmatch(name):
        day, month = int(match[1]), match[2].lower()
    elif match := _MONTH_FIRST.fullmatch(name):
        day, month = int(match[2]), match[1].lower()
    elif (match := _NUMBERS.fullmatch(name)) and 1 <= int(match[1]) <= len(_STEMS):
        day, month = int(match[2]), tuple(_STEMS)[int(match[1]) - 1]
    else:
        return ()
    return tuple(f"{stem}{day}" for stem in _STEMS[month])
