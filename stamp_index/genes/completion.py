"""As-you-type search among the genes that can be asked for, by symbol, alias, previous symbol or Ensembl id."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from stamp_index.genes.aliases import COMMON_ALIASES, OF_SEVERAL_GENES
from stamp_index.genes.names import close_names
from stamp_index.genes.reference import GeneReference, species_of, without_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from stamp_index.genes.reference import SpeciesTable

Kind = Literal["symbol", "alias", "previous", "ensembl"]
MAX_CHARS: Final = 60  # the longest symbol of the reference has 28
MIN_INFIX: Final = 2  # one letter stands inside nearly every symbol
N_CLOSE: Final = 5
_N_NEAR: Final = 60  # names that are compared letter by letter with a mistyped one
_KINDS: Final[tuple[Kind, ...]] = ("symbol", "alias", "previous", "ensembl")
_SURE: Final = ("symbol", "case", "ensembl")


@dataclass(frozen=True)
class Completion:
    """A gene offered for what was typed.

    Attributes
    ----------
    symbol : str
        The gene as the store writes it; this is what goes into a query.
    matched : str
        The name that fits what was typed: the symbol itself or another name of the gene.
    kind : {"symbol", "alias", "previous", "ensembl"}
        What `matched` is.
    note : str
        ``"HER2 -> ERBB2"`` where `matched` is not the symbol, ``"did you mean"`` where nothing fits; else "".
    measured : bool
        Whether the gene is measured in the store.
    """

    symbol: str
    matched: str
    kind: Kind
    note: str
    measured: bool


class _Name(NamedTuple):
    name: str
    kind: Kind
    row: int  # of the gene


class GeneCompleter:
    """Offers genes for what is being typed; the names are gathered at the first call of `complete`.

    Parameters
    ----------
    genes : sequence of str
        Symbols that can be asked for.
    gene_ids : sequence of str
        Ensembl ids of `genes`, with or without version, in the same order; or empty.
    species : str, optional
        Whose names the gene reference is asked for, human or mouse; by default what `species_of` finds.
    measured : collection of str, optional
        Symbols of `genes` that are measured in the store; by default all.

    Raises
    ------
    ValueError
        If `gene_ids` has another length than `genes`.

    Notes
    -----
    With 36,601 human genes on one core: 1.1 s for the first call, 0.1 s for the first mistyped name; then 1.3 ms at the
    median and 2.5 ms at the 95th percentile.
    """

    def __init__(
        self,
        genes: Sequence[str],
        gene_ids: Sequence[str] = (),
        *,
        species: str | None = None,
        measured: Collection[str] | None = None,
    ) -> None:
        if gene_ids and len(gene_ids) != len(genes):
            msg = f"{len(gene_ids)} gene ids were given for {len(genes)} genes."
            raise ValueError(msg)
        ids = dict(zip(genes, gene_ids or [""] * len(genes), strict=True))
        self._genes = list(ids)
        self._ids = list(ids.values())
        self._species = species
        self._measured = frozenset(self._genes if measured is None else measured)

    @property
    def genes(self) -> tuple[str, ...]:
        """All genes that can be offered, in the order given, each once."""
        return tuple(self._genes)

    def complete(self, text: str, limit: int = 12) -> list[Completion]:
        """Find the genes that what was typed may become, best first.

        Parameters
        ----------
        text : str
            The beginning of a name, or a part of it; case is ignored.
        limit : int
            At most this many genes.

        Returns
        -------
        list of Completion
            Each gene once. First the genes of exactly this name, then symbols that begin with it, short ones first,
            then other names that do, those that pathologists use first; a quarter of the list is kept for these.
            Then names that hold it; and only where there are none, symbols that look like it.

        Raises
        ------
        PanelError
            If the completer's species is neither human nor mouse.
        ValueError
            If `limit` is below 1.
        """
        if limit < 1:
            msg = f"limit is {limit}; expected at least 1."
            raise ValueError(msg)
        key = " ".join(text.split()).casefold()
        if not key or len(key) > MAX_CHARS:
            return []
        found = self._beginning(key, limit)
        if len(found) < limit and len(key) >= MIN_INFIX:
            for names in (self._symbols, self._others):
                _take(found, names.find(key), limit)
        if not found:
            return [self._completion(name, "did you mean") for name in self._close(key)]
        return [self._completion(name) for name in found.values()]

    def _beginning(self, key: str, limit: int) -> dict[int, _Name]:
        """Names that are or begin with `key`, by their gene."""
        found: dict[int, _Name] = {}
        exact = f"\n{(without_version(key) or key).casefold()}\n"
        for names in (self._symbols, self._others, self._gene_ids):
            _take(found, names.find(exact), limit)
        symbols, others = dict(found), dict(found)
        _take(symbols, self._symbols.beginning(key), limit)
        _take(others, self._others.beginning(key), limit)
        n_others = min(len(others.keys() - symbols.keys()), limit // 4)
        _take(found, symbols.values(), max(limit - n_others, len(found)))
        _take(found, others.values(), limit)
        if key.startswith("ens"):
            _take(found, self._gene_ids.find(f"\n{key}"), limit)
        return found

    def _close(self, key: str) -> list[_Name]:
        """Symbols and common names that look like `key`, of each gene one."""
        near = {name.name.casefold(): name for name in self._typos.near(key)}
        found: dict[int, _Name] = {}
        _take(found, (near[name] for name in close_names(key, near, N_CLOSE)), N_CLOSE)
        return list(found.values())

    def _completion(self, name: _Name, hint: str = "") -> Completion:
        symbol = self._genes[name.row]
        note = hint
        if name.kind != "symbol":
            n_genes = self._n_genes_of.get(name.name.casefold(), 1)
            also = f", one of {n_genes} genes of this name" if n_genes > 1 else ""
            note = f"{hint} {name.name} -> {symbol}{also}".lstrip()
        return Completion(symbol, name.name, name.kind, note, symbol in self._measured)

    @cached_property
    def _symbols(self) -> _RankedNames:
        names = [_Name(gene, "symbol", row) for row, gene in enumerate(self._genes)]
        return _RankedNames(names)

    @cached_property
    def _common(self) -> list[_Name]:
        """What pathologists call the genes."""
        rows: dict[str, list[int]] = {}
        for row, gene in enumerate(self._genes):
            rows.setdefault(gene.casefold(), []).append(row)
        return [
            _Name(alias, "alias", row)
            for alias, symbol in COMMON_ALIASES.items()
            for row in rows.get(symbol.casefold(), ())
            if alias.casefold() not in rows
        ]

    @cached_property
    def _others(self) -> _RankedNames:
        """Other names but ids; a name that is another gene's symbol here means that gene, as for `GeneResolver`."""
        taken = {gene.casefold() for gene in self._genes} | OF_SEVERAL_GENES
        common = {(name.name.casefold(), name.row) for name in self._common}
        rest = {
            (key, name.row): name
            for name in reversed(list(self._of_reference("previous", "alias")))
            if (key := name.name.casefold()) not in taken and (key, name.row) not in common
        }
        return _RankedNames(self._common, rest.values())

    @cached_property
    def _gene_ids(self) -> _RankedNames:
        given = [_Name(i.split(".")[0], "ensembl", row) for row, i in enumerate(self._ids) if i]
        return _RankedNames(dict.fromkeys([*given, *self._of_reference("ensembl")]))

    @cached_property
    def _n_genes_of(self) -> dict[str, int]:
        """How many genes another name stands for, where they are several."""
        times = Counter(name.name.casefold() for name in self._others)
        return {name: n for name, n in times.items() if n > 1}

    @cached_property
    def _typos(self) -> _SimilarNames:
        return _SimilarNames(_RankedNames(self._symbols, self._common))

    @cached_property
    def _table(self) -> SpeciesTable:
        species = self._species or species_of(self._genes, self._ids if any(self._ids) else ())
        return GeneReference.load().table(species or "human")  # of several species, or of few genes

    @cached_property
    def _table_rows(self) -> array[int]:
        """Row of each gene in the reference, -1 where it is not there under another name than a gene here."""
        table, known = self._table, set(self._genes)
        rows = array("l")
        for gene, gene_id in zip(self._genes, self._ids, strict=True):
            match = table.match(gene, gene_id)
            # in one annotation, two names are two genes
            lost = match.symbol is None or (match.how not in _SURE and match.symbol in known)
            rows.append(-1 if lost else table.row_of[str(match.symbol)])
        return rows

    def _of_reference(self, *kinds: Kind) -> Iterator[_Name]:
        """Read what else the reference calls each gene."""
        table = self._table
        for row, (gene, at) in enumerate(zip(self._genes, self._table_rows, strict=True)):
            if at < 0:
                continue
            names: dict[Kind, tuple[str, ...]] = {
                "previous": table.previous(at),
                "alias": (table.symbols[at], *table.aliases(at)),
                "ensembl": table.ids(at),
            }
            for kind in kinds:
                yield from (_Name(name, kind, row) for name in names[kind] if name != gene)


class _RankedNames:
    """Names, best first, as one text: `str.find` meets the best first, and no sorting is left to do.

    Short names come before long ones, within each of the groups given. As texts and arrays 100,000 names are 4 MB; as
    objects they are 15.
    """

    def __init__(self, *groups: Iterable[_Name]) -> None:
        names = [name for group in groups for name in sorted(group, key=_shortest_first)]
        keys = [name.name.casefold() for name in names]
        self._text = "\n" + "".join(f"{key}\n" for key in keys)
        self._starts = _starts(keys)  # of the line end before
        self._written = "\n".join(name.name for name in names)
        self._written_starts = _starts(name.name for name in names)
        self._kinds = bytes(_KINDS.index(name.kind) for name in names)
        self._rows = array("l", [name.row for name in names])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int) -> _Name:
        if at >= len(self):
            raise IndexError(at)
        first, after = self._written_starts[at : at + 2]
        return _Name(self._written[first : after - 1], _KINDS[self._kinds[at]], self._rows[at])

    def __iter__(self) -> Iterator[_Name]:
        return (self[at] for at in range(len(self)))

    def find(self, part: str) -> Iterator[_Name]:
        """Names that hold `part`; a line end in it stands for the beginning or the end of a name."""
        at = self._text.find(part)
        while at >= 0:
            line = bisect_right(self._starts, at) - 1
            yield self[line]
            at = self._text.find(part, self._starts[line + 1])

    def beginning(self, key: str) -> Iterable[_Name]:
        """Names that begin with `key`; after a number those where it goes on come last: CD8A, then CD80."""
        found = self.find(f"\n{key}")
        if not key[-1].isdigit():
            return found
        return sorted(found, key=lambda name: name.name[len(key) : len(key) + 1].isdigit())


class _SimilarNames:
    """Names by their pairs of letters: the few that can be a mistyped one are found without reading all.

    Shared pairs as in Dice's coefficient of two strings (Dice, Ecology 26:297, 1945).
    """

    def __init__(self, names: _RankedNames) -> None:
        self._names = names
        rows: dict[str, list[int]] = {}
        sizes = []
        for row, name in enumerate(names):
            pairs = _pairs(name.name.casefold())
            sizes.append(len(pairs))
            for pair in pairs:
                rows.setdefault(pair, []).append(row)
        self._rows = {pair: np.asarray(at, np.int32) for pair, at in rows.items()}
        self._sizes = np.asarray(sizes, np.int64)

    def near(self, key: str) -> list[_Name]:
        """Find the names that share most pairs of letters with `key`, most similar first."""
        pairs = _pairs(key)
        rows = [self._rows[pair] for pair in sorted(pairs) if pair in self._rows]
        if not rows:
            return []
        shared = np.bincount(np.concatenate(rows), minlength=len(self._names))
        dice = 2 * shared / (self._sizes + len(pairs))
        best = np.argsort(-dice, kind="stable")[:_N_NEAR]
        return [self._names[row] for row in best if shared[row]]


def _take(found: dict[int, _Name], names: Iterable[_Name], limit: int) -> None:
    """Add names of further genes until there are `limit`."""
    if len(found) >= limit:
        return
    for name in names:
        found.setdefault(name.row, name)
        if len(found) >= limit:
            return


def _starts(keys: Iterable[str]) -> array[int]:
    return array("l", accumulate((len(key) + 1 for key in keys), initial=0))


def _pairs(key: str) -> set[str]:
    marked = f"\n{key}\n"
    return {marked[at : at + 2] for at in range(len(marked) - 1)}


def _shortest_first(name: _Name) -> tuple[int, str, str, int]:
    return len(name.name), name.name.casefold(), name.name, name.row
