"""Which runs there are, at which sizes, and how what is missing is run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from benchmarks.cost_model_parts import index_run, merge_run, requests_run, store_run
from benchmarks.cost_model_parts.lines import append_line, measured_now, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LADDER: Final = [
    *({"n": n, "dim": 128} for n in (200_000, 500_000, 1_000_000, 2_000_000, 5_000_000)),
    *({"n": n, "dim": 512} for n in (200_000, 1_000_000)),
]
STORES: Final = [
    *({"slides": slides, "spots": 500} for slides in (50, 200, 600)),
    *({"slides": slides, "spots": 3_000} for slides in (50, 200)),
    *({"slides": slides, "spots": 20_000} for slides in (25, 100)),  # as bins of Visium HD
]
RUNS: Final[dict[str, tuple[Callable[..., dict[str, Any]], list[dict[str, int]]]]] = {
    "index": (index_run.run_index, LADDER),
    "query": (index_run.run_query, LADDER),
    "fold": (index_run.run_fold, LADDER),
    "cold": (
        index_run.run_cold,
        [{**key, "random": random} for key in LADDER for random in (0, 1)],
    ),
    "write": (store_run.run_write, [{"umi": umi} for umi in (1_000, 5_000, 20_000)]),
    "grow": (store_run.run_grow, STORES),
    "open": (store_run.run_open, STORES),
    "merge": (merge_run.run_merge, [{"shards": n} for n in (1, 10, 100, 1_000)]),
    "requests": (
        requests_run.run_requests,
        [{"slides": n, "compact": compact} for n in (4, 16, 64) for compact in (0, 1)],
    ),
    "compaction": (
        requests_run.run_compaction,
        [{"slides": 4, "pictures": pictures} for pictures in (0, 1)],
    ),
}


def measure(folder: Path, path: Path, kinds: list[str], *, most_rows: int) -> None:
    """Run what no line of `path` tells of, smallest first, each in a process of its own."""
    for kind in kinds:
        for key in RUNS[kind][1]:
            done = any(one.kind == kind and one.key == key for one in read_lines(path))
            if done or key.get("n", 0) > most_rows:
                continue
            print(kind, key, file=sys.stderr, flush=True)
            append_line(path, measured_now(folder, kind, key))


def one(folder: Path, kind: str, key: dict[str, int]) -> dict[str, Any]:
    """Run one measurement here."""
    from stamp_index.index.faiss_library import load_faiss

    load_faiss().omp_set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    return RUNS[kind][0](folder, **key)
