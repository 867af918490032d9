"""What a store adds to its index: searches end to end, slides added and deleted, beside LanceDB.

    OMP_NUM_THREADS=1 python benchmarks/store_search.py FOLDER [--rows 1000000]

Makes a store of slides of 3,000 spots in FOLDER once (1M rows: 3 GB) with the image vectors of search_data.py,
builds its index, and prints Markdown for RESULTS.md:

- `Searcher.search_vector` with 50 hits (filter, search, exact ranking, metadata and two genes of the hits) less the
  time of the index call alone, which takes turns with it;
- a slide of 3,000 spots with its embeddings from `Store.add` until a search finds it, and `Store.delete` until it does
  not; and a LanceDB table of as many rows that gets and loses the same rows, without a search after it.

Wall time; the encoder is left out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import search_data
from scipy.sparse import csr_matrix

from stamp_index.index import Index, build_index, has_index
from stamp_index.genes import GeneResolver
from stamp_index.search import Searcher, parse_filter
from stamp_index.search.filtering import evaluate
from stamp_index.slides import Slide
from stamp_index.store import EncoderCard, SlideRows, Store
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PER_SLIDE = 3_000
GENES = tuple(f"GENE{number}" for number in range(20))
ORGANS = ("breast", "liver", "skin", "lung", "colon")
K, N_SEARCHES, N_SLIDES = 50, 300, 7


class Encoder:
    """As much of an encoder as a search by vector needs."""

    fingerprint, name = "benchmark", "vec"

    def __init__(self, dim: int) -> None:
        self.dim = dim


def slide_rows(number: int, vectors: np.ndarray) -> SlideRows:
    """One slide on a square grid with these embeddings."""
    rng = np.random.default_rng(number)
    n = len(vectors)
    at = np.arange(n)
    slide = Slide(
        slide_id=f"slide{number:05d}",
        spots=pd.DataFrame(
            {"x_px": at % 60 * 200.0, "y_px": at // 60 * 200.0},
            index=pd.Index([f"B{i:05d}" for i in at], name="barcode"),
        ),
        counts=csr_matrix(rng.poisson(1.0, (n, len(GENES))).astype(np.float32)),
        genes=GENES,
        image=None,
        mpp=0.5,
        spot_diameter_um=55.0,
        patient_id=f"P{number // 4}",
        organ=ORGANS[number % len(ORGANS)],
    )
    vectors = np.asarray(vectors, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return SlideRows(slide, vectors, vectors[::-1].copy(), None, None, "benchmark")


def make_store(path: Path, data: search_data.SearchData) -> Store:
    """Open the store, after making what of it is not there."""
    n, dim = data.vectors.shape
    if not path.exists():
        Store.create(path, EncoderCard("vec", "benchmark", dim, 112.0, 224, 336.0, "none"))
    store = Store.open(path)
    for start in range(store.n_spots, n, PER_SLIDE):
        store.add(slide_rows(start // PER_SLIDE, data.vectors[start : start + PER_SLIDE]))
    if len(store.versions) > 50:
        store.compact()
        store.clean_up()
    if not has_index(store, "image"):
        build_index(store, "image")
    return Store.open(path)


def overhead(store: Store, queries: np.ndarray) -> list[str]:
    """End to end against the index call, taking turns."""
    searcher, index = Searcher.open(store.path, encoder=Encoder(store.card.dim)), None
    index = searcher.indexes["image"]
    lines = [
        "| query | index call, ms | end to end, ms: p50, p99 | over the call, ms: p50, p99 |",
        "|---|---|---|---|",
    ]
    for name, filters in (
        ("no filter", None),
        ("one organ, filter used again", 'organ == "liver"'),
        ("a filter by expression, used again", 'organ == "liver" and expr("GENE3") > 1'),
    ):
        mask = None
        if filters is not None:
            resolver = GeneResolver(store.genes, store.gene_ids)
            mask = evaluate(parse_filter(filters), store.columns(resolver)).mask
        ready = index.prepare(mask)
        searcher.search_vector(queries[0], k=K, filters=filters, genes=GENES[:2])
        alone, whole = [], []
        for query in np.resize(queries, (N_SEARCHES, queries.shape[1])):
            began = time.perf_counter()
            index.search(query[None], K, allowed=ready)
            between = time.perf_counter()
            searcher.search_vector(query, k=K, filters=filters, genes=GENES[:2])
            alone.append(between - began)
            whole.append(time.perf_counter() - between)
        over = (np.array(whole) - np.array(alone)) * 1e3
        ends = np.percentile(np.array(whole) * 1e3, [50, 99])
        lines.append(
            f"| {name} | {np.median(alone) * 1e3:.2f} | {ends[0]:.1f}, {ends[1]:.1f} | "
            f"{np.percentile(over, 50):.1f}, {np.percentile(over, 99):.1f} |"
        )
    return lines


def changes(store: Store, folder: Path, data: search_data.SearchData) -> list[str]:
    """Seconds until a slide is found, and until it is not any more, beside LanceDB's add and delete alone."""
    import lancedb
    import pyarrow as pa

    n, dim = data.vectors.shape
    place = folder / f"lancedb-{n}"
    if not place.exists():
        _make_table(place, data)
    table = lancedb.connect(place).open_table("spots")
    index = Index.open(store, "image")
    made = search_data.World(dim, 1)
    times: dict[str, list[float]] = {
        name: [] for name in ("add", "delete", "their add", "their delete")
    }
    for number in range(N_SLIDES):
        vectors, _ = made.draw(np.random.default_rng(number), PER_SLIDE, "image")
        rows = slide_rows(90_000 + number, vectors)
        query = vectors[7]
        began = time.perf_counter()
        store.add(rows)
        found = index.search(query[None], 1)[1][0, 0]
        times["add"].append(time.perf_counter() - began)
        require(found >= store.n_rows - PER_SLIDE)
        began = time.perf_counter()
        store.delete(rows.slide.slide_id)
        found = index.search(query[None], 1)[1][0, 0]
        times["delete"].append(time.perf_counter() - began)
        require(found < store.n_rows - PER_SLIDE)
        values = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.astype(np.float16).ravel()), dim
        )
        batch = pa.table({"slide": [f"n{number}"] * PER_SLIDE, "vector": values})
        began = time.perf_counter()
        table.add(batch)
        times["their add"].append(time.perf_counter() - began)
        began = time.perf_counter()
        table.delete(f"slide = 'n{number}'")
        times["their delete"].append(time.perf_counter() - began)
    lines = [
        "| change | ours with a search, s: median, worst | LanceDB without, s: median, worst |",
        "|---|---|---|",
    ]
    for name in ("add", "delete"):
        ours, theirs = times[name], times[f"their {name}"]
        what = "slide of 3,000 spots added and found" if name == "add" else "deleted and not found"
        lines.append(
            f"| {what} | {np.median(ours):.3f}, {max(ours):.3f} | {np.median(theirs):.3f}, {max(theirs):.3f} |"
        )
    return lines


def require(right: np.bool_) -> None:
    """Stop where an answer is wrong: then the times mean nothing."""
    if not right:
        sys.exit("A search just after a change gave a wrong answer.")


def _make_table(place: Path, data: search_data.SearchData) -> None:
    """Make a LanceDB table of one column of vectors and one of slides, which has a scalar index."""
    import lancedb
    import pyarrow as pa

    n, dim = data.vectors.shape
    scratch = place.with_name(f".{place.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    schema = pa.schema([("slide", pa.string()), ("vector", pa.list_(pa.float16(), dim))])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, n, 16_384):
            block = np.ascontiguousarray(data.vectors[start : start + 16_384])
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), dim)
            slides = [f"s{row // PER_SLIDE}" for row in range(start, start + len(block))]
            yield pa.record_batch([pa.array(slides), values], schema=schema)

    database = lancedb.connect(scratch)
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    table = database.create_table("spots", reader, schema=schema)
    table.create_index("slide", config=lancedb.index.BTree())
    scratch.rename(place)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--part", choices=("overhead", "changes"))
    asked = parser.parse_args()
    data = search_data.load(asked.folder, asked.rows, asked.dim)
    store = make_store(asked.folder / f"store-{asked.rows}", data)
    print(f"{store.n_spots} spots of {len(store.slides())} slides, d {asked.dim}")
    if asked.part != "changes":
        print("\n".join(["", *overhead(store, data.queries["gene"])]))
    if asked.part != "overhead":
        print("\n".join(["", *changes(store, asked.folder, data)]))


if __name__ == "__main__":
    main()
