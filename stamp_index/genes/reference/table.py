"""The genes of one species, and the tiers in which a name is looked up among them."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from stamp_index.errors import PanelError
from stamp_index.genes.reference.mangled import names_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

How = Literal["symbol", "ensembl", "previous", "alias", "case", "ambiguous", "mangled", "unknown"]
COLUMNS: Final = ("symbol", "ids", "previous", "aliases", "orthologs")
SEPARATOR: Final = "|"
# A species' letters, G for a gene and eleven digits; a version may follow a dot (Ensembl, stable ids).
# ENSG00000141736.13, ENSMUSG00000000001.4; GENCODE marks copies on the Y chromosome with _PAR_Y.
_ENSEMBL: Final = re.compile(r"(ENS[A-Z]*G\d{11})(?:\.\d+)?(?:_PAR_Y)?", re.IGNORECASE)


def without_version(name: str) -> str | None:
    """Return an Ensembl gene id in capitals and without its version; None where `name` is no such id."""
    match = _ENSEMBL.fullmatch(name)
    return match[1].upper() if match else None


class Match(NamedTuple):
    """What a name means.

    Attributes
    ----------
    name : str
        As it was given.
    symbol : str or None
        The gene's symbol in the reference; None where the name is ambiguous, mangled or unknown.
    gene_id : str
        The gene's Ensembl id without version; "" where it has none or is not known.
    how : str
        ``symbol``, ``ensembl``, ``previous``, ``alias`` or ``case`` (it differs from a symbol in case only);
        ``ambiguous``, ``mangled`` (a spreadsheet has made a date of it) or ``unknown``.
    candidates : tuple of str
        Symbols of all genes that the name is or was used for, the found one first. More than one beside a
        `symbol` means that a weaker reading exists, such as a symbol that another gene had before.
    """

    name: str
    symbol: str | None
    gene_id: str
    how: How
    candidates: tuple[str, ...]


class SpeciesTable:
    """Genes of one species.

    A name is looked up as a symbol, then as a previous symbol, then as an alias; only then are symbols,
    previous symbols and aliases compared without regard to case. The first tier that knows the name
    decides; several genes in that tier make it ambiguous.

    Parameters
    ----------
    text : str
        The table: a header and one line per gene, columns separated by tabs, several names in a cell by ``|``.

    Raises
    ------
    PanelError
        If the columns are not those of a gene table, or a symbol stands twice.
    """

    def __init__(self, text: str) -> None:
        header, *lines = text.splitlines()
        if tuple(header.split("\t")) != COLUMNS:
            msg = f"A gene table has the columns {', '.join(COLUMNS)}; this one begins with {header[:80]!r}."
            raise PanelError(msg)
        self._lines = lines  # split when asked: a text for each cell would be 20 MB
        self.symbols = [line.partition("\t")[0] for line in lines]
        self.row_of = {symbol: row for row, symbol in enumerate(self.symbols)}
        if len(self.row_of) != len(self.symbols):
            msg = f"{len(self.symbols) - len(self.row_of)} symbols of a gene table stand twice. Build it again."
            raise PanelError(msg)

    def __len__(self) -> int:
        return len(self.symbols)

    def ids(self, row: int) -> tuple[str, ...]:
        """Ensembl ids of a gene: its own, then those that older annotations gave it."""
        return _names(self._cell(row, 1))

    def previous(self, row: int) -> tuple[str, ...]:
        """Symbols that a gene had before."""
        return _names(self._cell(row, 2))

    def aliases(self, row: int) -> tuple[str, ...]:
        """Other names of a gene."""
        return _names(self._cell(row, 3))

    def orthologs(self, symbol: str) -> tuple[str, ...]:
        """Symbols of the other species' genes that a gene is the ortholog of."""
        row = self.row_of.get(symbol)
        return () if row is None else _names(self._cell(row, 4))

    def symbol_of(self, gene_id: str) -> str | None:
        """Symbol of an Ensembl id, with or without version; None where the table does not know it."""
        row = self._row_of_id.get(without_version(gene_id) or "")
        return None if row is None else self.symbols[row]

    def names(self, symbol: str) -> tuple[str, ...]:
        """All names of a gene, its symbol first, then its ids, previous symbols and aliases."""
        row = self.row_of[symbol]
        return (symbol, *self.ids(row), *self.previous(row), *self.aliases(row))

    @cached_property
    def _row_of_id(self) -> dict[str, int]:
        pairs = [(gene_id, row) for row in range(len(self)) for gene_id in self.ids(row)]
        return dict(reversed(pairs))  # the first gene of an id is the one that owns it

    @cached_property
    def _tiers(self) -> tuple[Mapping[str, Sequence[int]], Mapping[str, Sequence[int]]]:
        """Rows of each previous symbol and of each alias."""
        return _rows_of(self._column(2)), _rows_of(self._column(3))

    @cached_property
    def _folded(self) -> tuple[Mapping[str, Sequence[int]], ...]:
        """Rows of each symbol, previous symbol and alias, without regard to case."""
        return tuple(
            _rows_of(cell.casefold() for cell in self._column(column)) for column in (0, 2, 3)
        )

    def _cell(self, row: int, column: int) -> str:
        return self._lines[row].split("\t")[column]

    def _column(self, column: int) -> Iterator[str]:
        return (line.split("\t")[column] for line in self._lines)

    def match(self, name: str, gene_id: str = "") -> Match:
        """Find the gene that a name means.

        Parameters
        ----------
        name : str
            A symbol, previous symbol, alias, or an Ensembl id with or without version.
        gene_id : str
            Its Ensembl id, where the source has one: if the reference knows it, it decides.
        """
        known = self._row_of_id.get(without_version(gene_id) or "") if gene_id else None
        if known is not None:
            return self._found(
                name, (known,), "symbol" if self.symbols[known] == name else "ensembl"
            )
        own = self.row_of.get(name)
        previous, aliases = self._tiers
        if own is not None:
            return self._found(name, (own, *previous.get(name, ())), "symbol")
        as_id = without_version(name)
        if as_id is not None:
            by_id = self._row_of_id.get(as_id)
            return _unknown(name) if by_id is None else self._found(name, (by_id,), "ensembl")
        if name in previous:
            return self._tier(name, previous[name], aliases.get(name, ()), "previous")
        if name in aliases:
            return self._tier(name, aliases[name], (), "alias")
        return self._match_folded(name)

    def _match_folded(self, name: str) -> Match:
        key = name.strip().casefold()
        if not key:
            return _unknown(name)
        symbols, previous, aliases = self._folded
        if key in symbols:
            return self._tier(name, symbols[key], (), "case")
        if key in previous:
            return self._tier(name, previous[key], aliases.get(key, ()), "previous")
        if key in aliases:
            return self._tier(name, aliases[key], (), "alias")
        meant: dict[str, None] = {}
        for before in names_before(name):
            meant.update(dict.fromkeys(self._match_folded(before).candidates))
        return Match(name, None, "", "mangled", tuple(meant)) if meant else _unknown(name)

    def _tier(self, name: str, rows: Sequence[int], weaker: Sequence[int], how: How) -> Match:
        if len(rows) > 1:
            return Match(name, None, "", "ambiguous", tuple(self.symbols[row] for row in rows))
        return self._found(name, (*rows, *weaker), how)

    def _found(self, name: str, rows: Sequence[int], how: How) -> Match:
        symbols = tuple(dict.fromkeys([self.symbols[row] for row in rows]))
        gene_id = self._cell(rows[0], 1).split(SEPARATOR, 1)[0]
        return Match(name, symbols[0], gene_id, how, symbols)


def _unknown(name: str) -> Match:
    return Match(name, None, "", "unknown", ())


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(SEPARATOR)) if text else ()


def _rows_of(cells: Iterable[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}  # tuples: a list of one is twice as large
    for row, cell in enumerate(cells):
        for name in dict.fromkeys(_names(cell)):
            found[name] = (*found.get(name, ()), row)
    return found
