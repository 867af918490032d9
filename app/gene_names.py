"""Which genes can be predicted, shown as examples or asked for, and what the names that people type mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.errors import MissingGenesError, QueryError
from stamp_index.genes import GeneCompleter, GeneResolver, close_names
from stamp_index.search.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.stores import Opened

_resolvers: Kept[GeneResolver] = Kept(3)  # those of one version
_completers: Kept[GeneCompleter] = Kept(1)


class GeneNames:
    """What is known of names in one version of a store; each part is made when it is first asked for.

    Parameters
    ----------
    opened : Opened
        The store.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    @property
    def stored(self) -> GeneResolver:
        """Of the store's genes; needs no encoder."""
        store = self._opened.store
        return self._kept("stored", lambda: GeneResolver(store.genes, store.gene_ids))

    @property
    def encoded(self) -> GeneResolver:
        """Of the encoder's genes."""
        return self._kept(
            "encoded", lambda: GeneResolver(self._opened.searcher.encoder.panel.genes)
        )

    @property
    def askable(self) -> GeneResolver:
        """Of the genes that a query may name: the store's, and the encoder's besides."""
        return self._kept("askable", lambda: GeneResolver(*askable_genes(self._opened)))

    @property
    def completer(self) -> GeneCompleter:
        """Of the askable genes."""
        opened = self._opened
        return _completers.get(
            opened.key, lambda: GeneCompleter(*askable_genes(opened), measured=opened.measured)
        )

    def _kept(self, name: str, make: Callable[[], GeneResolver]) -> GeneResolver:
        return _resolvers.get((*self._opened.key, name), make)


def names(opened: Opened) -> GeneNames:
    """What is known of names; shared by all who look at this version of the store."""
    return GeneNames(opened)


def stored_gene(opened: Opened, typed: str) -> str:
    """Symbol of the store's gene that a typed name means.

    Raises
    ------
    QueryError
        If it means several genes, or none that a slide measured; close names are offered.
    """
    try:
        found = names(opened).stored.resolve([typed])
    except MissingGenesError:
        near = ", ".join(close_names(typed, opened.store.genes))
        hint = f"Did you mean {near}?" if near else "No gene of this store has a name like it."
        msg = f"{typed} was measured on no slide of this store. {hint}"
        raise QueryError(msg) from None
    return found[typed]


def completer(opened: Opened) -> GeneCompleter:
    """Completer of the genes that a query may name."""
    return names(opened).completer


def warm(opened: Opened) -> None:
    """Gather all names, of genes and of what a mistyped one may be, before anybody types: a second at 36,000 genes."""
    if opened.store.n_spots:
        completer(opened).complete("a")
        completer(opened).complete("zzzzqx")


def predictable_genes(opened: Opened) -> tuple[str, ...]:
    """Genes that can be predicted: those that both the encoder and the store know, or the store's.

    None in a store where nothing was measured.
    """
    panel = set(opened.searcher.encoder.panel.genes)
    both = tuple(gene for gene in opened.store.genes if gene in panel)
    return both or opened.store.genes


def example_genes(opened: Opened) -> tuple[str, ...]:
    """Genes to make example queries of: measured ones that the encoder knows, or all it knows."""
    panel = opened.searcher.encoder.panel.genes
    known = set(panel)
    return tuple(gene for gene in opened.store.genes if gene in known) or tuple(panel)


def askable_genes(opened: Opened) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Genes that a query may name, and their Ensembl ids: the store's, and the encoder's besides.

    As the searcher has them: a gene of the store that the encoder knows by an older name stands there once.
    """
    genes, ids = opened.store.genes, opened.store.gene_ids
    stored = names(opened).stored
    others = [gene for gene in opened.searcher.encoder.panel.genes if not stored.knows(gene)]
    return (*genes, *others), (*ids, *[""] * len(others))
