"""Tables of a report as HTML: numbers to the right with as many digits as they deserve, everything escaped."""

from __future__ import annotations

import math
import re
from html import escape
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What HTML has no sign for, and halves of characters that no file can hold.
_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_MOST_DIGITS: Final = 4
_AWAY: Final = 1000.0  # times the median of a column
_SHORT: Final = 44  # characters of a text that stays on one line
_NONE: Final = '<span class="none" title="not defined">\u2013</span>'


def text(value: object) -> str:
    """Any value as escaped text."""
    return escape(_UNWRITABLE.sub("\ufffd", _said(value)))


def table_html(table: Mapping[str, Any]) -> str:
    """One table.

    Parameters
    ----------
    table : mapping
        ``columns``: names, or mappings with ``name`` and, as wished, ``title`` (heading), ``digits`` (decimals) and
        ``best`` ("high" or "low": the best value is marked). ``rows``: mappings by name. ``caption``: str.
    """
    columns = [_as_mapping(column) for column in table["columns"]]
    rows: Sequence[Mapping[str, Any]] = table["rows"]
    caption = f"<caption>{text(table['caption'])}</caption>" if table.get("caption") else ""
    if not rows or not columns:
        said = f"<p>{text(table['caption'])}</p>" if table.get("caption") else ""
        return f'{said}<p class="none">No rows.</p>'
    cells = [_column(column, [row.get(column["name"]) for row in rows]) for column in columns]
    head = "".join(column[0] for column in cells)
    body = "".join(
        f"<tr>{''.join(column[1][at] for column in cells)}</tr>\n" for at in range(len(rows))
    )
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def number_texts(values: Sequence[Any], digits: int | None = None) -> list[str | None]:
    """Numbers of one column with the same decimals, None for what is not defined.

    Whole numbers have none; otherwise three below 10, two below 100, one below 1,000, and four where this
    keeps the smallest from being written as 0. A thousand times the median and more is written with a power of ten, so that
    one that ran away does not take the decimals of all others.
    """
    numbers = [_number(value) for value in values]
    held = [one for one in numbers if one is not None and math.isfinite(one)]
    middle = float(np.median(np.abs(held))) if held else 0.0
    away = [one is not None and middle > 0 and abs(one) >= _AWAY * middle for one in numbers]
    if digits is None and any(away) and any(one != int(one) for one in held):
        near = number_texts([None if far else one for one, far in zip(numbers, away, strict=True)])
        return [
            f"{one:.2e}".replace("-", "\u2212") if far else said
            for one, far, said in zip(numbers, away, near, strict=True)
        ]
    largest = max((abs(one) for one in held), default=0.0)
    if digits is None:
        if all(one == int(one) for one in held):
            digits = 0
        elif largest < 1e-3:
            return [None if one is None else f"{one:.2e}".replace("-", "\u2212") for one in numbers]
        else:
            digits = next((n for n, top in ((3, 10), (2, 100), (1, 1000)) if largest < top), 0)
            smallest = min(abs(one) for one in held if one)
            digits = next(
                (n for n in range(digits, _MOST_DIGITS + 1) if smallest >= 0.5 * 10.0**-n), digits
            )
    return [None if one is None else _written(one, digits) for one in numbers]


def _column(column: Mapping[str, Any], values: Sequence[Any]) -> tuple[str, list[str]]:
    """Heading and cells of a column."""
    held = [value for value in values if not _is_missing(value)]
    is_number = bool(held) and all(_number(value) is not None for value in held)
    kind = ' class="number"' if is_number else ""
    title = text(column.get("title", column["name"]))
    head = f'<th scope="col"{kind}><button type="button">{title}</button></th>'
    if not is_number:
        return head, [_text_cell(value) for value in values]
    best = _best([_number(value) for value in values], column.get("best"))
    shown = number_texts(values, column.get("digits"))
    return head, [
        _number_cell(_number(value), said, is_best=_number(value) == best and best is not None)
        for value, said in zip(values, shown, strict=True)
    ]


def _text_cell(value: object) -> str:
    if _is_missing(value):
        return f"<td>{_NONE}</td>"
    said = text(value)
    kind = ' class="short"' if len(said) <= _SHORT else ""
    return f'<td{kind} data-value="{said}">{said}</td>'


def _number_cell(value: float | None, said: str | None, *, is_best: bool) -> str:
    kind = "number best" if is_best else "number"
    if value is None or said is None:
        return f'<td class="{kind}">{_NONE}</td>'
    return f'<td class="{kind}" data-value="{value!r}">{said}</td>'


def _best(values: Sequence[float | None], which: Literal["high", "low"] | None) -> float | None:
    held = [value for value in values if value is not None]
    if which is None or not held:
        return None
    return max(held) if which == "high" else min(held)


def _number(value: object) -> float | None:
    """Take a value as a number; None for what is none or not finite."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return None
    number = float(np.real(value))
    return number if math.isfinite(number) else None


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float | np.floating) and not np.isfinite(value))


def _written(value: float, digits: int) -> str:
    said = f"{value:,.{digits}f}"
    if not said.strip("-0.,"):
        said = said.lstrip("-")  # no minus before a zero
    return said.replace("-", "\u2212")


def _as_mapping(column: object) -> Mapping[str, Any]:
    return {"name": column} if isinstance(column, str) else column  # type: ignore[return-value]


def _said(value: object) -> str:
    """Plain words for a value."""
    if _is_missing(value):
        return "\u2013"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_said(one) for one in value)
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    return str(value)
