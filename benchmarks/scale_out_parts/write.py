"""Rows written to a store by one writer here, and by workers on Ray."""

from __future__ import annotations

import shutil
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import random as random_sparse

from stamp_index.crew import open_crew
from stamp_index.crew.local import LocalCrew
from stamp_index.machine import usable_cores
from stamp_index.slides import Slide
from stamp_index.store import EncoderCard, SlideRows, Store

if TYPE_CHECKING:
    import argparse

    from stamp_index.crew import Crew

N_GENES = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this part."""
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--slide-spots", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=2)


class Writer:
    """Makes slides of random numbers and adds them to a store; the numbers of all are the same, in another order."""

    def __init__(self, store: str, dim: int, n_spots: int) -> None:
        self.store, rng = Store.open(store), np.random.default_rng(0)
        vectors = rng.standard_normal((n_spots, dim), np.float32)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.counts = random_sparse(n_spots, N_GENES, 0.1, format="csr", random_state=0)
        self.counts.data = np.ceil(self.counts.data * 9).astype(np.float32)

    def __call__(self, number: int) -> int:
        """Add slide `number`; returns its spots."""
        n, counts = len(self.vectors), self.counts.copy()
        counts.data[0] = number + 1  # no slide is another's twin
        barcodes = pd.Index([f"B{i}" for i in range(n)])
        places = {"x_px": np.arange(n) % 70 * 100.0, "y_px": np.arange(n) // 70 * 100.0}
        slide = Slide(
            slide_id=f"S{number}",
            spots=pd.DataFrame(places, barcodes),
            counts=counts,
            genes=tuple(f"G{i}" for i in range(N_GENES)),
            image=None,
            mpp=0.5,
            spot_diameter_um=55.0,
        )
        moved = np.roll(self.vectors, number, axis=0)
        self.store.add(SlideRows(slide, moved, moved, None, None, CARD_PRINT), lock_timeout_s=600)
        return n


CARD_PRINT = "0f0f"


def run(args: argparse.Namespace) -> str:
    """Write by turns; Markdown."""
    cores = usable_cores()
    pairs = []
    with (
        TemporaryDirectory(prefix="scale-out-") as name,
        open_crew("ray", n_workers=cores) as crew,
    ):
        for number in range(args.rounds):
            here = written(args, Path(name) / "here", LocalCrew())
            there = written(args, Path(name) / "there", crew)
            print(f"round {number}: {here:.1f} s here, {there:.1f} s on Ray", file=sys.stderr)
            pairs.append((here, there))
    ratio = median(here / there for here, there in pairs)
    n = args.n // args.slide_spots * args.slide_spots
    return "\n".join(
        [
            f"{n:,} rows of two float16 vectors of {args.dim}, in slides of {args.slide_spots:,}; {cores} cores: one writer here, {cores} on "
            f"Ray; medians of {len(pairs)} rounds by turns",
            "",
            "| | one writer here | on Ray | throughput on Ray / here |",
            "|---|---|---|---|",
            f"| rows a second | {n / median(p[0] for p in pairs):,.0f} | {n / median(p[1] for p in pairs):,.0f} | {ratio:.2f} |",
        ]
    )


def written(args: argparse.Namespace, path: Path, crew: Crew) -> float:
    """Write all slides into a new store: seconds. Whatever is not there once ends the script."""
    shutil.rmtree(path, ignore_errors=True)
    store = Store.create(path, EncoderCard("vec", CARD_PRINT, args.dim, 112.0, 224, 336.0, "none"))
    slides = range(args.n // args.slide_spots)
    began = time.perf_counter()
    make = partial(Writer, str(path), args.dim, args.slide_spots)
    n = sum(done.result for done in crew.run(make, slides))
    seconds = time.perf_counter() - began
    store.refresh()
    ids = store.slides()["slide_id"].tolist()
    if sorted(ids) != sorted(f"S{number}" for number in slides) or store.n_spots != n:
        msg = f"{len(ids)} slides and {store.n_spots} spots are there; {len(slides)} and {n} were written"
        raise SystemExit(msg)
    return seconds
