"""One size of an index: built by our engine with the recipe of its kind, searched, grown; counted in CPU seconds and bytes."""

from __future__ import annotations

import json
import mmap
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks import search_data
from benchmarks.cost_model_parts.lines import cpu_s, peak_resident_mib
from benchmarks.vector_search_parts.ours import (
    N_HELD_OUT,
    TARGETS,
    Ours,
    Watch,
    held_out,
    note_path,
    resident_mib,
)
from stamp_index.index.engine import (
    Engine,
    HeldOut,
    Settings,
    build,
    calibrate,
    read_index,
    write_index,
)
from stamp_index.index.exact import exact_search
from stamp_index.index.files import segment
from stamp_index.index.halves import as_float32
from stamp_index.index.recipes import IvfPqRecipe

if TYPE_CHECKING:
    from collections.abc import Callable

KIND: Final = "ivf_pq"
PROBES: Final = (4, 16, 64, 256)  # grid of settings that the law of a query is fitted to
DEPTHS: Final = (50, 200, 800)
GRID_QUERIES: Final = 64
TAIL_QUERIES: Final = 488  # those that chose no setting
NEWER: Final = (3_000, 10_000, 30_000, 100_000)  # rows searched exactly, as those added since
FOLDED: Final = 30_000  # `upkeep.FOLD_ROWS`
SHARES: Final = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5)


def home(folder: Path, dim: int) -> Path:
    """Where the indexes of one length of vectors lie."""
    return folder / f"d{dim}"


def run_index(folder: Path, n: int, dim: int) -> dict[str, Any]:
    """Build one size, unless it is there, and count what it took and what its searches take."""
    data = search_data.load(folder / "data", n, dim)
    recipe = IvfPqRecipe()
    note = _built(folder, data, recipe)
    path = note_path(home(folder, dim), data, KIND).with_suffix("") / "index.faiss"
    return {
        "nlist": recipe.lists_for(n),
        "sample_rows": recipe.sample_for(n),
        "code_bytes": recipe.code_bytes(dim),
        "index_bytes": path.stat().st_size,
        "sidecar_bytes": data.vectors.nbytes,
        "stages": {
            name: {key: round(value, 2) for key, value in stage.items() if key != "wall_s"}
            for name, stage in note["stages"].items()
        },
        "build_peak_resident_mib": round(note["peak_resident_mib"]),
        "choices": [
            {key: choice[key] for key in ("target", "breadth", "n_rerank", "recall", "reached")}
            for choice in note["calibration"]["choices"]
        ],
    }


def _built(folder: Path, data: search_data.SearchData, recipe: IvfPqRecipe) -> dict[str, Any]:
    """Build and calibrate; the note is one that `Ours` reads."""
    n, dim = data.vectors.shape
    path = note_path(home(folder, dim), data, KIND)
    if path.is_file():
        note: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return note
    watch = Watch()

    def tell(stage: str, done: int, total: int) -> None:
        # What follows the end of training is filling, of which the first block is told when it is over.
        watch.enter("fill" if stage == "train" and done == total else stage)

    index = build(data.vectors, recipe, path.with_suffix(""), progress=tell)
    watch.enter("calibrate")
    measured = calibrate(
        Engine(index, data.vectors),
        {name: HeldOut(rows) for name, rows in held_out(data).items()},
        ladder=recipe.rerank_ladder,
        targets=TARGETS,
    )
    n_bytes = (path.with_suffix("") / "index.faiss").stat().st_size
    note = {
        "bytes_per_vector": n_bytes / n,
        "calibration": measured.to_dict(),
        **watch.finish(),
    }
    path.write_text(json.dumps(note), "utf-8")
    return note


def run_query(folder: Path, n: int, dim: int) -> dict[str, Any]:
    """CPU of single gene queries: at the card's settings, over a grid, exactly, and of rows added since."""
    data = search_data.load(folder / "data", n, dim)
    ours = Ours(home(folder, dim), data, KIND)
    engine, queries = ours.engine, data.queries["gene"][N_HELD_OUT:]
    values: dict[str, Any] = {"own_mib_opened": round(resident_mib()["anonymous_mib"], 1)}
    values["at"] = {
        str(target): {
            "breadth": setting[0],
            "n_rerank": setting[1],
            "cpu_ms_quantiles": _quantiles(engine, queries, Settings(*setting)),
        }
        for target, setting in ours.chosen.items()
    }
    values["quantiles_percent"] = list(SHARES)
    values["peak_resident_mib"] = round(peak_resident_mib())
    few = queries[:GRID_QUERIES]
    values["grid"] = [
        [probes, depth, round(_median_ms(engine, few, Settings(probes, depth)), 4)]
        for probes in PROBES
        for depth in DEPTHS
    ]
    values |= _filters(engine, n)
    values["exact_cpu_ms_one"] = round(
        1e3 * _each(lambda q: engine.exact(q[None], 10, None), queries[:5]), 3
    )
    values["newer_cpu_ms"] = [
        [m, round(_newer_ms(data.vectors[:m], queries), 4)] for m in NEWER if m <= n
    ]
    return values


def run_fold(folder: Path, n: int, dim: int) -> dict[str, Any]:
    """Count what folding 30,000 rows into an index takes: reading, adding, writing and hashing the whole file."""
    data = search_data.load(folder / "data", n, dim)
    path = note_path(home(folder, dim), data, KIND).with_suffix("") / "index.faiss"
    times, began = {}, cpu_s()

    def note(name: str) -> None:
        nonlocal began
        times[f"{name}_cpu_s"] = round(cpu_s() - began, 3)
        began = cpu_s()

    index = read_index(path)
    note("read")
    index.add(as_float32(np.asarray(data.vectors[:FOLDED])))
    note("add")
    written = path.with_name("folded.faiss")
    write_index(index, written)
    note("write")
    n_bytes, _ = segment(written)
    note("hash")
    written.unlink()
    return {"rows": FOLDED, "index_bytes": n_bytes, **times, "peak_mib": round(peak_resident_mib())}


def run_cold(folder: Path, n: int, dim: int, random: int) -> dict[str, Any]:
    """Count what the exact ranking of one query reads from the disk when no page of the sidecar is in memory.

    `random` is 1 where the kernel is told that reads follow no order, so that it reads nothing ahead.
    """
    place = search_data.load(folder / "data", n, dim).folder / "vectors.npy"
    _forget_pages(place)
    data = search_data.load(folder / "data", n, dim)  # mapped again, of nothing in memory
    ours = Ours(home(folder, dim), data, KIND)
    breadth, depth = ours.chosen[0.99]
    query = data.queries["gene"][N_HELD_OUT : N_HELD_OUT + 1]
    if random:
        data.vectors._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
    before, faults = _read_from_disk(), _major_faults()
    ours.engine.search(query, 10, settings=Settings(breadth, depth))
    return {
        "n_rerank": depth,
        "disk_bytes": _read_from_disk() - before,
        "major_faults": _major_faults() - faults,
        "read_ahead_kib": _read_ahead_kib(place),
    }


# ---- helpers -------------------------------------------------------------------------------------


def _each(search: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Median CPU seconds of a query."""
    times = []
    for query in queries:
        began = time.thread_time()
        search(query)
        times.append(time.thread_time() - began)
    return float(np.median(times))


def _median_ms(engine: Engine, queries: np.ndarray, settings: Settings) -> float:
    def search(query: np.ndarray) -> object:
        return engine.search(query[None], 10, settings=settings)

    return 1e3 * float(np.median([_each(search, queries) for _ in range(3)]))


def _quantiles(engine: Engine, queries: np.ndarray, settings: Settings) -> list[float]:
    """Quantiles over queries of the CPU ms of one, each the least of three: the machine's noise only adds."""
    times = np.full((3, min(TAIL_QUERIES, len(queries))), np.nan)
    for row in times:
        for at, query in enumerate(queries[: len(row)]):
            began = time.thread_time()
            engine.search(query[None], 10, settings=settings)
            row[at] = 1e3 * (time.thread_time() - began)
    return np.percentile(times.min(axis=0), SHARES).round(4).tolist()


def _newer_ms(vectors: np.ndarray, queries: np.ndarray) -> float:
    held = np.array(vectors)
    return 1e3 * _each(lambda query: exact_search(held, query[None], 10), queries[:20])


def _filters(engine: Engine, n: int) -> dict[str, Any]:
    """CPU ms of making a filter ready: every second row, and half of the slides of 3,000 spots."""
    scattered = np.random.default_rng(0).random(n) < 0.5
    slides = np.arange(n) // 3_000 % 2 == 0
    began = time.thread_time()
    engine.prepare(slides)  # reads the list of every row, once
    first = 1e3 * (time.thread_time() - began)
    return {
        "filter_first_cpu_ms": round(first, 2),
        "filter_slides_cpu_ms": round(1e3 * _each(engine.prepare, [slides] * 5), 3),
        "filter_scattered_cpu_ms": round(1e3 * _each(engine.prepare, [scattered] * 5), 3),
    }


def _forget_pages(path: Path) -> None:
    """Have the kernel drop what it holds of a file in memory; needs nobody to map it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_from_disk() -> int:
    """Bytes that this process had read from a disk so far."""
    text = Path("/proc/self/io").read_text("ascii")
    return int(next(line for line in text.splitlines() if line.startswith("read_bytes")).split()[1])


def _major_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


def _read_ahead_kib(path: Path) -> int:
    """Most that the kernel reads ahead on the disk of a file."""
    device = path.stat().st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    return int(setting.read_text("ascii"))
