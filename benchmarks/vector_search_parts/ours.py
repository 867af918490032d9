"""Our engine as a contender: built once into a folder, with a note of what the build cost."""

from __future__ import annotations

import json
import resource
import threading
import time
from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np

from stamp_index.index.engine import Engine, HeldOut, Settings, build, calibrate, read_index
from stamp_index.index.recipes import KINDS, IndexRecipe

if TYPE_CHECKING:
    from benchmarks.search_data import SearchData
    from benchmarks.vector_search_parts.peers import Setting

N_HELD_OUT = 512  # queries that settings are chosen on; the rest report
TARGETS = (0.95, 0.99)


def held_out(data: SearchData) -> dict[str, np.ndarray]:
    """Take the queries that settings are chosen on, by modality."""
    return {name: rows[:N_HELD_OUT] for name, rows in data.queries.items()}


class Watch:
    """CPU, wall and memory of each stage of what is going on; memory is looked at ten times a second."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self._stage = ""
        self._began = (0.0, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def enter(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Begin a stage, unless it is the one that is on; "" ends the last."""
        del done, total
        if stage == self._stage:
            return
        now = (time.process_time(), time.perf_counter())
        if self._stage:
            entry = self.stages[self._stage]
            entry["cpu_s"] += now[0] - self._began[0]
            entry["wall_s"] += now[1] - self._began[1]
        if stage:
            zero = dict.fromkeys(("cpu_s", "wall_s", "anonymous_mib", "mapped_mib"), 0.0)
            self.stages.setdefault(stage, zero)
        self._stage, self._began = stage, now

    def finish(self) -> dict[str, Any]:
        """Say what was seen, and the most memory the process ever had."""
        self.enter("")
        self._stop.set()
        self._thread.join()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"stages": self.stages, "peak_resident_mib": peak}

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            entry = self.stages.get(self._stage)
            if entry is not None:
                for name, mib in resident_mib().items():
                    entry[name] = max(entry[name], mib)


def resident_mib() -> dict[str, float]:
    """Memory of this process: its own, and pages of mapped files, which can be dropped and read again."""
    status = Path("/proc/self/status").read_text("ascii")
    kib = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if "Rss" in line}
    mapped = int(kib["RssFile"]) + int(kib["RssShmem"])
    return {"anonymous_mib": int(kib["RssAnon"]) / 1024, "mapped_mib": mapped / 1024}


def note_path(folder: Path, data: SearchData, kind: str) -> Path:
    """Where `make_ours` writes what it measured."""
    return folder / "built" / str(len(data.vectors)) / f"{kind}.json"


def make_ours(folder: Path, data: SearchData, kind: str) -> dict[str, Any]:
    """Build and calibrate once; return the note of it. An interrupted build goes on."""
    path = note_path(folder, data, kind)
    if path.is_file():
        note: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return note
    recipe: IndexRecipe = KINDS[kind]()
    watch = Watch()
    index = build(data.vectors, recipe, path.with_suffix(""), progress=watch.enter)
    watch.enter("calibrate")
    queries = {name: HeldOut(rows) for name, rows in held_out(data).items()}
    measured = calibrate(
        Engine(index, data.vectors),
        queries,
        ladder=getattr(recipe, "rerank_ladder", (100,)),
        targets=TARGETS,
    )
    file_bytes = (path.with_suffix("") / "index.faiss").stat().st_size
    note = {
        "kind": kind,
        "n": len(data.vectors),
        "bytes_per_vector": file_bytes / len(data.vectors),
        "nlist": getattr(recipe, "lists_for", lambda _: 0)(len(data.vectors)),
        "calibration": measured.to_dict(),
        **watch.finish(),
    }
    path.write_text(json.dumps(note, indent=1), "utf-8")
    return note


class Ours:
    """The engine over one built index.

    Attributes
    ----------
    chosen : dict of float to tuple
        Setting of the card for each target: breadth and candidates ranked again.
    """

    def __init__(self, folder: Path, data: SearchData, kind: str) -> None:
        note = make_ours(folder, data, kind)
        path = note_path(folder, data, kind).with_suffix("") / "index.faiss"
        self.name = f"ours, {kind}"
        self.bytes_per_vector = note["bytes_per_vector"]
        self.engine = Engine(read_index(path), data.vectors)
        self.calibration = note["calibration"]
        self.chosen = {
            choice["target"]: (choice["breadth"], choice["n_rerank"])
            for choice in self.calibration["choices"]
        }

    def cheapest(self, modality: str, target: float) -> Setting | None:
        """Cheapest setting that reaches a target for one modality alone, on the choosing queries."""
        rungs = [r for r in self.calibration["rungs"] if r["recall"][modality] >= target]
        best = min(rungs, key=lambda rung: rung["cpu_ms"], default=None)
        return None if best is None else (best["breadth"], best["n_rerank"])

    def search(self, queries: np.ndarray, k: int, setting: Setting) -> np.ndarray:
        """Row numbers (q, k)."""
        return self.engine.search(queries, k, settings=Settings(*setting))[1]


class RawFaiss:
    """The same index object behind FAISS's own refinement from float16 rows in memory."""

    name = "raw FAISS"

    def __init__(self, ours: Ours, data: SearchData) -> None:
        import faiss

        from stamp_index.index.halves import half_index

        self._rows = np.array(data.vectors)
        self._half = half_index(self._rows)
        self.index = faiss.IndexRefine(ours.engine.source.index, self._half)
        self.bytes_per_vector = ours.bytes_per_vector
        self._faiss = faiss

    def search(self, queries: np.ndarray, k: int, setting: Setting) -> np.ndarray:
        """Row numbers (q, k)."""
        breadth, depth = setting
        lists = self._faiss.SearchParametersIVF(nprobe=breadth)
        both = self._faiss.IndexRefineSearchParameters(k_factor=depth / k, base_index_params=lists)
        return self.index.search(queries, k, params=both)[1]

    def flat(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Exact search over the float16 rows."""
        return self._half.search(queries, k)[1]


class OursFlat:
    """Our exact search."""

    name = "ours, flat"

    def __init__(self, data: SearchData) -> None:
        self.engine = Engine(None, data.vectors)
        self.bytes_per_vector = 2 * data.vectors.shape[1]

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Row numbers (q, k)."""
        return self.engine.search(queries, k)[1]
