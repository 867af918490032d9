"""Small pieces of HTML for the app. Every text from a file or a user passes through `html.escape`."""

from __future__ import annotations

import math
import re
from html import escape
from typing import TYPE_CHECKING

from app.settings import as_shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd

MARKDOWN_SIGNS = r"\`*_[]<>$~#|!&"
# What Streamlit makes of plain letters, after escapes are gone: addresses become links, :names: icons. A word joiner, which is
# not seen, parts them.
MADE_OF_LETTERS = re.compile(r"https?(?=://)|www(?=\.)|\S(?=@)|:(?=[\w+/-]+:)", re.IGNORECASE)
WORD_JOINER = "\u2060"


def plain(text: str) -> str:
    """Text that Streamlit's markdown shows letter by letter.

    A message can quote the query, and the query can come from a link that somebody else made: it
    must not become a picture that the browser fetches, nor a link.
    """
    parted = MADE_OF_LETTERS.sub(rf"\g<0>{WORD_JOINER}", as_shown(text))
    return "".join("\\" + letter if letter in MARKDOWN_SIGNS else letter for letter in parted)


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values under each other."""
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(as_shown(value))}</dd>" for name, value in rows
    )
    return f'<dl class="si-facts">{lines}</dl>'


def badge(text: str) -> str:
    """A mark that stands beside whatever is no measurement."""
    return f'<span class="si-guess">{escape(text)}</span>'


def gene_bars(rows: Sequence[Mapping[str, object]]) -> str:
    """Expression of the asked genes at one spot, measured or predicted, with percentile in the store."""
    asked = any(row["side"] != "plain" for row in rows)
    measured = all(row["kind"] == "measured" for row in rows)
    placed = any(row["kind"] != "unknown" for row in rows)
    head = (
        f"<tr><th>Gene</th>{'<th>Asked</th>' if asked else ''}"
        f"<th{'' if placed else ' class=si-wide'}>{'Measured' if measured else 'Expression'}</th>"
        f"{'<th class=si-wide>Percentile in the store</th>' if placed else ''}</tr>"
    )
    lines = "".join(_gene_bar(row, asked=asked) for row in rows)
    return f'<table class="si-table">{head}{lines}</table>'


def _gene_bar(row: Mapping[str, object], *, asked: bool) -> str:
    kind = str(row["kind"])
    start = (
        f'<tr class="si-{escape(kind)}" title="{escape(str(row["title"]))}">'
        f"<td><b>{escape(str(row['gene']))}</b></td>"
        f"{'<td>' + escape(str(row['side'])) + '</td>' if asked else ''}"
    )
    value = escape(f"{row['value']} {row['spread']}".strip())
    if kind == "unknown":
        return f'{start}<td class="si-none" colspan="2">{value}</td></tr>'
    if kind == "predicted":
        value = f"<i>{value}</i><br>{badge('predicted, not measured')}"
    return (
        f'{start}<td class="si-num">{value}</td>'
        f'<td><span class="si-track"><span class="si-fill si-{row["side"]}" '
        f'style="width:{row["share"]:.0f}%"></span></span>'
        f'<span class="si-pct">{escape(str(row["percentile"]))}</span></td></tr>'
    )


def slide_bars(counts: Mapping[str, int]) -> str:
    """How many hits each slide gives, as bars."""
    most = max(counts.values())
    lines = "".join(
        f'<div class="si-bar"><span class="si-name" title="{escape(name)}">{escape(name)}</span>'
        f'<span class="si-track"><span class="si-fill si-plain" '
        f'style="width:{100 * n / most:.0f}%"></span></span><span class="si-num">{n}</span></div>'
        for name, n in counts.items()
    )
    return f'<div class="si-bars">{lines}</div>'


def prediction_table(table: pd.DataFrame, *, longest: float) -> str:
    """Predicted expression: a range bar, a mean, its spread and its place in the store.

    Parameters
    ----------
    table : DataFrame
        Columns gene, mean, sd, low, high, percentile, median; r, where it was looked at how well
        genes are predicted; and measured, where the query is a spot whose expression is known.
    longest : float
        Expression at the right end of the axis, log1p CP10K.
    """
    measured = "<th>Measured here</th>" if "measured" in table else ""
    held_out = '<th title="held-out correlation">r</th>' if "r" in table else ""
    head = (
        '<tr><th>Gene</th><th class="si-wide">Predicted, with range of the hits</th>'
        f"<th>Mean</th><th>SD</th><th>Low–high</th><th>vs store</th>{held_out}{measured}</tr>"
    )
    lines = "".join(_prediction_row(row, longest) for row in table.to_dict("records"))
    return f'<table class="si-table si-pred">{head}{lines}</table>'


def _prediction_row(row: Mapping[str, float | str], longest: float) -> str:
    def at(value: float | str) -> float:
        return min(max(100 * float(value) / longest, 0.0), 100.0)

    low, high, mean, median = (at(row[name]) for name in ("low", "high", "mean", "median"))
    axis = (
        f'<span class="si-axis"><span class="si-range" '
        f'style="left:{low:.1f}%;width:{max(high - low, 0.8):.1f}%"></span>'
        f'<span class="si-median" style="left:{median:.1f}%"></span>'
        f'<span class="si-mean" style="left:{mean:.1f}%"></span>{_measured_mark(row, at)}</span>'
    )
    measured = held_out = ""
    if "r" in row:
        r = float(row["r"])
        held_out = f'<td class="si-num">{r:.2f}</td>' if math.isfinite(r) else "<td>–</td>"
    if "measured" in row:
        known = math.isfinite(float(row["measured"]))
        words = f"{row['measured']:.2f}" if known else '<span class="si-none">not measured</span>'
        measured = f'<td class="si-num">{words}</td>'
    return (
        f"<tr><td><b>{escape(str(row['gene']))}</b></td><td>{axis}</td>"
        f'<td class="si-num">{row["mean"]:.2f}</td><td class="si-num">{row["sd"]:.2f}</td>'
        f'<td class="si-num">{row["low"]:.1f}–{row["high"]:.1f}</td>'
        f'<td class="si-num">p{row["percentile"]:.0f}</td>{held_out}{measured}</tr>'
    )


def _measured_mark(row: Mapping[str, float | str], at: Callable[[float | str], float]) -> str:
    if "measured" not in row or not math.isfinite(float(row["measured"])):
        return ""
    return f'<span class="si-known" style="left:{at(row["measured"]):.1f}%"></span>'


def patch(address: str, alt: str) -> str:
    """A patch by its address on this server."""
    return f'<img class="si-patch" src="{escape(address)}" alt="{escape(alt)}">'


def patch_row(patches: Sequence[tuple[str, str]]) -> str:
    """Small patches beside each other, each with what it is."""
    pictures = "".join(
        f'<img src="{escape(address)}" alt="{escape(name)}" title="{escape(name)}">'
        for address, name in patches
    )
    return f'<div class="si-patchrow">{pictures}</div>'


def value_bars(rows: Sequence[tuple[str, float]]) -> str:
    """Names with a bar and a number each; bars against the largest."""
    most = max((value for _, value in rows), default=1.0) or 1.0
    lines = "".join(
        f"<tr><td><b>{escape(name)}</b></td><td><span class='si-track'><span class='si-fill si-plain' "
        f'style="width:{100 * value / most:.0f}%"></span></span></td>'
        f'<td class="si-num">{value:.1f}</td></tr>'
        for name, value in rows
    )
    return f'<table class="si-table si-values">{lines}</table>'


def contrast_table(high: pd.DataFrame, low: pd.DataFrame) -> str:
    """Genes above and below the rest of the slide, with fold change and means."""
    head = "<tr><th>Gene</th><th>log2FC</th><th>inside</th><th>outside</th></tr>"
    lines = "".join(
        f'<tr><td><b>{escape(str(row["gene"]))}</b></td><td class="si-num">{row["log2fc"]:+.2f}</td>'
        f'<td class="si-num">{row["mean_in"]:.1f}</td><td class="si-num">{row["mean_out"]:.1f}</td></tr>'
        for part in (high[high["log2fc"] > 0], low[low["log2fc"] < 0])
        for row in part.to_dict("records")
    )
    return f'<table class="si-table">{head}{lines}</table>'


def pair_bars(table: pd.DataFrame) -> str:
    """Genes with a bar each for region and hit, on one scale.

    Parameters
    ----------
    table : DataFrame
        Columns gene, log2fc and log2fc_hit (NaN where the hit's slide did not measure the gene).
    """
    most = max(float(table[["log2fc", "log2fc_hit"]].abs().max(axis=None)), 1e-6)
    head = "<tr><th>Gene</th><th class=si-wide>Region</th><th></th><th class=si-wide>Hit</th><th></th></tr>"
    return f'<table class="si-table si-pair">{head}{"".join(_pair(row, most) for row in table.to_dict("records"))}</table>'


def _pair(row: Mapping[str, object], most: float) -> str:
    cells = ""
    for name, side in (("log2fc", "plain"), ("log2fc_hit", "plain")):
        value = float(str(row[name]))
        if not math.isfinite(value):
            cells += '<td colspan="2" class="si-none">not measured, or hardly there</td>'
            continue
        width = 100 * abs(value) / most
        colour = side if value >= 0 else "low"
        cells += (
            f'<td><span class="si-track"><span class="si-fill si-{colour}" style="width:{width:.0f}%"></span></span></td>'
            f'<td class="si-num">{value:+.2f}</td>'
        )
    return f"<tr><td><b>{escape(str(row['gene']))}</b></td>{cells}</tr>"
