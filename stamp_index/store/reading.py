"""Reading the tables of one store version into numpy and pandas."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from stamp_index.errors import MissingGenesError, StoreError
from stamp_index.store.schema import (
    EXPRESSION,
    GENE_IDS,
    GENES,
    OVERVIEW,
    SLIDES,
    SPOTS,
    TABLES,
    slides_schema,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import lance
    import pyarrow as pa
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.store.manifest import Manifest

Rows = slice | None  # a contiguous stretch of a table; None is all of it


def table_path(store: Path, table: str) -> str:
    """Where a Lance table lies."""
    return str(store / f"{table}.lance")


def open_table(store: Path, table: str, version: int) -> lance.LanceDataset:
    """Open one Lance table at one version.

    Raises
    ------
    StoreError
        If the table or the version is not there.
    """
    import lance

    path = table_path(store, table)
    try:
        return lance.dataset(path, version=version)
    except (ValueError, OSError) as exc:
        msg = (
            f"Table '{table}' of the store at {store} cannot be opened at its version {version}: "
            f"{exc}. The store is damaged; restore it from a copy or ingest the slides again."
        )
        raise StoreError(msg) from exc


class Tables:
    """The tables at one version. Never changes, so what was read once is kept."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._path = path
        self._tables = {name: open_table(path, name, manifest.tables[name]) for name in TABLES}

    def require_slide_columns(self) -> None:
        """Refuse a slides table with other columns than this release writes.

        Raises
        ------
        StoreError
            Naming the columns that differ.
        """
        differing = set(slides_schema().names) ^ set(self._tables[SLIDES].schema.names)
        if differing:
            msg = (
                f"The slides table of the store at {self._path} differs from what this release "
                f"writes in: {', '.join(sorted(differing))}. Make the store again."
            )
            raise StoreError(msg)

    @cached_property
    def slides(self) -> pd.DataFrame:
        """Slides table without gene lists and pictures."""
        table = self._tables[SLIDES]
        large = {GENES, GENE_IDS, OVERVIEW}
        columns = [name for name in table.schema.names if name not in large]
        frame: pd.DataFrame = table.to_table(columns=columns).to_pandas()
        frame["notes"] = [tuple(notes) for notes in frame["notes"]]
        return frame

    @cached_property
    def gene_lists(self) -> list[pd.Index[str]]:
        """Genes of every slide, in the order of its rows in the expression table."""
        column = self._tables[SLIDES].to_table(columns=[GENES]).column(GENES)
        return [pd.Index(genes.as_py(), dtype="str") for genes in column]

    @cached_property
    def gene_names(self) -> dict[str, str]:
        """Every gene of any slide, in order of first appearance, with its Ensembl id or ""."""
        table = self._tables[SLIDES].to_table(columns=[GENES, GENE_IDS])
        names: dict[str, str] = {}
        for genes, ids in zip(table.column(GENES), table.column(GENE_IDS), strict=True):
            symbols = genes.as_py()
            for symbol, gene_id in zip(symbols, ids.as_py() or [""] * len(symbols), strict=True):
                names[symbol] = names.get(symbol) or gene_id
        return names

    @cached_property
    def n_counts(self) -> NDArray[np.float64]:
        """Total counts of every spot, (n,)."""
        return self.column("n_counts")

    def column(self, name: str, rows: Rows = None) -> NDArray[Any]:
        """One plain column of the spots table as an array."""
        values: NDArray[Any] = self.scan([name], rows).column(name).to_numpy()
        return values

    def scan(self, columns: Sequence[str], rows: Rows = None) -> pa.Table:
        """Columns of the spots table as an Arrow table."""
        start, n = self._bounds(rows)
        return self._tables[SPOTS].to_table(columns=list(columns), offset=start, limit=n)

    def _bounds(self, rows: Rows) -> tuple[int, int]:
        """First row of a stretch, and how many rows it has."""
        start, stop, step = (rows or slice(None)).indices(self.manifest.n_spots)
        if step != 1:
            msg = f"A stretch of rows has step 1, not {step}. Read it whole and take every nth row."
            raise ValueError(msg)
        return start, max(stop - start, 0)

    def take(self, columns: Sequence[str], rows: NDArray[np.int64]) -> pa.Table:
        """Rows of the spots table in the order asked for, as an Arrow table."""
        return self._tables[SPOTS].take(rows.tolist(), columns=list(columns))

    def vectors(self, name: str, dim: int, rows: Rows) -> NDArray[np.float16]:
        """Vectors (m, d) of a stretch of rows, zero where missing."""
        start, n = self._bounds(rows)
        vectors = np.zeros((n, dim), np.float16)
        at = 0
        for batch in self._tables[SPOTS].to_batches(columns=[name], offset=start, limit=n):
            column = batch.column(0)
            here = column.is_valid().to_numpy(zero_copy_only=False)
            # flatten() leaves null rows out, whatever lies in their memory
            part = vectors[at : at + len(column)]
            part[here] = column.flatten().to_numpy().reshape(-1, dim)
            at += len(column)
        return vectors

    def blobs(self, name: str, rows: NDArray[np.int64]) -> list[bytes | None]:
        """Contents of a blob column in the order asked for."""
        if len(rows) == 0:
            return []
        unique, inverse = np.unique(rows, return_inverse=True)
        read = self._tables[SPOTS].read_blobs(name, indices=unique.tolist(), preserve_order=True)
        found = [content for _, content in read]
        return [found[i] for i in inverse]

    def overview(self, slide_row: int) -> bytes | None:
        """Picture of a whole slide."""
        taken = self._tables[SLIDES].take([slide_row], columns=[OVERVIEW])
        picture: bytes | None = taken.column(OVERVIEW)[0].as_py()
        return picture

    def counts(self, genes: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Raw counts (m, g) read gene-major; NaN where a slide did not measure the gene."""
        out = np.full((len(rows), len(genes)), np.nan, np.float32)
        wanted = self._wanted(genes, rows)
        if not wanted:
            return out
        at = [expression_row for _, _, expression_row in wanted]
        read = self._tables[EXPRESSION].take(at, columns=["spot_offsets", "counts"])
        pairs = zip(read.column("spot_offsets"), read.column("counts"), strict=True)
        slide_of_row = self.slide_of(rows)
        for (slide, gene, _), (offsets, counts) in zip(wanted, pairs, strict=True):
            first, n = self._stretch(slide)
            dense = np.zeros(n, np.float32)
            dense[offsets.values.to_numpy()] = counts.values.to_numpy()
            here = slide_of_row == slide
            out[here, gene] = dense[rows[here] - first]
        return out

    def _wanted(self, genes: Sequence[str], rows: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        """Which rows of the expression table to read: (slide, position in genes, row)."""
        first_gene = self.slides["first_gene"].to_numpy()
        wanted = []
        for slide in np.unique(self.slide_of(rows)).tolist():
            positions = self.gene_lists[slide].get_indexer(pd.Index(list(genes), dtype="str"))
            wanted += [
                (slide, gene, int(first_gene[slide] + position))
                for gene, position in enumerate(positions)
                if position >= 0
            ]
        return wanted

    def sparse_counts(self, rows: NDArray[np.int64]) -> csr_matrix:
        """Raw counts of all genes read spot by spot, (m, genes of any slide)."""
        from scipy.sparse import csr_matrix

        table = self.take(["gene_indices", "gene_counts"], rows).combine_chunks()
        lists = table.column("gene_indices").combine_chunks()
        per_row = lists.value_lengths().to_numpy()
        columns = lists.flatten().to_numpy().astype(np.int64)  # in the slide's own gene list
        union = pd.Index(list(self.gene_names), dtype="str")
        slide_of_value = np.repeat(self.slide_of(rows), per_row)
        for slide in np.unique(slide_of_value).tolist():
            here = slide_of_value == slide
            columns[here] = union.get_indexer(self.gene_lists[slide])[columns[here]]
        values = table.column("gene_counts").combine_chunks().flatten().to_numpy()
        indptr = np.concatenate([[0], np.cumsum(per_row)])
        return csr_matrix((values, columns, indptr), shape=(len(rows), len(union)))

    def slide_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Position in the slides table of each row."""
        first = self.slides["first_spot"].to_numpy()
        return np.searchsorted(first, rows, side="right") - 1

    def _stretch(self, slide: int) -> tuple[int, int]:
        return int(self.slides["first_spot"].iloc[slide]), int(self.slides["n_spots"].iloc[slide])

    def require_genes(self, genes: Sequence[str]) -> None:
        """Refuse genes that no slide measured.

        Raises
        ------
        MissingGenesError
            Naming all of them.
        """
        from stamp_index.genes import close_names

        missing = [gene for gene in genes if gene not in self.gene_names]
        if missing:
            near = [name for gene in missing for name in close_names(gene, self.gene_names)]
            hint = f" Close names: {', '.join(near)}." if near else ""
            msg = (
                f"{len(missing)} of {len(genes)} genes are not in the store "
                f"({', '.join(missing)}).{hint} Ask for genes of store.genes."
            )
            raise MissingGenesError(msg)

    def find_spot(self, slide_row: int, barcode: str) -> int | None:
        """Row of a barcode on a slide; None where there is none."""
        first, n = self._stretch(slide_row)
        column = self.scan(["barcode"], slice(first, first + n)).column("barcode")
        position = pc.index(column, barcode).as_py()
        return None if position < 0 else first + position
