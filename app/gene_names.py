"""Which genes can be predicted, shown as examples or asked for, and what the names that people type mean."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stamp_index.genes import GeneCompleter, GeneResolver

if TYPE_CHECKING:
    from app.stores import Opened


@dataclass(frozen=True)
class GeneNames:
    """What is known of names in one version of a store.

    Attributes
    ----------
    askable : GeneResolver
        Of the genes that a query may name: the store's, and the encoder's besides.
    stored, encoded : GeneResolver
        Of the store's genes, and of the encoder's.
    completer : GeneCompleter
        Of the askable genes.
    """

    askable: GeneResolver
    stored: GeneResolver
    encoded: GeneResolver
    completer: GeneCompleter


_made: dict[tuple[str, int, str], GeneNames] = {}
_making = threading.Lock()


def names(opened: Opened) -> GeneNames:
    """What is known of names; made once for a version of the store, of which the last asked for is kept."""
    with _making:
        held = _made.get(opened.key)
        if held is None:
            genes, gene_ids = askable_genes(opened)
            held = GeneNames(
                GeneResolver(genes, gene_ids),
                GeneResolver(opened.store.genes, opened.store.gene_ids),
                GeneResolver(opened.searcher.encoder.panel.genes),
                GeneCompleter(genes, gene_ids, measured=opened.measured),
            )
            _made.clear()
            _made[opened.key] = held
    return held


def completer(opened: Opened) -> GeneCompleter:
    """Completer of the genes that a query may name."""
    return names(opened).completer


def warm(opened: Opened) -> None:
    """Gather all names, of genes and of what a mistyped one may be, before anybody types: a second at 36,000 genes."""
    if opened.searcher is not None:
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
    stored = GeneResolver(genes, ids)
    others = [gene for gene in opened.searcher.encoder.panel.genes if not stored.knows(gene)]
    return (*genes, *others), (*ids, *[""] * len(others))
