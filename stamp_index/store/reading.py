"""Reading the tables of one store version into numpy and pandas."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stamp_index.errors import MissingGenesError, StoreError
from stamp_index.store.layout import Layout
from stamp_index.store.schema import (
    EXPRESSION,
    GENE_IDS,
    GENES,
    LABELS,
    OVERVIEW,
    SLIDES,
    SPOTS,
    TABLES,
    slides_schema,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import lance
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.store.manifest import Manifest

ROW_ID: Final = "_rowid"  # Lance's name for it
_SCAN_WHOLE: Final = 8  # one scan of a table reads about so many times faster than slide by slide


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

    def table(self, name: str) -> lance.LanceDataset:
        """One Lance table at this version."""
        return self._tables[name]

    def _require_slide_columns(self) -> None:
        """Refuse a slides table with other columns than this release writes."""
        differing = set(slides_schema().names) ^ set(self._tables[SLIDES].schema.names)
        if differing:
            msg = (
                f"The slides table of the store at {self._path} differs from what this release "
                f"writes in: {', '.join(sorted(differing))}. Make the store again."
            )
            raise StoreError(msg)

    @cached_property
    def slides(self) -> pd.DataFrame:
        """Slides table without gene lists and pictures, in the order in which they were added.

        Raises
        ------
        StoreError
            If it has other columns than this release writes.
        """
        self._require_slide_columns()
        table = self._tables[SLIDES]
        large = {GENES, GENE_IDS, OVERVIEW}
        columns = [name for name in table.schema.names if name not in large]
        frame: pd.DataFrame = table.to_table(columns=columns).to_pandas()
        for name in ("notes", "embedded"):
            frame[name] = [tuple(values) for values in frame[name]]
        frame["place"] = np.arange(len(frame))  # in the slides table
        return frame.sort_values("first_spot", ignore_index=True)

    @cached_property
    def spots(self) -> Layout:
        """Row ids of the spots table."""
        return self._layout(SPOTS, "first_spot", "n_spots")

    @cached_property
    def genes(self) -> Layout:
        """Row ids of the expression table."""
        return self._layout(EXPRESSION, "first_gene", "n_genes")

    def _layout(self, name: str, first: str, n: str) -> Layout:
        firsts, sizes = self.slides[first].to_numpy(np.int64), self.slides[n].to_numpy(np.int64)
        ids = self._tables[name].to_table(columns=[], with_row_id=True).column(ROW_ID)
        try:
            return Layout(firsts, sizes, ids.to_numpy().astype(np.int64))
        except StoreError as exc:
            msg = (
                f"Table '{name}' of the store at {self._path} does not fit its slides: {exc}. The store is "
                f"damaged; restore it from a copy or embed the slides again."
            )
            raise StoreError(msg) from exc

    @cached_property
    def gene_lists(self) -> list[pd.Index[str]]:
        """Genes of every slide, in the order of its rows in the expression table."""
        column = self._slide_column(GENES)
        return [pd.Index(genes.as_py(), dtype="str") for genes in column]

    @cached_property
    def gene_names(self) -> dict[str, str]:
        """Every gene of any slide, in order of first appearance, with its Ensembl id or ""."""
        names: dict[str, str] = {}
        for symbols, ids in zip(self.gene_lists, self._slide_column(GENE_IDS), strict=True):
            for symbol, gene_id in zip(symbols, ids.as_py() or [""] * len(symbols), strict=True):
                names[symbol] = names.get(symbol) or gene_id
        return names

    def _slide_column(self, name: str) -> pa.ChunkedArray:
        """One column of the slides table in the order of `slides`."""
        column = self._tables[SLIDES].to_table(columns=[name]).column(name)
        return column.take(self.slides["place"].to_numpy())

    @cached_property
    def n_counts(self) -> NDArray[np.float64]:
        """Total counts of every spot, by ascending row id."""
        values: NDArray[np.float64] = self.scan(["n_counts"]).column("n_counts").to_numpy()
        return values

    def barcodes(self, slide_id: str) -> list[str]:
        """Barcodes of a slide in the order of its rows."""
        here = np.flatnonzero(self.slides["slide_id"] == slide_id)[0]
        found: list[str] = self.scan_slide(["barcode"], int(here)).column("barcode").to_pylist()
        return found

    def scan(self, columns: Sequence[str]) -> pa.Table:
        """Columns of the whole spots table as an Arrow table, by ascending row id."""
        table = self._tables[SPOTS].to_table(columns=list(columns), with_row_id=True)
        ids = table.column(ROW_ID).to_numpy()
        table = table.drop_columns(ROW_ID)
        return table if (ids[1:] > ids[:-1]).all() else table.take(np.argsort(ids))

    def scan_slide(self, columns: Sequence[str], slide: int) -> pa.Table:
        """Columns of one slide's spots, by its number in `slides`."""
        at, n = int(self.spots.place[slide]), int(self.spots.n[slide])
        return self._tables[SPOTS].to_table(columns=list(columns), offset=at, limit=n)

    def column_of(self, name: str, slides: NDArray[np.int64]) -> pa.ChunkedArray:
        """One column of some slides' spots, one slide after the other, by their numbers in `slides`."""
        sizes = self.spots.n[slides]
        if sizes.sum() * _SCAN_WHOLE < self.spots.n_live or len(slides) < 2:
            parts = [self.scan_slide([name], int(slide)).column(name) for slide in slides]
        else:
            whole = self.scan([name]).column(name)
            before = np.searchsorted(self.spots.rows, self.spots.first[slides])
            parts = [whole.slice(a, n) for a, n in zip(before, sizes, strict=True)]
        chunks = [chunk for part in parts for chunk in part.chunks]
        return pa.chunked_array(chunks, self._tables[SPOTS].schema.field(name).type)

    def take(self, columns: Sequence[str], rows: NDArray[np.int64]) -> pa.Table:
        """Rows of the spots table in the order asked for, as an Arrow table."""
        return self._tables[SPOTS].take(self.spots.places(rows).tolist(), columns=list(columns))

    def labels(self, wanted: pc.Expression, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of the labels table that an expression lets pass, with all columns or some."""
        names = None if columns is None else list(columns)
        return self._tables[LABELS].to_table(filter=wanted, columns=names)

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """Every label of any slide."""
        table = self._tables[LABELS].to_table(columns=["name"])
        return tuple(sorted(pc.unique(table.column("name")).to_pylist()))

    def vector_batches(
        self, name: str, dim: int, batch_rows: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Row ids and vectors (m, d) of the spots that have one, in the order of the table."""
        batches = self._tables[SPOTS].to_batches(
            columns=[name], batch_size=batch_rows, with_row_id=True
        )
        for batch in batches:
            column = batch.column(name)
            here = column.is_valid().to_numpy(zero_copy_only=False)
            rows = batch.column(ROW_ID).to_numpy()[here].astype(np.int64)
            # flatten() leaves null rows out, whatever lies in their memory
            yield rows, column.flatten().to_numpy().reshape(-1, dim)

    def vectors(self, name: str, dim: int, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Vectors (m, d) of some rows in the order asked for, zero where missing."""
        column = self.take([name], rows).column(name).combine_chunks()
        vectors = np.zeros((len(rows), dim), np.float16)
        here = column.is_valid().to_numpy(zero_copy_only=False)
        vectors[here] = column.flatten().to_numpy().reshape(-1, dim)
        return vectors

    def blobs(self, name: str, rows: NDArray[np.int64]) -> list[bytes | None]:
        """Contents of a blob column in the order asked for."""
        if len(rows) == 0:
            return []
        unique, inverse = np.unique(self.spots.places(rows), return_inverse=True)
        read = self._tables[SPOTS].read_blobs(name, indices=unique.tolist(), preserve_order=True)
        found = [content for _, content in read]
        return [found[i] for i in inverse]

    def overview(self, slide_row: int) -> bytes | None:
        """Picture of a whole slide, by its number in `slides`."""
        place = int(self.slides["place"].iloc[slide_row])
        taken = self._tables[SLIDES].take([place], columns=[OVERVIEW])
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
        slide_of_row = self.spots.stretch_of(rows)
        here = {slide: np.flatnonzero(slide_of_row == slide) for slide, _, _ in wanted}
        for (slide, gene, _), (offsets, counts) in zip(wanted, pairs, strict=True):
            dense = _dense(int(self.spots.n[slide]), offsets, counts)
            out[here[slide], gene] = dense[rows[here[slide]] - self.spots.first[slide]]
        return out

    def gene_counts(self, gene: str, slides: NDArray[np.int64]) -> NDArray[np.float32]:
        """Raw counts of one gene in every spot of some slides; NaN where a slide did not measure it."""
        at = [(int(slide), int(self.gene_lists[slide].get_indexer([gene])[0])) for slide in slides]
        places = [int(self.genes.place[slide]) + place for slide, place in at if place >= 0]
        read = self._tables[EXPRESSION].take(places, columns=["spot_offsets", "counts"])
        pairs = zip(read.column("spot_offsets"), read.column("counts"), strict=True)
        parts = [np.empty(0, np.float32)]
        for slide, place in at:
            n = int(self.spots.n[slide])
            parts.append(_dense(n, *next(pairs)) if place >= 0 else np.full(n, np.nan, np.float32))
        return np.concatenate(parts)

    def _wanted(self, genes: Sequence[str], rows: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        """Which rows of the expression table to read: (slide, position in genes, place)."""
        wanted = []
        for slide in np.unique(self.spots.stretch_of(rows)).tolist():
            positions = self.gene_lists[slide].get_indexer(pd.Index(list(genes), dtype="str"))
            wanted += [
                (slide, gene, int(self.genes.place[slide] + position))
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
        slide_of_value = np.repeat(self.spots.stretch_of(rows), per_row)
        for slide in np.unique(slide_of_value).tolist():
            here = slide_of_value == slide
            columns[here] = union.get_indexer(self.gene_lists[slide])[columns[here]]
        values = table.column("gene_counts").combine_chunks().flatten().to_numpy()
        indptr = np.concatenate([[0], np.cumsum(per_row)])
        return csr_matrix((values, columns, indptr), shape=(len(rows), len(union)))

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

    def find_spot(self, slide: int, barcode: str) -> int | None:
        """Row id of a barcode on a slide; None where there is none."""
        position = pc.index(self.scan_slide(["barcode"], slide).column("barcode"), barcode).as_py()
        return None if position < 0 else int(self.spots.first[slide]) + position


def _dense(n: int, offsets: pa.ListScalar, counts: pa.ListScalar) -> NDArray[np.float32]:
    """Spread a row of the expression table over the n spots of its slide, (n,)."""
    dense = np.zeros(n, np.float32)
    dense[offsets.values.to_numpy()] = counts.values.to_numpy()
    return dense
