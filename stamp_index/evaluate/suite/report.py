"""A report of a store: numbers with hashes of what they depend on, as JSON, Markdown and one HTML file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.suite.paired import flaw_of

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT: Final = 1
KIND: Final = "stamp-index evaluation"
MAX_BYTES: Final = 512 * 2**20  # of a file that is read back
_FIELDS: Final = {
    "store": dict,
    "encoder": dict,
    "split": dict,
    "genes": list,
    "settings": dict,
    "sections": list,
    "paired": dict,
    "notes": list,
}


@dataclass
class SuiteReport:
    """What `evaluate_store` found.

    Attributes
    ----------
    store : dict
        id, version, number of spots and slides.
    encoder : dict
        name, fingerprint, and hash of the gene panel.
    split : dict
        As `Split.to_dict`.
    genes : list of dict
        Gene lists that expression was predicted for: label, names, rule, hash.
    settings : dict
        suite, label, seed, and versions of the libraries.
    sections : list of dict
        title, text, tables (columns, rows, caption) and plots (kind, data, caption), in order.
    paired : dict
        What two reports are compared by, spot by spot: see `stamp_index.evaluate.suite.compare`.
    notes : list of str
    """

    store: dict[str, Any]
    encoder: dict[str, Any]
    split: dict[str, Any]
    genes: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    sections: list[dict[str, Any]] = field(default_factory=list)
    paired: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def about(self) -> list[tuple[str, str]]:
        """What was measured, in words and hashes."""
        split = self.split
        return [
            ("Encoder", f"{self.encoder['name']} {self.encoder['fingerprint']}"),
            ("Store", f"{self.store['id']}, version {self.store['version']}"),
            (
                "Spots",
                f"{self.store['n_spots']:,} on {self.store['n_slides']:,} slides",
            ),
            (
                "Split",
                f"by {split['by']}, hash {split['hash']}: {len(split['train'])} slides of the store were learnt from, "
                f"{len(split['test'])} are tested",
            ),
            *(
                (
                    f"Genes {one['label']}",
                    f"{len(one['names']):,}, hash {one['hash']}: {one['rule']}",
                )
                for one in self.genes
            ),
            *((name, str(value)) for name, value in self.settings.items()),
        ]

    def rows(self, title: str) -> list[dict[str, Any]]:
        """Rows of all tables of a section; none where there is no such section."""
        found = [one for one in self.sections if one["title"] == title]
        return [row for one in found for table in one["tables"] for row in table["rows"]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that are not finite become None."""
        held = {name: getattr(self, name) for name in _FIELDS}
        made: dict[str, Any] = _plain({"kind": KIND, "format": FORMAT, **held})
        return made

    def save(self, folder: Path | str) -> dict[str, Path]:
        """Write ``report.json``, ``report.html`` and ``report.md``.

        Returns
        -------
        dict of str to Path
            The files by "json", "html" and "md".
        """
        from stamp_index.evaluate.html import render_html

        folder = ready_folder(folder)
        texts = {
            "json": json.dumps(self.to_dict(), allow_nan=False),
            "html": render_html(
                {
                    "title": f"Evaluation of {self.encoder['name']}",
                    "about": self.about,
                    "notes": self.notes,
                    "sections": _plain(self.sections),
                }
            ),
            "md": self.to_markdown(),
        }
        paths = {}
        for kind, text in texts.items():
            paths[kind] = folder / f"report.{kind}"
            draft = folder / f".report.{kind}.tmp"
            draft.write_text(text, "utf-8")
            draft.replace(paths[kind])
        return paths

    def to_markdown(self) -> str:
        """Every table, below what was measured."""
        lines = [f"- {name}: {value}" for name, value in self.about]
        for section in self.sections:
            lines += ["", f"## {section['title']}", "", section["text"]]
            for table in section["tables"]:
                lines += ["", *markdown_table(table["columns"], table["rows"])]
                if table.get("caption"):
                    lines += ["", table["caption"]]
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    def to_markdown_row(self) -> str:
        """One row for a table of many encoders: hashes, sizes and recall of the largest gallery, both ways."""
        found = {
            (row["direction"], row["encoder"]): row
            for row in self.rows("Retrieval")
            if row.get("gallery") == "all"
        }
        cells = [
            self.encoder["name"],
            self.encoder["fingerprint"][:8],
            self.split["by"],
            self.split["hash"],
        ]
        for direction in ("image_to_gene", "gene_to_image"):
            row = found.get((direction, self.encoder["name"]))
            keys = ("N", "R@10", "chance R@10", "R@1%", "R@1% low", "R@1% high")
            cells += [_cell(row[key]) if row and key in row else "" for key in keys]
        return "| " + " | ".join(cells) + " |"


def ready_folder(folder: Path | str) -> Path:
    """Make the folder that a report is to be saved in, before it is measured.

    Raises
    ------
    EvaluationError
        If it is a file, cannot be made or written to, or has a folder in a report's place.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".report.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        msg = f"A report cannot be saved in {folder} ({error.strerror or error}). Give another folder."
        raise EvaluationError(msg) from error
    for kind in ("json", "html", "md"):
        if (folder / f"report.{kind}").is_dir():
            msg = f"A report cannot be saved in {folder}: report.{kind} is a folder there. Give another one."
            raise EvaluationError(msg)
    return folder


def read_report(path: Path | str) -> SuiteReport:
    """Read what `SuiteReport.save` wrote as JSON.

    Raises
    ------
    EvaluationError
        If it is no such file, damaged, or of a newer release.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe has no end, a device neither
            msg = f"{path} is no file. Give the report.json of an evaluation."
            raise EvaluationError(msg)
        if path.stat().st_size > MAX_BYTES:
            msg = f"{path} has {path.stat().st_size / 1e6:.0f} MB; a report has at most {MAX_BYTES / 1e6:.0f}."
            raise EvaluationError(msg)
        held = json.loads(path.read_bytes())
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror or error}). Give the report.json of an evaluation."
        raise EvaluationError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is no JSON ({error}). Give the report.json of an evaluation."
        raise EvaluationError(msg) from error
    wrong = _wrong(held)
    if wrong:
        msg = f"{path} {wrong}. Give the report.json of an evaluation of a store, or make it anew."
        raise EvaluationError(msg)
    return SuiteReport(**{name: held[name] for name in _FIELDS})


def _wrong(held: object) -> str:
    if not isinstance(held, dict) or held.get("kind") != KIND:
        return "is no evaluation of a store"
    if not isinstance(held.get("format"), int) or held["format"] > FORMAT:
        return f"has format {held.get('format')}, this release reads up to {FORMAT}"
    missing = [name for name, kind in _FIELDS.items() if not isinstance(held.get(name), kind)]
    return f"is damaged: {', '.join(missing)}" if missing else flaw_of(held)


def markdown_table(columns: Iterable[Any], rows: Iterable[dict[str, Any]]) -> list[str]:
    """Write the lines of a table; columns are names, or mappings with name and title. What a row lacks stays blank."""
    names, titles = [], []
    for column in columns:
        is_name = isinstance(column, str)
        names.append(column if is_name else column["name"])
        titles.append(column if is_name else column.get("title", column["name"]))
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows]
    return lines


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if math.isfinite(value) else ""
    # Names may hold what Markdown passes on as HTML.
    return escape(str(value), quote=False).replace("|", "\\|").replace("\n", " ")


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON may hold
    """Give the same with numbers that are not finite as None, and numbers of numpy as Python's."""
    if isinstance(value, dict):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
