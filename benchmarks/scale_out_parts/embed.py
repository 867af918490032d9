"""Slides embedded in this process and by workers on two nodes of Ray, one of which is then killed in the middle."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from scale_out_parts.nodes import kill_second, two_nodes

from stamp_index.crew import open_crew
from stamp_index.embed.add import add_slides
from stamp_index.embed.manifest import entries_of
from stamp_index.machine import usable_cores
from stamp_index.phantom import make_phantom
from stamp_index.readers import find_slides
from stamp_index.training import run_trainer

if TYPE_CHECKING:
    from stamp_index.store import Store
    import argparse
    from collections.abc import Callable

    from stamp_index.crew import Crew


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this part."""
    parser.add_argument("--slides", type=int, default=12, help="even")
    parser.add_argument("--spots", type=int, default=800, help="of a slide")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--encoder", type=Path, help="Checkpoint; by default closed_form is trained on a slide."
    )
    parser.add_argument("--data", type=Path, help="Folder of slides; drawn here if it is missing.")


def run(args: argparse.Namespace) -> str:
    """Embed by turns, then with a node killed; Markdown."""
    with TemporaryDirectory(prefix="scale-out-") as name:
        work = Path(name)
        data = args.data or work / "slides"
        if not data.exists():
            make_phantom(
                data, n_patients=args.slides // 2, slides_per_patient=2, spots_per_slide=args.spots
            )
        entries = entries_of([data])
        encoder = args.encoder or trained(data, work / "run")
        pairs = []
        with two_nodes() as cluster:
            for number in range(args.rounds):
                here = embedded(entries, encoder, work / "here", None)
                with open_crew("ray", address=cluster.address) as crew:
                    there = embedded(entries, encoder, work / "there", crew)
                print(
                    f"round {number}: {here[0]:.1f} s here, {there[0]:.1f} s on Ray",
                    file=sys.stderr,
                )
                pairs.append((here, there))
            killed = with_a_kill(entries, encoder, work / "killed", cluster)
    return report(len(entries), pairs, killed)


def trained(data: Path, run: Path) -> Path:
    """Fit the encoder that takes seconds."""
    slides = [str(path) for path in find_slides(data)[:4]]
    status = run_trainer(
        ["train", *slides, "--recipe", "closed_form", "--hold-out-patient", "P2", "--out", str(run)]
    )
    if status != 0:
        raise SystemExit(status)
    return run / "encoder"


def embedded(
    entries: list[Any],
    encoder: Path,
    store: Path,
    crew: Crew | None,
    heard: Callable[[int], object] = int,
) -> tuple[float, dict[str, bytes], dict[str, int]]:
    """Embed everything into a new store: seconds, the vectors of each slide, and how slides ended."""
    shutil.rmtree(store, ignore_errors=True)
    began = time.perf_counter()
    made, outcomes = add_slides(
        store, entries, encoder_path=encoder, crew=crew, watcher=Heard(heard)
    )
    seconds = time.perf_counter() - began
    states: dict[str, int] = {}
    for one in outcomes:
        states[one.state] = states.get(one.state, 0) + 1
    return seconds, contents(made), states


class Heard:
    """Counts the slides that have ended."""

    def __init__(self, heard: Callable[[int], object]) -> None:
        self.heard, self.n = heard, 0

    def begin(self, entry: Any, at: int, n: int) -> None:  # noqa: ANN401
        """Hear nothing of beginnings."""

    def step(self, done: int, total: int) -> None:
        """Hear nothing of steps."""

    def end(self, outcome: Any) -> None:  # noqa: ANN401
        """Count one."""
        self.n += 1
        self.heard(self.n)

    def hear(self, news: Any, n: int) -> None:  # noqa: ANN401
        """Hear nothing of workers."""


def contents(store: Store) -> dict[str, bytes]:
    """Vectors of every slide, whatever the order in which they were added."""
    slides = store.slides()
    ids = slides["slide_id"].tolist()
    if len(set(ids)) != len(ids):
        msg = f"slides stand twice: {ids}"
        raise SystemExit(msg)
    found = {}
    for slide_id, first, n in zip(ids, slides["first_spot"], slides["n_spots"], strict=True):
        rows = np.arange(first, first + n)
        found[slide_id] = b"".join(
            store.vectors(side, rows).tobytes() for side in ("image", "gene")
        )
    return found


def with_a_kill(entries: list[Any], encoder: Path, store: Path, cluster: Any) -> Any:  # noqa: ANN401
    """Embed, and kill a node when a third of the slides is there."""
    after = max(1, len(entries) // 3)

    def heard(n: int) -> None:
        if n == after:
            kill_second(cluster)

    with open_crew("ray", address=cluster.address) as crew:
        return embedded(entries, encoder, store, crew, heard)


def report(n: int, pairs: list[Any], killed: Any) -> str:  # noqa: ANN401
    """Medians of the rounds and of the ratios within a round."""
    same = all(pair[0][1] == pair[1][1] == pairs[0][0][1] for pair in pairs)
    ratio = median(here[0] / there[0] for here, there in pairs)
    n_spots = sum(len(v) for v in killed[1].values())
    seconds, found, states = killed
    whole = found == pairs[0][0][1]
    return "\n".join(
        [
            f"{n} phantom slides, {usable_cores()} cores: one process here, two nodes of one core on Ray; medians of {len(pairs)} rounds by turns",
            "",
            "| | here | on Ray | throughput on Ray / here |",
            "|---|---|---|---|",
            f"| read, embed, write | {median(p[0][0] for p in pairs):.1f} s | {median(p[1][0] for p in pairs):.1f} s | {ratio:.2f} |",
            "",
            f"Vectors of every slide equal to the bit: {'yes' if same else 'NO'}.",
            f"One node killed after {max(1, n // 3)} of {n} slides: {seconds:.1f} s, ended as {states}, every slide once and equal to "
            f"the bit: {'yes' if whole else 'NO'} ({n_spots:,} bytes compared).",
        ]
    )
