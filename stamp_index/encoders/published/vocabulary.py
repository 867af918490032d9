"""STAMP's gene vocabulary: from any table of counts to the published rank tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.errors import MissingGenesError
from stamp_index.genes import MASK, PAD, TOKEN_OFFSET, GenePanel, compat_means, rank_tokens
from stamp_index.genes.names import refuse_duplicates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# Of a slide's genes that the vocabulary must know: a panel of 300 human genes has nearly all of its own
# there, a mouse's symbols are spelt otherwise and have next to none.
_LEAST_SHARE: Final = 0.05


@dataclass(frozen=True)
class Vocabulary:
    """STAMP's genes under Ensembl ids, and the names that mean them.

    Attributes
    ----------
    panel : GenePanel
        One name for each column: its first symbol, or the id itself where no symbol means it. The means are
        the released ones before rounding, 1 where the corpus never shows the gene.
    gene_ids : tuple of str, length g
        Ensembl ids of the columns.
    synonyms : mapping of str to str
        Further symbols of genes of the panel.
    """

    panel: GenePanel
    gene_ids: tuple[str, ...]
    synonyms: Mapping[str, str]

    @classmethod
    def from_tables(
        cls,
        gene_ids: Sequence[str],
        means: Sequence[float] | NDArray[np.float64],
        symbols: Mapping[str, str],
    ) -> Vocabulary:
        """Make a vocabulary of ordered ids (g,), their means (g,), and the id of each symbol.

        Raises
        ------
        DuplicateGenesError
            If an id stands twice.
        ValueError
            If there are not as many means as ids, or one is no number.
        """
        refuse_duplicates(gene_ids, "the vocabulary")
        name_of = dict.fromkeys(gene_ids, "")
        synonyms = {}
        for symbol, gene_id in symbols.items():
            if name_of.get(gene_id) == "":
                name_of[gene_id] = symbol
            elif gene_id in name_of:
                synonyms[symbol] = name_of[gene_id]
        genes = tuple(name or gene_id for gene_id, name in name_of.items())
        counted = np.asarray(means, dtype=np.float64)
        panel = GenePanel(genes, tuple(np.where(counted == 0, 1.0, counted)))
        return cls(panel, tuple(gene_ids), synonyms)

    def settings(self) -> dict[str, Any]:
        """Plain values for a manifest, beside the panel."""
        return {"gene_ids": list(self.gene_ids), "synonyms": dict(self.synonyms)}

    @classmethod
    def from_settings(cls, panel: GenePanel, settings: Mapping[str, Any]) -> Vocabulary:
        """Inverse of `settings`.

        Raises
        ------
        ValueError
            If there is not one id for each gene.
        """
        if len(settings["gene_ids"]) != len(panel):
            msg = f"The vocabulary has {len(settings['gene_ids'])} gene_ids for {len(panel)} genes."
            raise ValueError(msg)
        return cls(panel, tuple(settings["gene_ids"]), dict(settings["synonyms"]))

    @cached_property
    def _column_of(self) -> dict[str, int]:
        own = self.panel.column_of
        by_id = {gene_id: column for column, gene_id in enumerate(self.gene_ids)}
        return by_id | {name: own[gene] for name, gene in self.synonyms.items()} | own

    def column(self, gene: str) -> int:
        """Column of a symbol or an Ensembl id, with or without version; -1 if it is not known."""
        found = self._column_of.get(gene)
        if found is None and gene.upper().startswith("ENS"):
            found = self._column_of.get(gene.partition(".")[0].upper())
        return -1 if found is None else found

    def align(self, counts: csr_matrix, genes: Sequence[str]) -> csr_matrix:
        """Bring counts (n, k) with columns `genes` into the vocabulary's columns: (n, g), float32.

        Genes of one id are summed; the released code lost all of them (recipes 1.8 P). What the vocabulary
        does not know is dropped.

        Raises
        ------
        MissingGenesError
            If it knows less than one in twenty of the genes.
        DuplicateGenesError
            If a name stands twice.
        """
        refuse_duplicates(genes, "the columns of counts")
        counts = csr_matrix(counts)
        if counts.shape[1] != len(genes):
            msg = f"counts has {counts.shape[1]} columns, but {len(genes)} gene names were given."
            raise ValueError(msg)
        target = np.array([self.column(gene) for gene in genes], dtype=np.int64)  # (k,)
        source = np.flatnonzero(target >= 0)
        if len(source) <= _LEAST_SHARE * len(genes):
            msg = (
                f"The vocabulary of {len(self.panel)} {self.panel.species} genes knows {len(source)} of the "
                f"{len(genes)} genes measured ({', '.join(list(genes)[:5])}, ...). Give {self.panel.species} "
                "symbols or Ensembl ids: check the species."
            )
            raise MissingGenesError(msg)
        shape = (len(genes), len(self.panel))
        ones = np.ones(len(source), dtype=np.float32)
        moved = counts.astype(np.float32) @ csr_matrix((ones, (source, target[source])), shape)
        aligned = csr_matrix(moved)
        aligned.sort_indices()
        return aligned

    def tokens(
        self, counts: csr_matrix, genes: Sequence[str], context: int, *, compat: bool
    ) -> NDArray[np.int32]:
        """Rank tokens (n, context) of counts (n, k) with columns `genes`.

        Parameters
        ----------
        counts : csr_matrix of shape (n, k)
            Raw counts.
        genes : sequence of str, length k
            Symbols or Ensembl ids.
        context : int
            Number of tokens.
        compat : bool
            Round the means as the released code does (recipes 1.8 C).
        """
        means = self.panel.means
        return rank_tokens(
            self.align(counts, genes), compat_means(means) if compat else means, context
        )

    def named_tokens(self, genes: Sequence[str], context: int) -> NDArray[np.int32]:
        """Tokens (1, context) of genes in the order given.

        Raises
        ------
        MissingGenesError
            If one is not in the vocabulary.
        """
        columns = [self.column(gene) for gene in genes]
        unknown = [gene for gene, column in zip(genes, columns, strict=True) if column < 0]
        if unknown:
            msg = (
                f"{', '.join(unknown[:5])} cannot be asked for: not among the vocabulary's "
                f"{len(self.panel)} {self.panel.species} genes. Ask for other genes."
            )
            raise MissingGenesError(msg)
        return _padded([column + TOKEN_OFFSET for column in columns], context)


def masked_tokens(n: int, context: int) -> NDArray[np.int32]:
    """Tokens (1, context) of `n` genes that are not told."""
    return _padded([MASK] * n, context)


def _padded(ids: Sequence[int], context: int) -> NDArray[np.int32]:
    tokens = np.full((1, context), PAD, dtype=np.int32)
    tokens[0, : len(ids[:context])] = ids[:context]
    return tokens
