"""How build, memory and search grow with the number of rows."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import search_data
from stamp_index.index.exact import ann_recall_at_k
from benchmarks.vector_search_parts.ours import N_HELD_OUT, Ours, make_ours, note_path, resident_mib
from benchmarks.vector_search_parts.report import table
from benchmarks.vector_search_parts.timing import in_turns

KIND = "ivf_pq"
TARGET = 0.99
BATCHES = (1, 16, 256)
STAGES = ("train", "fill", "write", "calibrate")


def run(folder: Path, sizes: list[int], dim: int, figure: Path | None) -> str:
    """Build and search each size in a process of its own, then time the sizes in turns."""
    for n in sizes:
        data = search_data.load(folder / "data", n, dim)
        _forget_unwatched(note_path(folder, data, KIND))
        _child("build", folder, n, dim)
        _child("search", folder, n, dim)
    notes = [_note(folder, n, dim) for n in sizes]
    searched = {n: json.loads(_searched(folder, n).read_text("utf-8")) for n in sizes}
    costs = _costs(folder, sizes, dim)
    if figure is not None:
        _draw(figure, notes, costs)
    return _builds(notes) + "\n\n" + _searches(notes, searched, costs)


def build_one(folder: Path, n: int, dim: int) -> None:
    """Child process: build and calibrate one size."""
    make_ours(folder, search_data.load(folder / "data", n, dim), KIND)


def search_one(folder: Path, n: int, dim: int) -> None:
    """Child process: open one size, search every query that did not choose, measure memory and recall."""
    data = search_data.load(folder / "data", n, dim)
    ours = Ours(folder, data, KIND)
    opened = resident_mib()
    found = {
        name: ours.search(queries[N_HELD_OUT:], 10, ours.chosen[TARGET])
        for name, queries in data.queries.items()
    }
    seen = {
        "opened": opened,
        "after": resident_mib(),
        "peak_resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    # Only now: the exact answers read every row.
    seen["recall"] = {
        name: ann_recall_at_k(rows, data.truth(name)[N_HELD_OUT:]) for name, rows in found.items()
    }
    _searched(folder, n).write_text(json.dumps(seen, indent=1), "utf-8")


def _forget_unwatched(note: Path) -> None:
    """Throw away an index whose build was not watched from beginning to end."""
    if note.is_file() and "train" not in json.loads(note.read_text("utf-8"))["stages"]:
        note.unlink()
        shutil.rmtree(note.with_suffix(""), ignore_errors=True)


def _child(what: str, folder: Path, n: int, dim: int) -> None:
    script = Path(__file__).resolve().parent.parent / "vector_search.py"
    asked = [str(folder), "--part", f"growth-{what}", "--rows", str(n), "--dim", str(dim)]
    subprocess.run([sys.executable, str(script), *asked], check=True)


def _note(folder: Path, n: int, dim: int) -> dict[str, Any]:
    data = search_data.load(folder / "data", n, dim)
    note: dict[str, Any] = json.loads(note_path(folder, data, KIND).read_text("utf-8"))
    return note


def _searched(folder: Path, n: int) -> Path:
    return folder / "built" / str(n) / f"{KIND}-searched.json"


def _costs(folder: Path, sizes: list[int], dim: int) -> dict[tuple[int, int], tuple[float, float]]:
    """CPU and wall ms of a gene query by size and batch, sizes in turns."""
    searches, queries = {}, np.empty(0)
    for n in sizes:
        data = search_data.load(folder / "data", n, dim)
        ours = Ours(folder, data, KIND)
        queries = data.queries["gene"][N_HELD_OUT:]  # the same at every size
        setting = ours.chosen[TARGET]
        searches[str(n)] = lambda q, ours=ours, setting=setting: ours.search(q, 10, setting)
    out = {}
    for batch in BATCHES:
        for name, cost in in_turns(searches, queries, batch).items():
            out[int(name), batch] = (cost.cpu_ms, cost.wall_ms)
    return out


# ---- what is shown -------------------------------------------------------------------------------


def _builds(notes: list[dict[str, Any]]) -> str:
    rows = []
    for note in notes:
        stages = note["stages"]
        cells = [f"{note['n']:,}", str(note["nlist"])]
        cells += [
            f"{stages[name]['cpu_s']:.0f} / {stages[name]['wall_s']:.0f}" if name in stages else "-"
            for name in STAGES
        ]
        own = max(stage["anonymous_mib"] for stage in stages.values())
        mapped = max(stage["mapped_mib"] for stage in stages.values())
        cells += [f"{own:,.0f}", f"{mapped:,.0f}", f"{note['peak_resident_mib']:,.0f}"]
        cells.append(f"{note['bytes_per_vector']:.1f}")
        rows.append(cells)
    head = ["n", "nlist", *(f"{name}, CPU / wall s" for name in STAGES)]
    head += ["own memory, MiB", "mapped, MiB", "peak resident, MiB", "B/vector"]
    return table(head, rows)


def _searches(
    notes: list[dict[str, Any]],
    searched: dict[int, dict[str, Any]],
    costs: dict[tuple[int, int], tuple[float, float]],
) -> str:
    rows = []
    for note in notes:
        n = note["n"]
        choice = next(c for c in note["calibration"]["choices"] if c["target"] == TARGET)
        seen = searched[n]
        cells = [f"{n:,}", f"{choice['breadth']}, {choice['n_rerank']}"]
        cells += [f"{seen['recall'][name]:.3f}" for name in ("gene", "image")]
        cells += ["{:.2f} / {:.2f}".format(*costs[n, batch]) for batch in BATCHES]
        cells += [f"{seen['after'][name]:,.0f}" for name in ("anonymous_mib", "mapped_mib")]
        rows.append(cells)
    head = ["n", "nprobe, re-ranked", "recall@10 gene", "image"]
    head += [f"batch {batch}, CPU / wall ms" for batch in BATCHES]
    return table([*head, "own memory, MiB", "mapped, MiB"], rows)


def _draw(
    path: Path, notes: list[dict[str, Any]], costs: dict[tuple[int, int], tuple[float, float]]
) -> None:
    """Three panels over the number of rows, all logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    sizes = [note["n"] for note in notes]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for stage in ("train", "fill", "calibrate"):
        left.plot(sizes, [note["stages"][stage]["cpu_s"] for note in notes], "o-", label=stage)
    left.plot(
        sizes,
        [sum(s["cpu_s"] for s in note["stages"].values()) for note in notes],
        "ko--",
        label="all",
    )
    left.set(title="Build", ylabel="CPU s, one thread")
    for batch in BATCHES:
        middle.plot(sizes, [costs[n, batch][0] for n in sizes], "o-", label=f"batch {batch}")
    first = costs[sizes[0], BATCHES[0]][0]
    middle.plot(sizes, [first * (n / sizes[0]) ** 0.5 for n in sizes], "k:", label="~ sqrt(n)")
    middle.set(title=f"Search at recall@10 {TARGET} (card)", ylabel="CPU ms a gene query")
    own = [max(s["anonymous_mib"] for s in note["stages"].values()) for note in notes]
    right.plot(sizes, [mib / 1024 for mib in own], "o-", label="build, own memory")
    peak = [note["peak_resident_mib"] / 1024 for note in notes]
    right.plot(sizes, peak, "o-", label="build, with mapped pages")
    file_gib = [note["bytes_per_vector"] * note["n"] / 2**30 for note in notes]
    right.plot(sizes, file_gib, "o-", label="index file")
    right.axhline(12, color="k", ls=":", label="12 GiB")
    right.set(title="Memory", ylabel="GiB", ylim=(0.01, 200))  # room for the legend
    for axis in (left, middle, right):
        axis.set(xscale="log", yscale="log", xlabel="rows of 512 dimensions")
        axis.set_xticks(sizes, [f"{n / 1e6:g}M" for n in sizes])
        axis.minorticks_off()
        axis.legend(frameon=False, fontsize=8)
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
