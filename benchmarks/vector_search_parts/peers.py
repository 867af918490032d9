"""Other people's indexes over the same vectors: built once into a folder, searched alike.

A peer has settings; `ladders` says which are worth trying: within a ladder recall and cost rise. Everything is compared by
cosine: vectors and queries have unit length, and LanceDB, whose default is L2, is told so each time.
"""

from __future__ import annotations

import json
import shutil
import time
from typing import Any, Protocol, TYPE_CHECKING

import numpy as np

from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.halves import as_float32, half_index

if TYPE_CHECKING:
    import faiss
    from benchmarks.search_data import SearchData
    from pathlib import Path
    from collections.abc import Callable, Iterator

BLOCK = 50_000
Setting = tuple[Any, ...]


class Peer(Protocol):
    """An index of someone else.

    Attributes
    ----------
    name : str
        As in the tables.
    bytes_per_vector : float
        Of the index, besides the vectors that re-ranking reads; of graphs, which hold them, in all.
    build_cpu_s : float
        CPU time of the build.
    ladders : list of list of tuple
        Settings to try.
    """

    name: str
    bytes_per_vector: float
    build_cpu_s: float
    ladders: list[list[Setting]]

    def search(
        self, queries: np.ndarray, k: int, setting: Setting, where: str | None = None
    ) -> np.ndarray:
        """Row numbers of the best k, (q, k); -1 where there are fewer."""
        ...


def blocks(data: SearchData) -> Iterator[tuple[int, np.ndarray]]:
    """Position and rows, as float32."""
    for start in range(0, len(data.vectors), BLOCK):
        yield start, as_float32(data.vectors[start : start + BLOCK])


def _once(path: Path, build: Callable[[Path], None]) -> float:
    """Build what is not there; say how much CPU time it took, then or now."""
    note = path.with_name(path.name + ".json")
    if not note.is_file():
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        began = time.process_time()
        build(path)
        note.write_text(json.dumps({"build_cpu_s": time.process_time() - began}), "utf-8")
    return float(json.loads(note.read_text("utf-8"))["build_cpu_s"])


def centres_of(index: faiss.Index) -> np.ndarray:
    """Centres of the lists of a FAISS index, turned back to where the vectors are."""
    import faiss

    lists = inner_lists(index)
    flat = faiss.downcast_index(lists.quantizer)
    centres = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(-1, flat.d).copy()
    if not isinstance(index, faiss.IndexPreTransform):
        return centres
    return faiss.downcast_VectorTransform(index.chain.at(0)).reverse_transform(centres)


# ---- exact ---------------------------------------------------------------------------------------


class FaissFlat:
    """FAISS's exact search, over float32 or float16 in memory."""

    ladders: list[list[Setting]] = [[()]]
    build_cpu_s = 0.0

    def __init__(self, data: SearchData, *, half: bool) -> None:
        import faiss

        dim = data.vectors.shape[1]
        self.name = f"FAISS flat {'fp16' if half else 'fp32'}"
        self.bytes_per_vector = (2 if half else 4) * dim
        if half:
            self._rows = np.array(data.vectors)  # the index only looks at them
            self.index = half_index(self._rows)
        else:
            self.index = faiss.IndexFlatIP(dim)
            for _, rows in blocks(data):
                self.index.add(rows)

    def search(
        self, queries: np.ndarray, k: int, setting: Setting, where: str | None = None
    ) -> np.ndarray:
        """See `Peer`."""
        return self.index.search(queries, k)[1]


# ---- LanceDB -------------------------------------------------------------------------------------


class LanceDb:
    """LanceDB's own index over a column of float32; over float16 its searches take about twice as long.

    Parameters
    ----------
    data : SearchData
        What is indexed.
    folder : Path
        Where the table lies.
    kind : str
        "IVF_PQ" or "IVF_RQ".
    centres : ndarray of shape (n_lists, d), float32, optional
        Of the lists; LanceDB's own clustering by default.
    options : int
        ``num_bits`` and so on.
    """

    def __init__(
        self,
        data: SearchData,
        folder: Path,
        kind: str,
        *,
        centres: np.ndarray | None = None,
        **options: int,
    ) -> None:
        import lance
        import lancedb

        bits = "".join(f" {value}" for value in options.values())
        table = f"{kind.lower()}{bits.replace(' ', '_')}" + ("" if centres is None else "_given")
        self.name = f"LanceDB {kind}{bits}" + ("" if centres is None else ", our centres")
        path = folder / f"{table}.lance"
        self._data, self._kind, self._centres, self._options = data, kind, centres, options
        self.build_cpu_s = _once(path, self._build)
        index_bytes = sum(f.stat().st_size for f in (path / "_indices").rglob("auxiliary.idx"))
        index_bytes += sum(f.stat().st_size for f in (path / "_indices").rglob("index.idx"))
        self.bytes_per_vector = index_bytes / len(data.vectors)
        self.n_lists = lance.dataset(path).stats.index_stats("vector_idx")["indices"][0][
            "num_partitions"
        ]
        self.table = lancedb.connect(folder).open_table(table)
        probes = [n for n in (8, 12, 16, 24, 32, 48, 64, 96, 128, 192) if n <= self.n_lists]
        self.ladders = [[(p, r) for r in (5, 10, 15, 20, 30, 40, 60, 80)] for p in probes]

    def _build(self, path: Path) -> None:
        import lance
        import pyarrow as pa

        data, dim = self._data, self._data.vectors.shape[1]
        schema = pa.schema(
            [
                ("vector", pa.list_(pa.float32(), dim)),
                ("independent", pa.float32()),
                ("follows", pa.float32()),
            ]
        )

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(data.vectors), BLOCK):
                part = slice(start, start + BLOCK)
                flat = pa.array(as_float32(data.vectors[part]).reshape(-1))
                vectors = pa.FixedSizeListArray.from_arrays(flat, dim)
                columns = [vectors, data.independent[part], data.follows[part]]
                yield pa.record_batch(
                    [pa.array(c) if c is not vectors else c for c in columns], schema=schema
                )

        table = lance.write_dataset(
            batches(), path, schema=schema, max_rows_per_file=2**31, max_bytes_per_file=2**40
        )
        more: dict[str, Any] = {}
        if self._kind == "IVF_PQ":
            more["num_sub_vectors"] = dim // 8
        if self._centres is not None:
            more["ivf_centroids"] = self._centres
            more["num_partitions"] = len(self._centres)
        table.create_index(
            "vector", self._kind, name="vector_idx", metric="cosine", **more, **self._options
        )
        for column in ("independent", "follows"):
            table.create_scalar_index(column, "BTREE")

    def search(
        self, queries: np.ndarray, k: int, setting: Setting, where: str | None = None
    ) -> np.ndarray:
        """See `Peer`. Asks for row numbers alone, which are what is cheapest to return."""
        nprobes, refine = setting
        asked = queries[0] if len(queries) == 1 else list(queries)
        query = self.table.search(asked, vector_column_name="vector").distance_type("cosine")
        query = query.nprobes(nprobes).refine_factor(refine).limit(k)
        if where is not None:  # as many lists more as k hits take
            query = query.where(where, prefilter=True).minimum_nprobes(nprobes).maximum_nprobes(0)
        hits = query.select(["_distance"]).with_row_id(with_row_id=True).to_arrow()
        rows = hits["_rowid"].to_numpy().astype(np.int64)
        number = np.zeros(len(rows), np.int64)
        if len(queries) > 1:
            number = hits["query_index"].to_numpy().astype(np.int64)
        order = np.lexsort((hits["_distance"].to_numpy(), number))
        rows, number = rows[order], number[order]
        out = np.full((len(queries), k), -1, np.int64)
        place = np.arange(len(rows)) - np.searchsorted(number, number)
        out[number, place] = rows
        return out


# ---- graphs --------------------------------------------------------------------------------------

_EF = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class HnswLib:
    """hnswlib's graph over float32, M 16, efConstruction 200 (its documentation's values)."""

    name = "hnswlib"

    def __init__(self, data: SearchData, folder: Path) -> None:
        import hnswlib

        n, dim = data.vectors.shape
        path = folder / "hnswlib.bin"

        def build(path: Path) -> None:
            index = hnswlib.Index(space="ip", dim=dim)
            index.init_index(max_elements=n, ef_construction=200, M=16, random_seed=0)
            for start, rows in blocks(data):
                index.add_items(rows, np.arange(start, start + len(rows)), num_threads=1)
            index.save_index(str(path))

        self.build_cpu_s = _once(path, build)
        self.bytes_per_vector = path.stat().st_size / n
        self.index = hnswlib.Index(space="ip", dim=dim)
        self.index.load_index(str(path))
        self.ladders = [[(ef,) for ef in _EF]]

    def search(
        self, queries: np.ndarray, k: int, setting: Setting, where: str | None = None
    ) -> np.ndarray:
        """See `Peer`."""
        self.index.set_ef(setting[0])
        return self.index.knn_query(queries, k, num_threads=1)[0].astype(np.int64)


class USearch:
    """usearch's graph over float16, with its default connectivity 16 and expansion 128."""

    name = "usearch fp16"

    def __init__(self, data: SearchData, folder: Path) -> None:
        from usearch.index import Index

        n, dim = data.vectors.shape
        path = folder / "usearch.bin"

        def build(path: Path) -> None:
            index = Index(ndim=dim, metric="ip", dtype="f16")
            for start in range(0, n, BLOCK):
                rows = np.array(data.vectors[start : start + BLOCK])
                index.add(np.arange(start, start + len(rows)), rows, threads=1)
            index.save(str(path))

        self.build_cpu_s = _once(path, build)
        self.bytes_per_vector = path.stat().st_size / n
        self.index = Index.restore(str(path))
        self.ladders = [[(ef,) for ef in _EF]]

    def search(
        self, queries: np.ndarray, k: int, setting: Setting, where: str | None = None
    ) -> np.ndarray:
        """See `Peer`."""
        self.index.expansion_search = setting[0]
        keys = self.index.search(queries.astype(np.float16), k, threads=1).keys
        return np.asarray(keys).astype(np.int64).reshape(len(queries), -1)
