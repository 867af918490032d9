"""The table of prices and assumptions: `benchmarks/prices.toml`, or another file that the user gives."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from benchmarks.cost_model_parts.lines import BENCHMARKS

if TYPE_CHECKING:
    from pathlib import Path

PRICES: Final = BENCHMARKS / "prices.toml"
FIELDS: Final = ("value", "unit", "source", "date")


@dataclass(frozen=True)
class Entry:
    """One number, and where it is from."""

    value: float
    unit: str
    source: str
    date: str


class Prices:
    """Numbers by section and name.

    Parameters
    ----------
    entries : dict of (str, str) to Entry
        By section and name.
    """

    def __init__(self, entries: dict[tuple[str, str], Entry]) -> None:
        self.entries = entries

    def __call__(self, section: str, name: str) -> float:
        """Return one number."""
        return self.entries[section, name].value

    def with_value(self, section: str, name: str, value: float) -> Prices:
        """Return a table in which one number is another."""
        old = self.entries[section, name]
        new = Entry(value, old.unit, "given", old.date)
        return Prices({**self.entries, (section, name): new})


def read_prices(path: Path = PRICES) -> Prices:
    """Read a table.

    Raises
    ------
    ValueError
        If an entry lacks a field, has no date, or its value is not a number above 0.
    """
    sections = tomllib.loads(path.read_text("utf-8"))
    entries = {}
    for section, rows in sections.items():
        for name, fields in rows.items():
            entries[section, name] = _entry(f"{section}.{name} of {path.name}", fields)
    return Prices(entries)


def _entry(where: str, fields: dict[str, object]) -> Entry:
    if set(fields) != set(FIELDS):
        msg = f"{where} has {sorted(fields)}; expected {list(FIELDS)}."
        raise ValueError(msg)
    value = fields["value"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        msg = f"{where} is {value!r}; expected a number above 0."
        raise ValueError(msg)
    day = str(fields["date"])
    date.fromisoformat(day if len(day) > 7 else f"{day}-01")
    return Entry(float(value), str(fields["unit"]), str(fields["source"]), day)
