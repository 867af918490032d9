"""Counts read spot by spot: all genes of some spots, or some genes of few spots of many slides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.store.reading import Tables


def counts_by_spot(
    tables: Tables, genes: Sequence[str], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Raw counts (m, g) read spot by spot, which is quicker for few spots of many slides."""
    asked, column_of = np.unique(np.array(genes, object), return_inverse=True)
    places = tables.gene_places(asked.tolist())  # (lists, a)
    list_of_row = np.array(tables.gene_list_numbers)[tables.spots.stretch_of(rows)]
    values, row_of_value, place_of_value = _stored_counts(tables, rows)
    # Column of every place of every gene list, so that a value is looked at once however many genes are asked for.
    column_at = np.full((len(places), max(map(len, tables.gene_lists), default=0)), -1)
    for number, held in enumerate(places):
        column_at[number, held[held >= 0]] = np.flatnonzero(held >= 0)
    column = column_at[list_of_row[row_of_value], place_of_value]
    out = np.where(places[list_of_row] < 0, np.nan, 0).astype(np.float32)
    out[row_of_value[column >= 0], column[column >= 0]] = values[column >= 0]
    return out[:, column_of]


def sparse_counts(tables: Tables, rows: NDArray[np.int64]) -> csr_matrix:
    """Raw counts of all genes read spot by spot, (m, genes of any slide)."""
    from scipy.sparse import csr_matrix

    values, row_of_value, columns = _stored_counts(tables, rows)
    union = pd.Index(list(tables.gene_names), dtype="str")
    slide_of_value = tables.spots.stretch_of(rows)[row_of_value]
    for slide in np.unique(slide_of_value).tolist():
        here = slide_of_value == slide
        columns[here] = union.get_indexer(tables.gene_lists[slide])[columns[here]]
    indptr = np.searchsorted(row_of_value, np.arange(len(rows) + 1))
    return csr_matrix((values, columns, indptr), shape=(len(rows), len(union)))


def _stored_counts(
    tables: Tables, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Every count above 0 of some spots: counts, places in `rows`, places in the slide's gene list."""
    table = tables.take(["gene_indices", "gene_counts"], rows).combine_chunks()
    lists = table.column("gene_indices").combine_chunks()
    values = table.column("gene_counts").combine_chunks().flatten().to_numpy()
    row_of_value = np.repeat(np.arange(len(rows)), lists.value_lengths().to_numpy())
    return values, row_of_value, lists.flatten().to_numpy().astype(np.int64)
