"""A report as one HTML file that needs nothing else: no network, no script library, no font."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.html_style import CSS, SCRIPT
from stamp_index.evaluate.html_table import table_html, text
from stamp_index.evaluate.plots import draw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_ROWS: Final = 40  # of a table that is not folded
_ID: Final = re.compile(r'(\bid="|href="#|url\(#)')


def render_html(report: Mapping[str, Any]) -> str:
    """Write a report as a page.

    Parameters
    ----------
    report : mapping
        ``title``: str; ``about``: pairs of name and value; ``notes``: sequence of str; ``sections``: sequence of mappings
        with ``title``, ``text`` (an empty line parts paragraphs), ``tables`` (`table_html`) and ``plots``: mappings with
        ``kind`` and ``data`` (`stamp_index.evaluate.plots`) and ``caption``. Only ``title`` must be there.

    Returns
    -------
    str
        HTML that fetches nothing; all text from `report` is escaped, and the page's policy runs no script but its own.

    Raises
    ------
    EvaluationError
        If the title is missing, or a section, table or plot does not have this form.

    Examples
    --------
    >>> page = render_html({"title": "Domains", "sections": [{"title": "None", "text": "No labels."}]})
    >>> page.startswith("<!DOCTYPE html>")
    True
    """
    if not report.get("title"):
        msg = f"A report needs a title; this one has {', '.join(map(repr, report)) or 'nothing'}."
        raise EvaluationError(msg)
    sections = list(report.get("sections", ()))
    parts = [
        f"<h1>{text(report['title'])}</h1>",
        _about(report.get("about", ())),
        _notes(report.get("notes", ())),
        _contents(sections),
        *(_section(place, section) for place, section in enumerate(sections, start=1)),
    ]
    return _page(str(report["title"]), "\n".join(part for part in parts if part))


def _page(title: str, body: str) -> str:
    """Wrap the body with style, script and a policy that allows just these."""
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{script}'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{CSS}</style>
</head>
<body>
{body}
<script>{SCRIPT}</script>
</body>
</html>
"""


def _about(pairs: Sequence[tuple[object, object]]) -> str:
    items = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>\n" for name, value in pairs)
    return f"<dl>{items}</dl>" if items else ""


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{text(note)}</li>\n" for note in notes)
    return f'<div class="notes"><ul>{items}</ul></div>' if items else ""


def _contents(sections: Sequence[Mapping[str, Any]]) -> str:
    if len(sections) < 3:
        return ""
    items = "".join(
        f'<li><a href="#section-{place}">{text(section.get("title", ""))}</a></li>\n'
        for place, section in enumerate(sections, start=1)
    )
    return f'<nav aria-label="Sections"><ol>{items}</ol></nav>'


def _section(place: int, section: Mapping[str, Any]) -> str:
    try:
        words = [part.strip() for part in str(section.get("text", "")).split("\n\n")]
        parts = [f"<p>{text(part)}</p>" for part in words if part]
        plots = [
            _plot(f"plot-{place}-{number}-", plot)
            for number, plot in enumerate(section.get("plots", ()), start=1)
        ]
        if plots:
            kinds = {plot["kind"] for plot in section["plots"]}
            width = "three" if kinds == {"confusion"} else "two" if len(plots) > 1 else "one"
            parts.append(f'<div class="plots {width}">{"".join(plots)}</div>')
        parts += [_table(table) for table in section.get("tables", ())]
        title = section["title"]
    except (KeyError, TypeError, AttributeError) as exc:
        msg = f"Section {place} of the report does not have the form of `render_html`: {exc!r}."
        raise EvaluationError(msg) from exc
    inner = "\n".join(parts)
    return f'<section id="section-{place}">\n<h2>{text(title)}</h2>\n{inner}\n</section>'


def _table(table: Mapping[str, Any]) -> str:
    """Put a table; a long one is folded."""
    n = len(table["rows"])
    if n <= MOST_ROWS:
        return table_html(table)
    words = text(f"{table.get('caption') or 'Table'} ({n:,} rows)")
    return f"<details><summary>{words}</summary>{table_html(table)}</details>"


def _plot(prefix: str, plot: Mapping[str, Any]) -> str:
    """Put a picture and its caption; ids within it get a prefix, as several pictures share a page."""
    svg = _ID.sub(lambda found: found.group(0) + prefix, draw(plot["kind"], plot["data"]))
    caption = text(plot.get("caption", ""))
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{caption or plot["kind"]}" ', 1)
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{svg}{below}</figure>"
