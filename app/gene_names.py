"""Which genes can be predicted, shown as examples or asked for, and their names as they are typed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stamp_index.genes.completion import GeneCompleter

if TYPE_CHECKING:
    from app.stores import Opened

_made: dict[tuple[str, int, str], GeneCompleter] = {}
_making = threading.Lock()


def completer(opened: Opened) -> GeneCompleter:
    """Completer of the genes that a query may name; made once for a version of the store."""
    with _making:
        held = _made.get(opened.key)
        if held is None:
            genes, gene_ids = askable_genes(opened)
            held = GeneCompleter(genes, gene_ids, measured=opened.measured)
            _made.clear()
            _made[opened.key] = held
    return held


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
    """Genes that a query may name, and their Ensembl ids: the store's, and the encoder's besides."""
    others = [gene for gene in opened.searcher.encoder.panel.genes if gene not in opened.measured]
    return (*opened.store.genes, *others), (*opened.store.gene_ids, *[""] * len(others))
