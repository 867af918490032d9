"""Half an hour of mixed load on ``stamp-index serve``, every answer held against an exact shadow.

    OMP_NUM_THREADS=1 python benchmarks/load.py FOLDER [--minutes 30] [--clients 2] [--smoke]

Makes a store of 50,000 spots of 128 numbers with an index of each modality in FOLDER, and serves it in a process of its
own. Other processes search it by vector, gene, spot and region through the Python client, with and without filters, and
read what the app's pages read, while a writer adds and deletes slides, keeps the indexes up as ``stamp-index add`` does
(new rows are folded in, and an index is built again when too many have gone), compacts and cleans up. Each answer is
compared with brute force over the very version of the store that it names. At the end the store is compared with the
shadow, row by row. Then ten times more clients than the queue holds ask at once.

Prints Markdown for RESULTS.md, and exits with 1 if an answer was wrong, a row lost, or the server failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from queue import Empty

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import numpy as np
from load_parts import world
from load_parts.overload import latency, overload
from load_parts.server import Server
from load_parts.shadow import Journal, Shadow
from load_parts.users import use
from load_parts.writer import write

import stamp_index as si
from stamp_index.index import build_index
from stamp_index.index.recipes import IvfSq8Recipe
from stamp_index.store import Store

QUEUE = 16
REPORT_S = 300  # that a process may need to end what it is at


def main() -> None:
    asked = _arguments()
    folder = Path(asked.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    prepare(folder, asked.slides)
    seconds = 20.0 if asked.smoke else asked.minutes * 60
    with Server(folder / "store", folder / "server.log", "--max-queue", str(QUEUE)) as server:
        before = latency(server.url)
        print(
            f"Store of {asked.slides * world.PER_SLIDE:,} spots; {seconds / 60:.1f} minutes of mixed load.\n"
        )
        wrong = mixed(server, folder, seconds, asked)
        wrong += lost(server, folder)
        wrong += overloaded(server, before, 5.0 if asked.smoke else 20.0)
    sys.exit(1 if wrong else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", help="made anew")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument(
        "--clients", type=int, default=2, help="processes that search; one more reads"
    )
    parser.add_argument("--slides", type=int, default=100, help="of 500 spots each")
    parser.add_argument(
        "--every", type=float, default=1.5, help="seconds between two changes of the store"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="20 s on few slides, to see that it works"
    )
    asked = parser.parse_args()
    if asked.smoke:
        asked.slides, asked.clients, asked.every = min(asked.slides, 16), 1, 0.7
    return asked


def prepare(folder: Path, n_slides: int) -> None:
    """Make the store, its indexes, and the journal of what is in it."""
    store, signatures = world.make_store(folder, n_slides)
    np.save(folder / "signatures.npy", signatures)
    for side in ("image", "gene"):
        build_index(store, side, IvfSq8Recipe(nlist=max(8, n_slides)))
    journal = Journal(folder / "journal")
    slides = store.slides()
    for name, first in zip(slides["slide_id"], slides["first_spot"], strict=True):
        journal.write(store.version, add=int(name[1:]), first=int(first))


def mixed(server: Server, folder: Path, seconds: float, asked: argparse.Namespace) -> int:
    """Run users and the writer, and print what they saw. Returns the number of wrong answers."""
    processes = multiprocessing.get_context("spawn")
    users = [(seed, False, 0.0) for seed in range(asked.clients)] + [(99, True, 0.05)]
    stop, report = processes.Event(), processes.Queue()
    start = processes.Barrier(len(users) + 2)
    started = [
        processes.Process(target=use, args=(server.url, folder, (start, stop), user, report))
        for user in users
    ]
    started.append(processes.Process(target=write, args=(folder, start, stop, asked.every, report)))
    for process in started:
        process.start()
    start.wait(timeout=300)
    server.watch_memory(1.0 if asked.smoke else 10.0)
    until = time.monotonic() + seconds
    while time.monotonic() < until and all(process.is_alive() for process in started):
        time.sleep(0.5)
    crashed = sum(not process.is_alive() for process in started)
    stop.set()
    said = heard(report, started, len(started) - crashed)
    for process in started:
        process.join(60)
    return summary(said, server, len(started) - len(said))


def heard(
    report: multiprocessing.Queue, started: list[multiprocessing.Process], n: int
) -> list[tuple[str, tuple]]:
    """Wait for the reports of so many processes; of those that give none in time, where they are is written to stderr."""
    said = []
    try:
        while len(said) < n:
            said.append(report.get(timeout=REPORT_S))
    except Empty:
        for process in started:
            if process.is_alive():
                os.kill(process.pid, signal.SIGUSR1)  # faulthandler writes its stack
    return said


def summary(said: list[tuple[str, tuple]], server: Server, crashed: int) -> int:
    seconds, wrong, errors, recall = defaultdict(list), [], Counter(), []
    for who, found in said:
        if who == "writer":
            print("Writer: " + ", ".join(f"{n} {name}" for name, n in found.items()) + ".\n")
            continue
        for kind, values in found[0].items():
            seconds[kind] += values
        wrong += found[1]
        errors.update(found[2])
        recall += found[3]
    print("| request | n | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|")
    for kind, values in sorted(seconds.items()):
        marks = np.percentile(values, [50, 95, 99]) * 1e3
        print(f"| {kind} | {len(values):,} | " + " | ".join(f"{mark:.1f}" for mark in marks) + " |")
    total = sum(map(len, seconds.values()))
    print(f"\nRequests {total:,}; wrong answers {len(wrong)}; processes that failed {crashed}.")
    for line in wrong[:10]:
        print(f"- {line}")
    print(f"Refusals by status: {dict(errors) or 'none'}.")
    if recall:
        print(f"recall@10 of {len(recall):,} approximate searches: {np.mean(recall):.4f}.")
    marks = [f"{value:.0f} ({own:.0f})" for _, value, own in server.memory]
    print(f"Server's resident MiB (without mapped files): {' '.join(marks)}.")
    print(
        f"Slope over the second half: {server.slope_mib_per_hour():+.1f} MiB/hour, without mapped files "
        f"{server.slope_mib_per_hour(2):+.1f}.\n"
    )
    bad = {status: n for status, n in errors.items() if not status.startswith(("429", "503"))}
    return len(wrong) + crashed + sum(bad.values())


def lost(server: Server, folder: Path) -> int:
    """Compare the store with the shadow, row by row; and what the server shows of it. Returns the rows that differ."""
    store, shadow = Store.open(folder / "store"), Shadow(folder / "journal")
    shadow.alive()
    view = shadow.view(shadow.version)
    rows = view.rows[view.alive]
    there = store.rows()
    n_lost, n_more = len(np.setdiff1d(rows, there)), len(np.setdiff1d(there, rows))
    differ = 0
    if not n_lost and not n_more:
        for side in ("image", "gene"):
            found = store.vectors(side).astype(np.float32)
            differ += int((found != view.vectors[side][view.alive]).any(axis=1).sum())
        names = [
            f"{world.slide_id(n)}:B{s}"
            for n, s in zip(view.number[view.alive], view.spot[view.alive], strict=True)
        ]
        differ += int(
            (store.spots(["spot_id"])["spot_id"].to_numpy() != np.array(names, object)).sum()
        )
    with si.connect(server.url) as remote:
        until = time.monotonic() + 10
        while remote.store.refresh() != store.version and time.monotonic() < until:
            time.sleep(0.1)
        unseen = len(np.setxor1d(remote.store.rows(), there))
    print(
        f"At version {store.version} of {len(rows):,} rows: lost {n_lost}, too many {n_more}, different {differ}; "
        f"served otherwise {unseen}.\n"
    )
    return n_lost + n_more + differ + unseen


def overloaded(server: Server, before: np.ndarray, seconds: float) -> int:
    """Send ten times more clients than the queue holds. Returns the answers that are neither right nor a refusal."""
    counts, longest = overload(server.url, 10 * QUEUE, seconds)
    bad = {status: n for status, n in counts.items() if status not in ("200", "429", "503")}
    if not server.is_alive:
        bad["the server ended"] = 1
        after = np.array([np.nan])
    else:
        latency(server.url, 5)
        after = latency(server.url)
    print(
        f"Overload, {10 * QUEUE} clients on a queue of {QUEUE} for {seconds:g} s: {dict(counts)}; longest wait "
        f"{longest:.2f} s. Median of single requests {np.median(before) * 1e3:.1f} ms before, "
        f"{np.median(after) * 1e3:.1f} ms after; {server.resident_mib():.0f} MiB."
    )
    return sum(bad.values()) + int(not counts["429"] + counts["503"])


if __name__ == "__main__":
    main()
