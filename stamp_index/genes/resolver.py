"""From the names people type to the gene symbols that a panel or store knows."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from stamp_index.errors import MissingGenesError, QueryError
from stamp_index.genes.aliases import COMMON_ALIASES, OF_SEVERAL_GENES
from stamp_index.genes.names import close_names
from stamp_index.genes.reference import GeneReference, species_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_ENSEMBL: Final = re.compile(r"(ENS[A-Z]*G\d{11})(?:\.\d+)?", re.IGNORECASE)


class GeneResolver:
    """Finds the symbol that a name means: exact, by Ensembl id, in any case, or by alias.

    Parameters
    ----------
    genes : sequence of str
        Known symbols.
    gene_ids : sequence of str
        Ensembl ids of `genes`, with or without version, in the same order; or empty.
    aliases : mapping of str to str or sequence of str, optional
        Other names of genes; a name with several meanings has a sequence. By default
        `COMMON_ALIASES` (HER2, Ki-67, CD20, ...), then the previous symbols, symbols and aliases of the gene
        reference (`GeneReference`), which is read when a name is known nowhere else; ``{}`` for none. A known
        symbol comes before an alias.

    Raises
    ------
    ValueError
        If `gene_ids` has another length than `genes`.
    """

    def __init__(
        self,
        genes: Sequence[str],
        gene_ids: Sequence[str] = (),
        aliases: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        if gene_ids and len(gene_ids) != len(genes):
            msg = f"{len(gene_ids)} gene ids were given for {len(genes)} genes."
            raise ValueError(msg)
        self._known = dict.fromkeys(genes)
        self._asks_reference = aliases is None
        self._given = (genes, gene_ids)
        self._aliases: dict[str, list[str]] = {}
        for alias, meant in (COMMON_ALIASES if aliases is None else aliases).items():
            names = self._aliases.setdefault(alias.casefold(), [])
            targets = [meant] if isinstance(meant, str) else meant
            names.extend(name for name in targets if name not in names)

    def resolve(
        self, names: Iterable[str], *, on_missing: Literal["raise", "ignore"] = "raise"
    ) -> dict[str, str]:
        """Find the symbol of each name.

        Parameters
        ----------
        names : iterable of str
            Symbols in any case, Ensembl ids with or without version, or aliases.
        on_missing : {"raise", "ignore"}
            ``"ignore"`` leaves unknown names out of the answer.

        Returns
        -------
        dict of str to str
            Symbol of each known name, in the order of `names`.

        Raises
        ------
        MissingGenesError
            If names are unknown; all of them are named, with close names.
        QueryError
            If a name means several genes; they are listed.
        """
        names = list(dict.fromkeys(names))
        found = {name: symbol for name in names if (symbol := self._find(name)) is not None}
        missing = [name for name in names if name not in found]
        if missing and on_missing == "raise":
            raise MissingGenesError(self._missing_message(missing, len(names)))
        return found

    def knows(self, name: str) -> bool:
        """Say whether a name means any of the known genes, or several of them."""
        try:
            return self._find(name) is not None
        except QueryError:
            return True

    @cached_property
    def _folded(self) -> dict[str, tuple[str, ...]]:
        """Known symbols without regard to case."""
        return _by_key((gene.casefold(), gene) for gene in self._known)

    @cached_property
    def _by_id(self) -> dict[str, tuple[str, ...]]:
        """Known symbols of each Ensembl id; genes whose id is not known would share one entry and are left out."""
        genes, gene_ids = self._given
        pairs = zip(gene_ids, genes, strict=False)
        return _by_key((_without_version(gene_id), gene) for gene_id, gene in pairs if gene_id)

    def _find(self, name: str) -> str | None:
        """Return the symbol of a name, or None where nothing is known by it."""
        if name in self._known:
            return name
        key = name.strip().casefold()
        by_id = self._by_id.get(_without_version(name.strip())) if _ENSEMBL.match(key) else None
        aliases = self._aliases.get(key)
        candidates: Sequence[str] = by_id or self._folded.get(key) or self._meanings(aliases or [])
        if not candidates and self._asks_reference:
            candidates = self._by_reference(name.strip())
        if len(candidates) > 1:
            msg = (
                f"{name} means several genes: {', '.join(candidates)}. "
                "Ask for one of them by its symbol."
            )
            raise QueryError(msg)
        return candidates[0] if candidates else None

    def _meanings(self, targets: Sequence[str]) -> list[str]:
        """Return an alias's known meanings; all of them where it has several, as none is surer."""
        known = [symbol for t in targets for symbol in self._spelt(t)]
        return list(dict.fromkeys(targets)) if known and len(targets) > 1 else known

    def _spelt(self, target: str) -> Sequence[str]:
        """Return a symbol as it is written, if known so, else in any case: ERBB2 and not Erbb2 where both are."""
        return [target] if target in self._known else self._folded.get(target.casefold(), ())

    @cached_property
    def _species(self) -> str:
        found = species_of(*self._given)
        return (
            found if found in ("human", "mouse") else "human"
        )  # of several species, or of few genes

    def _by_reference(self, name: str) -> list[str]:
        """Known symbols of the gene that the reference knows by a name; all its meanings where it has several."""
        if name.casefold() in OF_SEVERAL_GENES:
            return []
        table = GeneReference.load().table(self._species)
        match = table.match(name)
        meant = [match.symbol] if match.symbol is not None else list(match.candidates)
        found: dict[str, None] = {}
        for symbol in meant:
            for other in table.names(symbol):
                if (
                    table.match(other).symbol == symbol
                ):  # not a name that belongs to another gene rather
                    found.update(dict.fromkeys(self._by_id.get(other) or self._spelt(other)))
        return meant if found and len(meant) > 1 else list(found)

    def _missing_message(self, missing: Sequence[str], n_asked: int) -> str:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        near = list(
            dict.fromkeys(c for name in missing[:10] for c in close_names(name, self._known))
        )
        hint = f"Close names: {', '.join(near[:10])}. " if near else "No known name is close. "
        return (
            f"{len(missing)} of {n_asked} genes are not known here ({shown}). "
            f"{hint}Correct or drop them, or ignore what is missing."
        )


def _by_key(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, gene in pairs:
        if gene not in (held := found.get(key, ())):
            found[key] = (*held, gene)
    return found


def _without_version(gene_id: str) -> str:
    match = _ENSEMBL.fullmatch(gene_id)
    return match[1].upper() if match else gene_id.upper()
