"""Four processes that write to one store on an S3 server of loopback, while some of them are killed."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from scale_out_parts.write import CARD_PRINT, Writer

from stamp_index.errors import DuplicateSlideError
from stamp_index.store import EncoderCard, Store
from stamp_index.store.housekeeping import require_whole
from stamp_index.store.manifest import read_manifest
from tests.s3_world import environment, make_bucket, s3_server

if TYPE_CHECKING:
    import argparse
    from multiprocessing.connection import Connection

DIM = 32
N_SPOTS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this part."""
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--slides", type=int, default=120)
    parser.add_argument("--kills", type=int, default=10)


def run(args: argparse.Namespace) -> str:
    """Write, kill, and look; Markdown."""
    with s3_server() as port, TemporaryDirectory(prefix="scale-out-") as cache:
        os.environ.update(environment(port) | {"STAMP_INDEX_CACHE": cache})
        address = f"{make_bucket(port, 'scale-out')}/store"
        Store.create(address, EncoderCard("vec", CARD_PRINT, DIM, 112.0, 224, 336.0, "none"))
        began = time.perf_counter()
        acknowledged, interrupted = written(args, address)
        seconds = time.perf_counter() - began
        store = Store.open(address)
        require_whole(store.place, read_manifest(store.place))
        ids = store.slides()["slide_id"].tolist()
        wrong = differing(store)
    whole = sorted(ids) == sorted(f"S{number}" for number in range(args.slides))
    return "\n".join(
        [
            f"{args.writers} writers, {args.slides} slides of {N_SPOTS} spots, each offered by two of them; {args.kills} times one was killed "
            f"(kill -9) and started again: {seconds:.0f} s, {store.version - 1} versions.",
            "",
            "| acknowledged | there | lost | doubled | acknowledged twice | killed in the middle of adding | slides with other vectors |",
            "|---|---|---|---|---|---|---|",
            f"| {len(acknowledged)} | {len(ids)} | {len(set(acknowledged) - set(ids))} | {len(ids) - len(set(ids))} | "
            f"{len(acknowledged) - len(set(acknowledged))} | {interrupted} | {wrong} |",
            "",
            f"Every slide there once: {'yes' if whole else 'NO'}.",
        ]
    )


def write(address: str, numbers: list[int], told: Connection) -> None:
    """Add slides; tell of each before and after."""
    writer = Writer(address, DIM, N_SPOTS)
    for number in numbers:
        told.send(("begin", number))
        try:
            writer(number)
        except DuplicateSlideError:
            told.send(("there", number))
        else:
            told.send(("added", number))
    told.send(("end", -1))


def written(args: argparse.Namespace, address: str) -> tuple[list[str], int]:
    """Have everything written while writers are killed; what was acknowledged, and how many were killed while adding."""
    context = multiprocessing.get_context("spawn")
    rng = np.random.default_rng(0)
    said: list[tuple[str, int]] = []
    interrupted = 0

    def start(at: int) -> tuple[Any, Any]:
        ours, theirs = context.Pipe()
        numbers = range(args.slides)
        mine = [*numbers[at :: args.writers], *numbers[(at + 1) % args.writers :: args.writers]]
        process = context.Process(target=write, args=(address, mine, theirs))
        process.start()
        theirs.close()
        return ours, process

    running = [start(at) for at in range(args.writers)]
    for kill in range(args.kills):
        pipe, process = running[kill % args.writers]
        pipe.poll(120)  # it has begun
        time.sleep(rng.uniform(0.0, 2.0))
        process.kill()
        process.join()
        heard = drained(pipe)
        interrupted += bool(heard) and heard[-1][0] == "begin"
        said += heard
        running[kill % args.writers] = start(kill % args.writers)
        print(f"kill {kill + 1}: {len(said)} messages", file=sys.stderr)
    for pipe, process in running:
        while (heard := drained(pipe, wait_s=300)) and heard[-1][0] != "end":
            said += heard
        said += heard
        process.join()
    return [f"S{number}" for kind, number in said if kind == "added"], interrupted


def drained(pipe: Any, wait_s: float = 0.0) -> list[tuple[str, int]]:  # noqa: ANN401 - a Connection
    """Everything that was told so far; waits for the first."""
    heard = []
    while pipe.poll(0 if heard else wait_s):
        try:
            heard.append(pipe.recv())
        except (EOFError, OSError):
            break
    return heard


def differing(store: Store) -> int:
    """Slides whose vectors are not those that were written."""
    writer = Writer(str(store.place), DIM, N_SPOTS)
    wrong = 0
    slides = store.slides()
    for slide_id, first, n in zip(
        slides["slide_id"], slides["first_spot"], slides["n_spots"], strict=True
    ):
        moved = np.roll(writer.vectors, int(slide_id[1:]), axis=0).astype(np.float16)
        held = store.vectors("image", np.arange(first, first + n))
        wrong += n != N_SPOTS or not np.array_equal(held, moved)
    return wrong
