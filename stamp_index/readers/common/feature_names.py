"""Columns of an AnnData matrix: which are genes, and their symbols and Ensembl ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.genes.reference.table import without_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_ID_COLUMNS: Final = ("gene_ids", "gene_id", "ensembl_id", "feature_id", "Accession")
_SYMBOL_COLUMNS: Final = (
    *("gene_symbol", "gene_symbols", "gene_name", "gene_names", "feature_name", "symbol", "SYMBOL"),
)
_KINDS: Final = "feature_types"
# What panels measure besides genes (10x Genomics, Xenium Onboard Analysis: feature types).
_NOT_GENES: Final = (
    "NegControl",
    "BLANK_",
    "antisense_",
    "UnassignedCodeword",
    "DeprecatedCodeword",
    "Intergenic_Region",
)


@dataclass(frozen=True)
class Features:
    """Genes among a matrix' columns.

    Attributes
    ----------
    kept : ndarray of shape (g,), int64
        Columns that are genes.
    genes : tuple of str, length g
        Symbols where there are any, else ids; they may repeat.
    gene_ids : tuple of str, length g, or empty
        Ensembl ids without version, where every gene has one.
    notes : tuple of str
        What was left out, and where names are from.
    """

    kept: NDArray[np.int64]
    genes: tuple[str, ...]
    gene_ids: tuple[str, ...]
    notes: tuple[str, ...]

    def of(self, counts: csr_matrix) -> csr_matrix:
        """Return the genes' columns of counts (n, f)."""
        return counts if len(self.kept) == counts.shape[1] else csr_matrix(counts[:, self.kept])


def name_features(
    index: Sequence[str], columns: Sequence[str], column_of: Callable[[str], Sequence[Any]]
) -> Features:
    """Tell genes from other features, and symbols from Ensembl ids.

    Parameters
    ----------
    index : sequence of str, length f
        Names of the features.
    columns : sequence of str
        Further columns of ``var``.
    column_of : callable
        Reads one of them: a sequence of length f.

    Notes
    -----
    The index holds symbols or ids, and a column perhaps the other. Features are no genes by ``feature_types``, or
    by their names where there are no types.
    """
    kinds = [str(kind) for kind in column_of(_KINDS)] if _KINDS in columns else []
    is_gene = [kind == "Gene Expression" for kind in kinds] or [True] * len(index)
    kept = [i for i, name in enumerate(index) if is_gene[i] and not name.startswith(_NOT_GENES)]
    notes = []
    if len(kept) < len(index):
        notes.append(f"{len(index) - len(kept)} features that are not genes were left out.")

    def of_genes(column: str) -> list[str]:
        values = column_of(column)
        return ["" if _is_missing(values[i]) else str(values[i]) for i in kept]

    names = [index[i] for i in kept]
    genes, ids = tuple(names), _all_ids(names)
    if ids:
        genes = ids
        for column in (name for name in _SYMBOL_COLUMNS if name in columns):
            symbols = of_genes(column)
            if all(symbols):
                genes = tuple(symbols)
                notes.append(f"Genes: symbols of the column {column}; the index holds Ensembl ids.")
                break
    else:
        found = (_all_ids(of_genes(name)) for name in _ID_COLUMNS if name in columns)
        ids = next((one for one in found if one), ())
    return Features(np.array(kept, dtype=np.int64), genes, ids, tuple(notes))


def _all_ids(names: Sequence[str]) -> tuple[str, ...]:
    """Return the Ensembl ids that names are, without version; nothing unless all of them are."""
    ids = []
    for name in names:
        found = without_version(name)
        if found is None:
            return ()
        ids.append(found)
    return tuple(ids)


def _is_missing(value: object) -> bool:
    return value is None or value != value
