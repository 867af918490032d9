"""Requests and bytes of a store in object storage: one slide added, opening, searches, hits, an index that grew."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.cost_model_parts.counting_s3 import COUNTS
from benchmarks.cost_model_parts.known import REQUEST_SPOTS
from benchmarks.cost_model_parts.slide_world import card, slide_rows
from stamp_index.index import build_index
from stamp_index.index.folding import fold_index
from stamp_index.index.recipes import FlatRecipe
from stamp_index.search import VectorSearcher
from stamp_index.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIM: Final = 64
GENES: Final = 2_000
UMI: Final = 2_000
HITS: Final = 48


def run_requests(folder: Path, slides: int, compact: int) -> dict[str, Any]:
    """Count the requests of each step on a store of so many slides, compacted first where `compact` is 1."""
    with _bucket(folder) as (port, address):
        values: dict[str, Any] = {}

        def count(name: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it returns
            _taken(port)
            result = call()
            values[name] = _taken(port)
            return result

        store = count("create", lambda: Store.create(address, card(DIM)))
        for number in range(slides - 1):
            store.add(_rows(number))
        if compact:
            count("compact", store.compact)
        build_index(store, "image", FlatRecipe(n_queries=8))
        count("add", lambda: store.add(_rows(slides)))
        count("fold_and_push", lambda: fold_index(store, "image"))
        _count_reading(count, address, folder / "cache")
        store.refresh()
        count("refresh", store.refresh)
        count("delete", lambda: store.delete("slide000000"))
    return values


def run_compaction(folder: Path, slides: int, pictures: int) -> dict[str, Any]:
    """Count the requests of compacting a store whose spots have a picture each, or none."""
    with _bucket(folder) as (port, address):
        store = Store.create(address, card(DIM))
        for number in range(slides):
            rows = _rows(number)
            store.add(rows if pictures else replace(rows, thumbnails=None))
        _taken(port)
        store.compact()
        return {"rows": store.n_spots, "compact": _taken(port)}


@contextmanager
def _bucket(folder: Path) -> Iterator[tuple[int, str]]:
    """Run a server of our own: its port, and where a store can be made. Nothing is cached before and after."""
    from tests.s3_world import environment, make_bucket

    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    with _server() as port:
        os.environ |= {**environment(port), "STAMP_INDEX_CACHE": str(cache)}
        yield port, f"{make_bucket(port, 'counted')}/store"
    shutil.rmtree(cache, ignore_errors=True)


def _count_reading(count: Callable[..., Any], address: str, cache: Path) -> None:
    """Count what a reader asks for: with nothing here, and when it has been here before."""
    shutil.rmtree(cache, ignore_errors=True)
    store = count("open", lambda: Store.open(address))
    count("slides", store.slides)
    count("layout", store.rows)
    searcher = count("open_searcher", lambda: VectorSearcher.open(address))
    query = np.eye(DIM, dtype=np.float32)[0]
    genes = ("GENE1", "GENE2")
    hits = count("search_first", lambda: searcher.search_vector(query, k=HITS, genes=genes))
    count("search", lambda: searcher.search_vector(query, k=HITS, genes=genes))
    count("pictures", hits.thumbnails)
    count("open_searcher_again", lambda: VectorSearcher.open(address))


def _rows(number: int) -> Any:  # noqa: ANN401 - SlideRows
    return slide_rows(number, REQUEST_SPOTS, DIM, genes=GENES, umi=UMI)


@contextmanager
def _server() -> Iterator[int]:
    script = Path(__file__).with_name("counting_s3.py")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"},
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _taken(port: int) -> dict[str, int]:
    """Take the counts since the last time."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{COUNTS}", timeout=60) as answer:
        counts: dict[str, int] = json.load(answer)
        return counts
