"""Searching 1, 2 and 4 shards against the undivided index: latency, CPU, and whether the answers are the same.

All in one process, so that the CPU of all shards together is seen and nothing is measured of networks.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.index import Index, load_recipe
from stamp_index.shards import LocalShards, ShardedIndex, shard_index
from stamp_index.slides import Slide
from stamp_index.store import EncoderCard, SlideRows, Store

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

N_SLIDES: Final = 40
K: Final = 48
FILTERS: Final = {
    "all rows": 1.0,
    "half, whole slides": 0.5,
    "5 %, whole slides": 0.05,
    "1 %, scattered": -0.01,
}


def measure_shards(
    folder: Path,
    *,
    n: int = 200_000,
    dim: int = 128,
    shards: Sequence[int] = (1, 2, 4),
    n_queries: int = 100,
    recipe: str = "ivf_pq",
) -> list[dict[str, object]]:
    """Measure one query at a time.

    Parameters
    ----------
    folder : Path
        Empty; gets a store.
    n, dim : int
        Rows and their length.
    shards : sequence of int
        Numbers of shards to compare.
    n_queries : int
        Queries of each measurement.
    recipe : str
        Of the index.

    Returns
    -------
    list of dict
        For each number of shards (0 for the undivided index) and filter: ``p50_ms`` and ``p99_ms`` of wall time,
        ``cpu_ms`` of all threads, ``cpu_ratio`` to the undivided index, ``recall_at_10`` of the exact hits,
        ``exact_equal`` (whether exact answers are the same to the last bit) and ``no_worse`` (share of the hits whose score
        is no less than the undivided index's at the same rank).
    """
    vectors, queries = _vectors(n, dim, 0), _vectors(n_queries, dim, 1)
    store = _store(folder, vectors)
    whole = Index.build(store, "image", load_recipe(recipe))
    out: list[dict[str, object]] = []
    for name, share in FILTERS.items():
        mask = _mask(store, share)
        truth = whole.search(queries, K, allowed=mask, recall=1)
        base = _timed(whole, queries, mask)
        out.append(_row(0, name, base, base, truth, exact_equal=True))
        for number in shards:
            shard_index(store, "image", number)
            sharded = ShardedIndex.connect(store, "image", LocalShards.open(store))
            exact = sharded.search(queries, K, allowed=mask, recall=1)
            equal = all(np.array_equal(a, b) for a, b in zip(exact, truth, strict=True))
            found = _timed(sharded, queries, mask)
            out.append(_row(number, name, found, base, truth, exact_equal=equal))
    return out


def _timed(
    index: Index, queries: NDArray[np.float32], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float, NDArray[np.float32], NDArray[np.int64]]:
    """Wall time of each query and CPU time of one, ms, and what was found."""
    ready = index.prepare(mask)
    for query in queries[:5]:
        index.search(query[None], K, allowed=ready)
    wall, found, cpu = [], [], time.process_time()
    for query in queries:
        started = time.perf_counter()
        found.append(index.search(query[None], K, allowed=ready))
        wall.append(1e3 * (time.perf_counter() - started))
    cpu_ms = 1e3 * (time.process_time() - cpu) / len(queries)
    scores, rows = (np.concatenate([pair[i] for pair in found]) for i in range(2))
    return np.array(wall), cpu_ms, scores, rows


def _row(
    number: int,
    name: str,
    found: tuple[NDArray[np.float64], float, NDArray[np.float32], NDArray[np.int64]],
    base: tuple[NDArray[np.float64], float, NDArray[np.float32], NDArray[np.int64]],
    truth: tuple[NDArray[np.float32], NDArray[np.int64]],
    *,
    exact_equal: bool,
) -> dict[str, object]:
    wall, cpu_ms, scores, rows = found
    hit = (truth[1][:, :10, None] == rows[:, None, :10]).any(axis=2)
    return {
        "shards": number,
        "filter": name,
        "p50_ms": round(float(np.percentile(wall, 50)), 3),
        "p99_ms": round(float(np.percentile(wall, 99)), 3),
        "cpu_ms": round(cpu_ms, 3),
        "cpu_ratio": round(cpu_ms / base[1], 2),
        "recall_at_10": round(float(hit.mean()), 4),
        "exact_equal": exact_equal,
        "no_worse": round(float((scores >= base[2]).mean()), 4),
    }


def _vectors(n: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Draw unit vectors around 200 centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(200, dim)).astype(np.float32)
    rows = centres[rng.integers(200, size=n)] + 0.7 * rng.standard_normal((n, dim), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _mask(store: Store, share: float) -> NDArray[np.bool_]:
    """Rows that may be found: whole slides, or scattered for a share below 0."""
    if share < 0:
        return np.random.default_rng(0).random(store.n_rows) < -share
    slides = np.zeros(len(store.slides()), np.bool_)
    slides[:: round(1 / share)] = True
    return store.mask_of(slides)


def _store(folder: Path, vectors: NDArray[np.float32]) -> Store:
    import pandas as pd
    from scipy.sparse import csr_matrix

    card = EncoderCard("vec", "0f0f", vectors.shape[1], 112.0, 224, 336.0, "none")
    store = Store.create(folder / "store", card)
    for number, rows in enumerate(np.array_split(np.arange(len(vectors)), N_SLIDES)):
        barcodes = pd.Index([f"B{i}" for i in range(len(rows))], name="barcode")
        spots = pd.DataFrame({"x_px": np.arange(len(rows)) * 10.0, "y_px": 5.0}, index=barcodes)
        slide = Slide(
            slide_id=f"S{number}",
            spots=spots,
            counts=csr_matrix(np.full((len(rows), 1), number + 1, np.float32)),
            genes=("CD8A",),
            image=None,
            mpp=1.0,
            spot_diameter_um=55.0,
        )
        store.add(SlideRows(slide, vectors[rows], vectors[rows], None, None, card.fingerprint))
    return store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this part."""
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--recipe", default="ivf_pq")


def run(args: argparse.Namespace) -> str:
    """Measure; Markdown."""
    with tempfile.TemporaryDirectory(prefix="scale-out-") as folder:
        rows = measure_shards(
            Path(folder), n=args.n, dim=args.dim, n_queries=args.queries, recipe=args.recipe
        )
    head = list(rows[0])
    lines = [
        f"{args.recipe}, {args.n:,} x {args.dim}, one query at a time for {K} hits, all shards in one process; 0 shards is the "
        f"undivided index",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(str(row[name]) for name in head)} |" for row in rows),
    ]
    return "\n".join(lines)
