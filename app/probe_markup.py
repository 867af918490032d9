"""HTML of a probe's numbers. Every text from a store or a user passes through `html.escape`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from stamp_index.evaluate.probe import ClassScore

FLAT = 8  # classes whose names stand level above the matrix


@dataclass(frozen=True)
class Bar:
    """A number with its spread, and what it is the number of."""

    name: str
    mean: float
    sd: float = math.nan
    kind: str = "plain"  # or "level", of a probe that sees nothing


def number(value: float, digits: int = 3) -> str:
    """A number for people; a dash where it is not defined."""
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def spread(mean: float, sd: float, digits: int = 3) -> str:
    """Mean and standard deviation."""
    return number(mean, digits) + (f" ± {number(sd, digits)}" if math.isfinite(sd) else "")


def headline(main: tuple[str, str], others: Iterable[tuple[str, str]]) -> str:
    """The number that counts, large, and others beside it."""
    first = f'<div class="sp-main"><span>{escape(main[0])}</span><b>{escape(main[1])}</b></div>'
    rest = "".join(
        f"<div><span>{escape(name)}</span><b>{escape(value)}</b></div>" for name, value in others
    )
    return f'<div class="sp-head">{first}{rest}</div>'


def level_bars(bars: Sequence[Bar], chance: float) -> str:
    """The probe and what sees nothing, on one axis from 0 to 1, with a line at chance."""
    lines = "".join(_level_bar(bar, chance) for bar in bars)
    return f'<div class="sp-levels" role="img" aria-label="{escape(_told(bars))}">{lines}</div>'


def _told(bars: Sequence[Bar]) -> str:
    return "; ".join(f"{bar.name} {spread(bar.mean, bar.sd)}" for bar in bars)


def _level_bar(bar: Bar, chance: float) -> str:
    at = _percent(bar.mean)
    whisker = ""
    if math.isfinite(bar.sd):
        low, high = _percent(bar.mean - bar.sd), _percent(bar.mean + bar.sd)
        whisker = f'<i class="sp-sd" style="left:{low:.1f}%;width:{max(high - low, 0.4):.1f}%"></i>'
    return (
        f'<span class="sp-name">{escape(bar.name)}</span>'
        f'<span class="sp-axis"><i class="sp-bar sp-{escape(bar.kind)}" style="width:{at:.1f}%"></i>{whisker}'
        f'<i class="sp-chance" style="left:{_percent(chance):.1f}%"></i></span>'
        f'<span class="si-num">{escape(spread(bar.mean, bar.sd))}</span>'
    )


def _percent(share: float) -> float:
    return 100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0


def confusion_table(classes: Sequence[str], table: NDArray[np.int64]) -> str:
    """Rows are the truth, columns what was predicted; shares of each row, counts in the titles."""
    up = " sp-up" if len(classes) > FLAT else ""
    head = "".join(
        f'<th scope="col" title="{escape(name)}"><span>{escape(name)}</span></th>'
        for name in classes
    )
    rows = "".join(_confusion_row(classes, at, table[at]) for at in range(len(classes)))
    return (
        f'<div class="sp-scroll"><table class="sp-confusion{up}">'
        f'<tr><th class="sp-corner"><span>truth ↓ · predicted →</span></th>{head}</tr>{rows}</table></div>'
    )


def _confusion_row(classes: Sequence[str], at: int, counts: NDArray[np.int64]) -> str:
    total = max(int(counts.sum()), 1)
    cells = "".join(
        _cell(
            int(n),
            total,
            told=f"{int(n):,} of {total:,} spots of {classes[at]} were predicted {name}",
            right=at == to,
        )
        for to, (name, n) in enumerate(zip(classes, counts, strict=True))
    )
    name = escape(classes[at])
    return f'<tr><th scope="row" title="{name}"><span>{name}</span></th>{cells}</tr>'


def _cell(n: int, total: int, *, told: str, right: bool) -> str:
    share = n / total
    ink = "15,110,132" if right else "180,84,26"  # the page's blue, and the orange of what is wrong
    dark = " sp-dark" if share > 0.55 else ""
    words = f"{100 * share:.0f}" if share >= 0.005 else ("·" if n else "")
    shade = 0.9 * share if n else 0.0
    return f'<td class="si-num{dark}" style="background:rgba({ink},{shade:.2f})" title="{escape(told)}">{words}</td>'


def recall_bars(scores: Sequence[ClassScore]) -> str:
    """Share of each class that was found, and how many spots it has."""
    head = "<tr><th>Class</th><th class=si-wide>Recall</th><th></th><th>Spots</th><th>Predicted</th></tr>"
    lines = "".join(
        f'<tr><td title="{escape(one.name)}"><b>{escape(one.name)}</b></td>'
        f'<td><span class="si-track"><span class="si-fill si-plain" style="width:{_percent(one.recall):.0f}%">'
        f'</span></span></td><td class="si-num">{number(one.recall, 2)}</td>'
        f'<td class="si-num">{one.support:,}</td><td class="si-num">{one.n_predicted:,}</td></tr>'
        for one in scores
    )
    return f'<table class="si-table sp-recall">{head}{lines}</table>'


def rows_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table; its first column is text, the others numbers."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(
        f"<tr><td>{escape(row[0])}</td>"
        + "".join(f'<td class="si-num">{escape(value)}</td>' for value in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="sp-scroll"><table class="si-table sp-rows"><tr>{top}</tr>{lines}</table></div>'


def pair_table(of: str, names: tuple[str, str], rows: Iterable[tuple[str, float, float]]) -> str:
    """Two runs beside each other: both numbers of each row, and their difference as a bar from the middle."""
    head = (
        f"<tr><th>{escape(of)}</th><th>{escape(names[0])}</th><th>{escape(names[1])}</th>"
        "<th class=si-wide>Difference</th><th></th></tr>"
    )
    return f'<table class="si-table sp-pair">{head}{"".join(map(_pair, rows))}</table>'


def _pair(row: tuple[str, float, float]) -> str:
    name, one, other = row
    gap = one - other
    bar = ""
    if math.isfinite(gap):
        width = 50 * min(abs(gap), 1.0)
        left, kind = (50.0, "plain") if gap >= 0 else (50.0 - width, "low")
        bar = (
            f'<i class="sp-gap si-fill si-{kind}" style="left:{left:.1f}%;width:{width:.1f}%"></i>'
        )
    told = (f"{gap:+.3f}" if math.isfinite(gap) else "–").replace("-", "−")
    return (
        f'<tr><td><b>{escape(name)}</b></td><td class="si-num">{number(one)}</td>'
        f'<td class="si-num">{number(other)}</td><td><span class="sp-gaps">{bar}</span></td>'
        f'<td class="si-num">{told}</td></tr>'
    )
