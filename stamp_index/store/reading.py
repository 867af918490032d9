"""Reading the tables of one store version into numpy and pandas."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stamp_index.errors import MissingGenesError, StoreError
from stamp_index.remote.addresses import is_address
from stamp_index.store.guarded import GuardedTable, refused
from stamp_index.store.layout import Layout
from stamp_index.store.places import place_of
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
from stamp_index.store.spot_counts import counts_by_spot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import lance
    from numpy.typing import NDArray

    from stamp_index.store.manifest import Manifest
    from stamp_index.store.places import Where

ROW_ID: Final = "_rowid"  # Lance's name for it
_KEPT_SPOTS: Final = 4_000_000  # up to here barcodes and positions are kept: 40 bytes a spot
_BY_SPOT: Final = 2_000  # spots; of more, counts are read gene by gene
_SCAN_WHOLE: Final = 8  # one scan of a table reads about so many times faster than slide by slide


def open_table(store: Where, table: str, version: int | None = None) -> lance.LanceDataset:
    """Open one Lance table at one version, by default its newest, which no version of the store may name.

    Raises
    ------
    StoreError
        If the table or the version is not there, or the table has files elsewhere.
    """
    import lance

    place = place_of(store)
    at = "" if version is None else f", at its version {version},"
    with refused(f"Table '{table}' of the store at {place}{at}", remote=is_address(place.name)):
        dataset = lance.dataset(place.table(table), version=version)
    elsewhere = [base.path for base in dataset.base_paths().values()]
    if elsewhere:
        msg = (
            f"Table '{table}' of the store at {place} has files outside the store, at {elsewhere[0]!r}, and is not "
            "opened. Ask for a copy that is whole."
        )
        raise StoreError(msg)
    return dataset


class Tables:
    """The tables at one version. Never changes, so what was read once is kept."""

    def __init__(self, where: Where, manifest: Manifest) -> None:
        self.manifest = manifest
        self._place = place_of(where)
        self._tables = {
            name: GuardedTable(name, open_table(self._place, name, manifest.tables[name]))
            for name in TABLES
        }
        self._columns: dict[str, pa.Array] = {}

    def table(self, name: str) -> lance.LanceDataset:
        """One Lance table at this version."""
        return self._tables[name].dataset

    def _require_slide_columns(self) -> None:
        """Refuse a slides table with other columns than this release writes."""
        differing = set(slides_schema().names) ^ set(self._tables[SLIDES].schema.names)
        if differing:
            msg = (
                f"The slides table of the store at {self._place} differs from what this release "
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
                f"Table '{name}' of the store at {self._place} does not fit its slides: {exc}. The store is "
                f"damaged; restore it from a copy or embed the slides again."
            )
            raise StoreError(msg) from exc

    @cached_property
    def gene_lists(self) -> list[pd.Index[str]]:
        """Genes of every slide, in the order of its rows in the expression table; one object for equal lists."""
        column, known = self._slide_column(GENES), self.gene_list_numbers
        lists: dict[int, pd.Index[str]] = {}
        for genes, number in zip(column, known, strict=True):
            if number not in lists:
                lists[number] = pd.Index(genes.as_py(), dtype="str")
        return [lists[number] for number in known]

    @cached_property
    def gene_list_numbers(self) -> list[int]:
        """Which slides have equal gene lists and ids: a number each."""
        different: list[tuple[pa.Scalar, pa.Scalar]] = []
        numbers = []
        for pair in zip(self._slide_column(GENES), self._slide_column(GENE_IDS), strict=True):
            same = (
                i
                for i, other in enumerate(different)
                if other[0] == pair[0] and other[1] == pair[1]
            )
            number = next(same, len(different))
            if number == len(different):
                different.append(pair)
            numbers.append(number)
        return numbers

    @cached_property
    def gene_names(self) -> dict[str, str]:
        """Every gene of any slide, in order of first appearance, with its Ensembl id or ""."""
        names: dict[str, str] = {}
        ids_of = dict(zip(self.gene_list_numbers, self._slide_column(GENE_IDS), strict=True))
        lists = dict(zip(self.gene_list_numbers, self.gene_lists, strict=True))
        for number, symbols in lists.items():
            ids = ids_of[number]
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

    def small_columns(
        self, names: Sequence[str], rows: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Small columns of some spots, (m,) each, in the order asked for; kept where the store is not huge."""
        if names and self.spots.n_live > _KEPT_SPOTS:
            table = self.take(names, rows)
            return {name: table.column(name).to_pandas().to_numpy() for name in names}
        at = pa.array(np.searchsorted(self.spots.rows, rows))
        return {name: self._kept(name).take(at).to_pandas().to_numpy() for name in names}

    def _kept(self, name: str) -> pa.Array:
        """Whole column of the spots table by ascending row id, read once."""
        if name not in self._columns:
            self._columns[name] = self.scan([name]).column(name).combine_chunks()
        return self._columns[name]

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
        self._refuse_outside(name, unique)
        found = self._tables[SPOTS].read_blobs(name, unique.tolist())
        return [found[i] for i in inverse]

    def _refuse_outside(self, name: str, places: NDArray[np.int64]) -> None:
        """Refuse blobs that Lance would read from an address that the table names, such as a file of this machine."""
        held = (
            self._tables[SPOTS].take(places.tolist(), columns=[name]).column(name).combine_chunks()
        )
        if not pa.types.is_struct(held.type):
            return  # of an older kind of table, which keeps every blob itself
        outside = pc.not_equal(pc.struct_field(held, "blob_uri"), "")
        if pc.any(outside).as_py():
            where = held.filter(outside)[0]["blob_uri"].as_py()
            msg = (
                f"A {name} of the store at {self._place} lies outside it, at {where!r}, and is not read. Whoever made the "
                "store may want to see that file: do not use it."
            )
            raise StoreError(msg)

    def overview(self, slide_row: int) -> bytes | None:
        """Picture of a whole slide, by its number in `slides`."""
        place = int(self.slides["place"].iloc[slide_row])
        taken = self._tables[SLIDES].take([place], columns=[OVERVIEW])
        picture: bytes | None = taken.column(OVERVIEW)[0].as_py()
        return picture

    def counts(self, genes: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Raw counts (m, g) read gene-major; NaN where a slide did not measure the gene."""
        slide_of_row = self.spots.stretch_of(rows)
        slides = np.unique(slide_of_row)
        if len(rows) < min(len(slides) * len(genes), _BY_SPOT):
            return counts_by_spot(self, genes, rows)
        wanted = self._wanted(genes, slides)
        out = np.full((len(rows), len(genes)), np.nan, np.float32)
        if not wanted:
            return out
        at = [expression_row for _, _, expression_row in wanted]
        read = self._tables[EXPRESSION].take(at, columns=["spot_offsets", "counts"])
        pairs = zip(read.column("spot_offsets"), read.column("counts"), strict=True)
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

    def _wanted(
        self, genes: Sequence[str], slides: NDArray[np.int64]
    ) -> list[tuple[int, int, int]]:
        """Which rows of the expression table to read: (slide, position in genes, place)."""
        places = self.gene_places(genes)
        return [
            (slide, gene, int(self.genes.place[slide] + position))
            for slide in slides.tolist()
            for gene, position in enumerate(places[self.gene_list_numbers[slide]])
            if position >= 0
        ]

    def gene_places(self, genes: Sequence[str]) -> NDArray[np.int64]:
        """Where genes stand in every different gene list, (lists, g); -1 where they do not."""
        places = [[place.get(gene, -1) for gene in genes] for place in self._gene_place_in]
        return np.array(places, np.int64).reshape(len(places), len(genes))

    @cached_property
    def _gene_place_in(self) -> list[dict[str, int]]:
        """Genes of every different gene list with their places."""
        lists = dict(zip(self.gene_list_numbers, self.gene_lists, strict=True))
        return [dict(zip(names, range(len(names)), strict=True)) for names in lists.values()]

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
        first, n = int(self.spots.first[slide]), int(self.spots.n[slide])
        if self.spots.n_live > _KEPT_SPOTS:
            barcodes = self.scan_slide(["barcode"], slide).column("barcode")
        else:
            barcodes = self._kept("barcode").slice(np.searchsorted(self.spots.rows, first), n)
        position = pc.index(barcodes, barcode).as_py()
        return None if position < 0 else int(self.spots.first[slide]) + position


def _dense(n: int, offsets: pa.ListScalar, counts: pa.ListScalar) -> NDArray[np.float32]:
    """Spread a row of the expression table over the n spots of its slide, (n,)."""
    dense = np.zeros(n, np.float32)
    dense[offsets.values.to_numpy()] = counts.values.to_numpy()
    return dense
