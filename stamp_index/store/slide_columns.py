"""Columns of a store read slide by slide: what filters ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.compute as pc

from stamp_index.keys import Nums
from stamp_index.store.labels import read_labels

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.genes import GeneResolver
    from stamp_index.store.reading import Tables


class SlideColumns:
    """Columns of the spots of some slides; a slide is named by its place in `slides`.

    What is asked of several slides comes as one array: the spots of the first slide in the order of their row
    ids, then those of the second, and so on.

    Parameters
    ----------
    tables : Tables
        One version of a store.
    resolver : GeneResolver
        Knows the store's genes by their other names.
    """

    def __init__(self, tables: Tables, resolver: GeneResolver) -> None:
        self._tables = tables
        self._resolver = resolver

    @property
    def slides(self) -> pd.DataFrame:
        """The slides table; not to be changed."""
        return self._tables.slides

    @property
    def n_rows(self) -> int:
        """Row ids given so far."""
        return self._tables.manifest.n_rows

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every label of any slide."""
        return self._tables.label_names

    def label_texts(self, name: str) -> tuple[frozenset[str], bool]:
        """Every text that a label says anywhere, and whether it is a number somewhere."""
        table = self._tables.labels(pc.field("name") == name, ["categories"])
        categories = table.column("categories")
        return frozenset(pc.list_flatten(categories).to_pylist()), categories.null_count > 0

    def resolve_gene(self, name: str) -> str:
        """Find the store's symbol of a gene.

        Raises
        ------
        MissingGenesError
            If no slide measured it.
        QueryError
            If the name means several genes.
        """
        return self._resolver.resolve([name])[name]

    def numbers(self, name: str, slides: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a number column, NaN where missing."""
        values = self._tables.column_of(name, slides).to_numpy()
        return np.asarray(values, np.float64)

    def text(self, name: str, slides: NDArray[np.int64]) -> NDArray[np.object_]:
        """Return a text column."""
        return np.asarray(self._tables.column_of(name, slides).to_pandas(), dtype=object)

    def genes(
        self, gene: str, kind: Literal["expr", "count"], slides: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return log1p of counts per 10,000, or raw counts; NaN where a slide did not measure the gene."""
        counts = self._tables.gene_counts(gene, slides).astype(np.float64)
        if kind == "count":
            return counts
        total = self.numbers("n_counts", slides)
        expression: NDArray[np.float64] = np.log1p(
            counts * (Nums.COUNTS_PER_SPOT / np.where(total > 0, total, 1.0))
        )
        return expression

    def label(self, name: str, slides: NDArray[np.int64]) -> NDArray[np.object_]:
        """Values of a label, None where a spot has none."""
        ids = self.slides["slide_id"].iloc[slides].tolist()
        found = read_labels(self._tables, name, ids)
        none = [np.empty(0, object)]
        parts = [
            np.full(n, None, object) if slide_id not in found else _with_none(found[slide_id])
            for slide_id, n in zip(ids, self.slides["n_spots"].iloc[slides], strict=True)
        ]
        return np.concatenate([*none, *parts])


def _with_none(values: pd.Series[Any]) -> NDArray[np.object_]:
    out = values.to_numpy(dtype=object)
    out[values.isna().to_numpy()] = None
    return out
