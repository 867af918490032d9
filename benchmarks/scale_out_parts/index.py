"""An index built in one process, and with its lists filled by workers on Ray."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from search_data import load

from stamp_index.crew import open_crew
from stamp_index.index import Fillers, load_recipe
from stamp_index.index.engine import build
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.faiss_library import load_faiss
from stamp_index.machine import usable_cores

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from faiss import Index
    from numpy.typing import NDArray

    from stamp_index.index import IndexRecipe


@dataclass
class Watch:
    """When each stage of a build was first heard of."""

    began: dict[str, float] = field(default_factory=dict)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note a stage; training has ended when all its rows are told as done."""
        name = "trained" if (stage, done) == ("train", total) else stage
        self.began.setdefault(name, time.perf_counter())


@dataclass(frozen=True)
class Built:
    """One build: seconds of all of it and of filling and joining, and what came out."""

    seconds: float
    fill_s: float
    content: bytes
    ids: list[bytes]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this part."""
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--recipe", default="ivf_pq")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--address", help="Ray cluster; by default one of its own")


def run(args: argparse.Namespace) -> str:
    """Build by turns; Markdown."""
    cores, recipe = usable_cores(), load_recipe(args.recipe)
    load_faiss().omp_set_num_threads(cores)
    pairs = []
    with TemporaryDirectory(prefix="scale-out-") as name:
        vectors = load(name, args.n, args.dim).vectors
        with open_crew("ray", address=args.address, n_workers=cores) as crew:
            for number in range(args.rounds):
                here = timed(vectors, recipe, Path(name) / "here", None)
                there = timed(vectors, recipe, Path(name) / "there", Fillers(crew))
                print(
                    f"round {number}: {here.seconds:.1f} s here, {there.seconds:.1f} s on Ray",
                    file=sys.stderr,
                )
                pairs.append((here, there))
    return report(args, cores, pairs)


def timed(
    vectors: NDArray[np.float16], recipe: IndexRecipe, work: Path, fillers: Fillers | None
) -> Built:
    """Build from the beginning."""
    watch, began = Watch(), time.perf_counter()
    index = build(vectors, recipe, work, fillers=fillers, progress=watch)
    seconds = time.perf_counter() - began
    content = (work / "index.faiss").read_bytes()
    shutil.rmtree(work)
    fill_s = watch.began["write"] - watch.began["trained"]
    return Built(seconds, fill_s, content, ids_of(index))


def ids_of(index: Index) -> list[bytes]:
    """Ids of every list, in their order."""
    faiss, lists = load_faiss(), inner_lists(index)
    found = []
    for number in range(lists.nlist):
        size = lists.invlists.list_size(number)
        found.append(faiss.rev_swig_ptr(lists.invlists.get_ids(number), size).tobytes())
    return found


def report(args: argparse.Namespace, cores: int, pairs: list[tuple[Built, Built]]) -> str:
    """Medians of the rounds, and of the ratios within a round."""
    first = pairs[0][0]
    same_ids = all(one.ids == first.ids for pair in pairs for one in pair)
    same_bytes = all(one.content == first.content for pair in pairs for one in pair)
    lines = [
        f"{args.recipe}, {args.n:,} x {args.dim}, {cores} cores: {cores} threads here, {cores} workers on Ray; "
        f"medians of {len(pairs)} rounds by turns",
        "",
        "| | here | on Ray | here / on Ray |",
        "|---|---|---|---|",
    ]
    for name, what in (("whole build", "seconds"), ("filling and joining", "fill_s")):
        here, there = zip(*((getattr(a, what), getattr(b, what)) for a, b in pairs), strict=True)
        ratio = median(one / other for one, other in zip(here, there, strict=True))
        lines.append(f"| {name} | {median(here):.2f} s | {median(there):.2f} s | {ratio:.2f} |")
    yes = {True: "yes", False: "NO"}
    lines += ["", f"Ids byte-equal: {yes[same_ids]}; files byte-equal: {yes[same_bytes]}."]
    return "\n".join(lines)
