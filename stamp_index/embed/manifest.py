"""Manifests: a table of slides to add, with what their files do not say."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import SlideError
from stamp_index.readers import SlideOptions, find_slides
from stamp_index.readers.base import ABOVE_0
from stamp_index.remote.addresses import is_address, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MANIFEST_SUFFIXES: Final = (".csv", ".tsv")
_OPTIONS: Final = tuple(field.name for field in fields(SlideOptions))
_ALSO: Final = {"patient": "patient_id", "slide": "slide_id"}  # other names of columns
_SHOWN: Final = tuple(
    next((short for short, name in _ALSO.items() if name == option), option) for option in _OPTIONS
)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """One slide to add.

    Attributes
    ----------
    path : Path
        What a reader is to read.
    options : SlideOptions
        What is said about it.
    """

    path: Path
    options: SlideOptions


def entries_of(sources: Iterable[Path | str], options: SlideOptions | None = None) -> list[Entry]:
    """Find the slides that some sources name.

    Parameters
    ----------
    sources : iterable of path
        Slides, folders that are searched for slides, and manifests (.csv, .tsv). An address of object storage
        (``s3://bucket/slide.svs``, or the prefix of a slide's folder) is one slide.
    options : SlideOptions, optional
        For all of them, where a manifest does not say otherwise.

    Returns
    -------
    list of Entry
        In the order of the sources; folders in the order of their paths. Each slide stands once: what is
        said of a slide itself wins over what is said of a folder that holds it.

    Raises
    ------
    SlideError
        If a manifest cannot be read, or two entries name one slide and say different things of it. A source
        that is not there, or is no slide, is told when it is added.
    """
    said = options or SlideOptions()
    found: list[tuple[Entry, bool]] = []
    for source in map(Path, sources):
        if is_manifest(source):
            for entry in read_manifest(source):
                found += _below(entry.path, entry.options.over(said))
        else:
            found += _below(source, said)
    unique: dict[Path, tuple[Entry, bool]] = {}
    for entry, by_name in found:
        path = Path(named(entry.path))
        other, other_by_name = unique.get(path, (entry, by_name))
        if other.options != entry.options and by_name == other_by_name:
            msg = f"{entry.path} is named twice, with different options. Name it once."
            raise SlideError(msg)
        unique[path] = (entry, True) if by_name else (other, other_by_name)
    return [entry for entry, _ in unique.values()]


def is_manifest(path: Path) -> bool:
    """Say whether a path is a manifest: a .csv or .tsv file that is no slide itself."""
    if path.suffix.lower() not in MANIFEST_SUFFIXES or not path.is_file():
        return False
    return path not in find_slides(path)


def read_manifest(path: Path | str) -> list[Entry]:
    """Read a manifest.

    Parameters
    ----------
    path : path
        A table with a header, separated by commas (.csv) or tabs (.tsv), in UTF-8. Column ``path``: a
        slide, or a folder of slides; relative ones start from the manifest's folder. Any other column is a
        field of `SlideOptions` (``patient`` and ``slide`` for short); an empty value says nothing.

    Returns
    -------
    list of Entry
        In the order of the rows.

    Raises
    ------
    SlideError
        If the file cannot be read, has no column ``path``, an unknown or doubled column, a row without
        path or with too many values, or a value that is no such option. The line is named.
    """
    path = Path(path)
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=separator, strict=True)
            lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        msg = f"The manifest {path} cannot be read ({exc}). Save it as a table of text in UTF-8."
        raise SlideError(msg) from exc
    if not lines:
        msg = f"The manifest {path} is empty; expected a header with a column 'path', and a slide per line."
        raise SlideError(msg)
    columns = _columns(lines[0][1], path)
    return [_entry(columns, row, f"{path}, line {number}") for number, row in lines[1:]]


def _below(path: Path, options: SlideOptions) -> list[tuple[Entry, bool]]:
    """Find the slides that a path names, and whether it names them by themselves."""
    if is_address(path) or not path.exists():
        return [(Entry(path, options), True)]  # told as that slide's failure, and the others go on
    slides = find_slides(path) or [path]
    if len(slides) > 1 and (options.slide_id or options.image):
        msg = (
            f"{path} holds {len(slides)} slides, so one slide_id or image cannot be said of it. Name each slide "
            f"in a line of its own."
        )
        raise SlideError(msg)
    return [(Entry(slide, options), slide == path) for slide in slides]


def _columns(header: Sequence[str], path: Path) -> list[str]:
    names = [_ALSO.get(name.strip().lower(), name.strip().lower()) for name in header]
    unknown = [name for name in names if name not in ("path", *_OPTIONS)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if "path" not in names or unknown or doubled:
        wrong = (
            f"has the unknown columns {', '.join(map(repr, unknown))}"
            if unknown
            else f"has column {doubled[0]} twice"
            if doubled
            else "has no column 'path'"
        )
        msg = f"The manifest {path} {wrong}. Its columns are path and any of {', '.join(_SHOWN)}."
        raise SlideError(msg)
    return names


def _entry(columns: Sequence[str], row: Sequence[str], where: str) -> Entry:
    if len(row) > len(columns):
        msg = (
            f"The manifest {where}, has {len(row)} values for {len(columns)} columns. Put values with "
            f"separators into quotes."
        )
        raise SlideError(msg)
    cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False) if cell.strip()}
    cell = cells.pop("path", "")
    if not cell:
        msg = f"The manifest {where}, names no path."
        raise SlideError(msg)
    folder = Path(where.rpartition(", line ")[0]).parent
    path = Path(cell) if is_address(cell) else folder / cell
    return Entry(path, _options(cells, folder, where))


def _number(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        msg = f"{name} is {text!r}; expected {ABOVE_0[name]}, with a point and no unit."
        raise ValueError(msg)
    return float(text)


def _options(cells: Mapping[str, str], folder: Path, where: str) -> SlideOptions:
    values: dict[str, Any] = dict(cells)
    try:
        for name in ABOVE_0:
            if name in values:
                values[name] = _number(name, values[name])
        if "image" in values:
            values["image"] = folder / values["image"]
        return SlideOptions(**values)
    except ValueError as exc:
        msg = f"The manifest {where}: {exc}"
        raise SlideError(msg) from exc
