"""Ensembl gene ids in tables of counts: which names are ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.genes.reference.table import without_version

if TYPE_CHECKING:
    from collections.abc import Sequence


def name_genes(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell symbols from ids.

    Parameters
    ----------
    names : sequence of str, length g
        Names of the columns of a count table.

    Returns
    -------
    genes : tuple of str, length g
        Ids without version; other names as they are.
    gene_ids : tuple of str, length g, or empty
        The same where every name is an id, else empty.
    """
    ids = [without_version(name) for name in names]
    genes = tuple(found or name for found, name in zip(ids, names, strict=True))
    return genes, genes if all(ids) else ()
