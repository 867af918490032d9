"""Search under filters, independent of the clusters and following them; LanceDB's prefilter beside it."""

from __future__ import annotations

import time

import click

from benchmarks import search_data
from stamp_index.index.engine import Settings
from stamp_index.index.exact import ann_recall_at_k
from benchmarks.vector_search_parts.ours import N_HELD_OUT, Ours
from benchmarks.vector_search_parts.peers import LanceDb, centres_of
from benchmarks.vector_search_parts.report import table
from benchmarks.vector_search_parts.timing import Search, in_turns
from benchmarks.vector_search_parts.unfiltered import best_setting
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.search_data import SearchData
    from pathlib import Path

K = 10
SHARES = (0.5, 0.1, 0.01, 0.001)
ATTRIBUTES = ("independent", "follows")
BATCHES = (1, 16, 256)
TARGETS = (0.95, 0.99)
MODALITY = "gene"
HEAD = [
    *("filter", "rows", "", "prepared once, ms", "recall@10"),
    *(f"batch {batch}, CPU ms" for batch in BATCHES),
    "by the same without a filter",
]


def run(folder: Path, n: int, dim: int, *, kind: str) -> str:
    """Measure every share and attribute; one table."""
    data = search_data.load(folder / "data", n, dim)
    ours = Ours(folder, data, kind)
    centres = centres_of(ours.engine.source.index)
    base = folder / "built" / str(n)
    lance = LanceDb(data, base, "IVF_RQ", centres=centres, num_bits=1)
    lance_setting, _ = best_setting(lance, data, base, MODALITY)
    rows = []
    for attribute in ATTRIBUTES:
        for share in SHARES:
            rows += _measure(ours, data, (attribute, share), (lance, lance_setting))
            click.echo(table(HEAD, rows[-len(TARGETS) - 1 :]), err=True)
    text = (
        f"{n:,} x {dim}, gene queries, {kind}; LanceDB IVF_RQ with our centres, nprobes "
        f"{lance_setting[0]}, refine factor {lance_setting[1]}, prefilter with a B-tree."
    )
    return f"{text}\n\n{table(HEAD, rows)}"


def _measure(
    ours: Ours, data: SearchData, asked: tuple[str, float], peer: tuple[LanceDb, tuple[int, int]]
) -> list[list[str]]:
    """Search under one filter: each contender beside itself without the filter."""
    attribute, share = asked
    lance, lance_setting = peer
    mask = getattr(data, attribute) < share
    ours.engine.prepare(mask[:])  # the table of lists is read once for all filters
    began = time.thread_time()
    allowed = ours.engine.prepare(mask)
    prepared_ms = (time.thread_time() - began) * 1e3
    where = f"{attribute} < {share!r}"
    pairs: dict[str, tuple[Search, Search]] = {}
    for target in TARGETS:
        settings = Settings(*ours.chosen[target])
        pairs[f"ours, card {target:g}: {settings.breadth}, {settings.n_rerank}"] = (
            lambda q, s=settings: ours.engine.search(q, K, settings=s)[1],
            lambda q, s=settings: ours.engine.search(q, K, settings=s, allowed=allowed)[1],
        )
    pairs["LanceDB"] = (
        lambda q: lance.search(q, K, lance_setting),
        lambda q: lance.search(q, K, lance_setting, where),
    )
    searches = {f"{name}|{i}": pair[i] for name, pair in pairs.items() for i in (0, 1)}
    queries = data.queries[MODALITY][N_HELD_OUT:]
    truth = data.truth(MODALITY, share, attribute)[N_HELD_OUT:]
    costs = {batch: in_turns(searches, queries, batch, rounds=3) for batch in BATCHES}
    rows = []
    for name, (_, search) in pairs.items():
        cells = [f"{attribute} {share:.1%}", f"{allowed.n:,}", name]
        cells.append(f"{prepared_ms:.1f}" if name.startswith("ours") else "")
        cells.append(f"{ann_recall_at_k(search(queries), truth):.3f}")
        under = [costs[batch][f"{name}|1"] for batch in BATCHES]
        plain = [costs[batch][f"{name}|0"] for batch in BATCHES]
        cells += [f"{cost.cpu_ms:.2f}" for cost in under]
        cells.append(" / ".join(f"{a.ratio(b):.2f}" for a, b in zip(under, plain, strict=True)))
        rows.append(cells)
    return rows
