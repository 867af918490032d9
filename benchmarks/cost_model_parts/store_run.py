"""Stores in a folder: what a row takes to write and to keep, and what opening takes as slides and spots grow."""

from __future__ import annotations

import ctypes
import gc
import shutil
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.cost_model_parts.lines import cpu_s
from benchmarks.cost_model_parts.slide_world import card, slide_rows
from benchmarks.vector_search_parts.ours import resident_mib
from stamp_index.index import Index, build_index
from stamp_index.index.recipes import FlatRecipe
from stamp_index.search import VectorSearcher
from stamp_index.search.hits import PLACE_COLUMNS
from stamp_index.store import Store, reading
from stamp_index.store.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

SPOTS: Final = 3_000  # of a slide whose rows are counted
SLIDES: Final = 3
ALL_GENES: Final = 18_000
DIM: Final = 512
SMALL_DIM: Final = 8  # where only what a row needs besides its vectors is counted
FEW_GENES: Final = 20
HITS: Final = 48
_LAST: Final = 10  # adds that tell what one takes at a size


def run_write(folder: Path, umi: int) -> dict[str, Any]:
    """Add slides with pictures and deep counts: CPU and bytes of a row."""
    path = folder / f"write-{umi}"
    shutil.rmtree(path, ignore_errors=True)
    store = Store.create(path, card(DIM))
    slides = [slide_rows(i, SPOTS, DIM, genes=ALL_GENES, umi=umi) for i in range(SLIDES)]
    began = cpu_s()
    for rows in slides:
        store.add(rows)
    spent, n = cpu_s() - began, store.n_spots
    values = {
        "rows": n,
        "genes_per_spot": round(mean(rows.slide.counts.nnz for rows in slides) / SPOTS, 1),
        "thumbnail_bytes": round(mean(map(len, slides[0].thumbnails or ()))),
        "add_cpu_us_per_row": round(1e6 * spent / n, 1),
        "bytes_per_row": {name: round(_bytes(path / f"{name}.lance") / n, 1) for name in TABLES},
    }
    rows = np.sort(np.random.default_rng(0).choice(store.rows(), HITS, replace=False))
    values["hits_counts_cpu_ms"] = _ms(lambda: store.expression(("GENE1", "GENE2"), rows))
    values["hits_pictures_cpu_ms"] = _ms(lambda: store.thumbnails(rows))
    shutil.rmtree(path)
    return values


def run_grow(folder: Path, slides: int, spots: int) -> dict[str, Any]:
    """Let a store of small slides grow to a number of slides: CPU of the last adds, then of compaction."""
    path = folder / f"grown-{spots}"
    store = Store.open(path) if path.exists() else Store.create(path, card(SMALL_DIM))
    times = []
    for number in range(len(store.slides()), slides):
        rows = slide_rows(number, spots, SMALL_DIM, genes=FEW_GENES, umi=0)
        began = cpu_s()
        store.add(rows)
        times.append(cpu_s() - began)
    copy = compacted(folder, slides, spots)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    joined, began = Store.open(copy), cpu_s()
    joined.compact()
    compact_s = cpu_s() - began
    build_index(joined, "image", FlatRecipe(n_queries=8))
    return {
        "rows": store.n_spots,
        "add_cpu_ms": round(1e3 * mean(times[-_LAST:]), 1),
        "compact_cpu_s": round(compact_s, 2),
        "versions_bytes": _bytes(path / "versions"),
    }


def compacted(folder: Path, slides: int, spots: int) -> Path:
    """Where the compacted copy lies, which has an index."""
    return folder / f"compacted-{slides}-{spots}"


def run_open(folder: Path, slides: int, spots: int) -> dict[str, Any]:
    """Open a compacted store with a flat index: CPU, memory at its most and held, and what 48 hits take."""
    path = compacted(folder, slides, spots)
    values: dict[str, Any] = {}
    kept: list[object] = []
    _counted(values, "nothing", lambda: None)
    store = _counted(values, "store", lambda: Store.open(path))
    kept.append(_counted(values, "slides", store.slides))
    _counted(values, "layout", store.rows)
    kept.append(_counted(values, "mask", lambda: store.has_vector("image")))
    kept.append(_counted(values, "index", lambda: Index.open(store, "image")))
    rows = np.sort(np.random.default_rng(0).choice(store.rows(), HITS, replace=False))
    _counted(values, "hits_first", lambda: store.spots(PLACE_COLUMNS, rows))
    values["rows"] = store.n_spots
    values["hits_kept_cpu_ms"] = _ms(lambda: store.spots(PLACE_COLUMNS, rows))
    values["slide_masks_cpu_ms"] = _ms(lambda: store.mask_of(np.ones(slides, np.bool_)))
    searcher = VectorSearcher.open(path)
    query = np.eye(SMALL_DIM, dtype=np.float32)[0]
    _counted(values, "search_first", lambda: searcher.search_vector(query, k=HITS))
    values["search_cpu_ms"] = _ms(lambda: searcher.search_vector(query, k=HITS))
    _counted(
        values,
        "search_filtered_first",
        lambda: searcher.search_vector(query, k=HITS, filters='organ == "liver"'),
    )
    # As where a store has more spots than `_KEPT_SPOTS`: columns of hits are read each time.
    reading._KEPT_SPOTS = 0  # type: ignore[misc]
    values["hits_taken_cpu_ms"] = _ms(lambda: store.spots(PLACE_COLUMNS, rows))
    return values


# ---- helpers -------------------------------------------------------------------------------------


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _ms(call: Callable[[], object], rounds: int = 5) -> float:
    """Median CPU ms of a call of the whole process: Lance works in threads of its own."""
    call()
    times = []
    for _ in range(rounds):
        began = cpu_s()
        call()
        times.append(cpu_s() - began)
    return round(1e3 * float(np.median(times)), 3)


def _counted(values: dict[str, Any], name: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Call, and note CPU, own memory held afterwards, and the most there was in between."""
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew
    began = cpu_s()
    result = call()
    spent = cpu_s() - began
    peak = _peak_mib()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    values[name] = {
        "cpu_ms": round(1e3 * spent, 2),
        "own_mib": round(resident_mib()["anonymous_mib"], 2),
        "peak_mib": round(peak, 2),
    }
    return result


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text("ascii").splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
