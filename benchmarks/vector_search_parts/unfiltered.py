"""Search without a filter: ours beside raw FAISS, exact search, LanceDB, hnswlib and usearch."""

from __future__ import annotations

import gc
import json
from bisect import bisect_left
from dataclasses import dataclass

import click
import numpy as np

from benchmarks import search_data
from stamp_index.index.exact import ann_recall_at_k
from benchmarks.vector_search_parts.ours import N_HELD_OUT, Ours, OursFlat, RawFaiss
from benchmarks.vector_search_parts.peers import (
    FaissFlat,
    HnswLib,
    LanceDb,
    Peer,
    Setting,
    USearch,
    centres_of,
)
from benchmarks.vector_search_parts.report import table
from benchmarks.vector_search_parts.timing import ROUNDS, Search, cpu_ms, in_turns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.search_data import SearchData
    from pathlib import Path
    from collections.abc import Callable

K = 10
GROUPS = ("faiss", "exact", "lancedb", "graphs")
BATCHES = (1, 16, 256)
TARGET = 0.99
_CHOOSING = 128  # queries that a peer's setting is chosen on, of those that chose ours
_SLOW_ROUNDS = 3  # of exact search, which takes seconds
_MOST_LANCE_PQ = 500_000  # rows up to which LanceDB's IVF_PQ takes part: slower than its IVF_RQ to build and to search


@dataclass
class Entry:
    """One line of the table."""

    name: str
    setting: str
    search: Search
    bytes_per_vector: float


def run(folder: Path, n: int, dim: int, *, kind: str, groups: tuple[str, ...]) -> str:
    """Measure both modalities; one table for each."""
    data = search_data.load(folder / "data", n, dim)
    ours = Ours(folder, data, kind)
    base = folder / "built" / str(n)
    makers: dict[str, Callable[[str], list[Entry]]] = {
        "faiss": lambda modality: _same_parameters(ours, data, modality),
        "exact": lambda modality: _exact(data) if modality == "gene" else [],
        "lancedb": lambda modality: _lance(ours, data, base, modality),
        "graphs": lambda modality: [
            _best(peer(data, base), data, base, modality) for peer in (HnswLib, USearch)
        ],
    }
    parts = [f"{n:,} x {dim}, {kind} ({ours.bytes_per_vector:.1f} B/vector)."]
    for modality in ("gene", "image"):
        head = ["", "setting", "recall@10"]
        head += [f"batch {batch}, CPU / wall ms" for batch in BATCHES]
        head += [f"CPU by {other}" for other in ("ours, card", "ours, cheapest", "raw, same")]
        head += ["B/vector"]
        rows = []
        for name in groups:
            # One group after another, so that not all are in memory at once; ours is in each.
            rows += _measure(ours, data, modality, makers[name])
            click.echo(table(head, rows), err=True)
        parts.append(f"{modality.capitalize()} queries:\n\n{table(head, rows)}")
    return "\n\n".join(parts)


# ---- who takes part ------------------------------------------------------------------------------


def _same_parameters(ours: Ours, data: SearchData, modality: str) -> list[Entry]:
    """Raw FAISS over the same index object at the same settings; ours at those of the lower target."""
    raw = RawFaiss(ours, data)
    wanted = {
        "card .99": ours.chosen[TARGET],
        "cheapest .99": ours.cheapest(modality, TARGET),
        "card .95": ours.chosen[0.95],
    }
    out = []
    for why, setting in wanted.items():
        if setting is None:
            continue
        text = f"{why}: {setting[0]}, {setting[1]}"
        for who in (raw,) if why.endswith(".99") else (ours, raw):
            search = lambda q, who=who, setting=setting: who.search(q, K, setting)  # noqa: E731
            out.append(Entry(who.name, text, search, who.bytes_per_vector))
    return out


def _exact(data: SearchData) -> list[Entry]:
    flat = OursFlat(data)
    out = [Entry(flat.name, "exact", lambda q: flat.search(q, K), flat.bytes_per_vector)]
    for half in (False, True):
        peer = FaissFlat(data, half=half)
        search = lambda q, peer=peer: peer.search(q, K, ())  # noqa: E731
        out.append(Entry(peer.name, "exact", search, peer.bytes_per_vector))
    return out


def _lance(ours: Ours, data: SearchData, base: Path, modality: str) -> list[Entry]:
    """LanceDB with the centres of our lists and with its own, over its cheaper code; beside it the other code."""
    centres = centres_of(ours.engine.source.index)
    peers = [LanceDb(data, base, "IVF_RQ", centres=centres, num_bits=1)]
    if modality == "gene":
        peers.append(LanceDb(data, base, "IVF_RQ", num_bits=1))
        if len(data.vectors) <= _MOST_LANCE_PQ:
            peers.append(LanceDb(data, base, "IVF_PQ", centres=centres))
    return [_best(peer, data, base, modality) for peer in peers]


def _best(peer: Peer, data: SearchData, base: Path, modality: str) -> Entry:
    """Enter a peer at its best setting."""
    setting, recall = best_setting(peer, data, base, modality)
    reached = "cheapest .99" if recall >= TARGET else f"misses .99 ({recall:.3f})"
    return Entry(
        peer.name,
        f"{reached}: {', '.join(map(str, setting))}",
        lambda q: peer.search(q, K, setting),
        peer.bytes_per_vector,
    )


def best_setting(peer: Peer, data: SearchData, base: Path, modality: str) -> tuple[Setting, float]:
    """Cheapest setting that reaches the target, or the one that comes nearest; and its recall.

    Found once and kept in a file: trying LanceDB's settings takes minutes.
    """
    path = base / f"{peer.name.replace(' ', '_').replace(',', '')}-{modality}.json"
    if not path.is_file():
        path.write_text(json.dumps(_try_settings(peer, data, modality)), "utf-8")
    setting, recall = json.loads(path.read_text("utf-8"))
    return tuple(setting), recall


def _try_settings(peer: Peer, data: SearchData, modality: str) -> tuple[Setting, float]:
    queries = data.queries[modality][:_CHOOSING]
    truth = data.truth(modality)[:_CHOOSING]

    def recall_at(setting: Setting) -> float:
        return ann_recall_at_k(peer.search(queries, K, setting), truth)

    enough, nearest = [], []
    for ladder in peer.ladders:
        nearest.append((recall_at(ladder[-1]), ladder[-1]))
        if nearest[-1][0] < TARGET:
            continue
        first = bisect_left(ladder, TARGET, hi=len(ladder) - 1, key=recall_at)
        setting = ladder[first]
        cost = cpu_ms(lambda q, s=setting: peer.search(q, K, s), queries)
        if enough and cost > 1.5 * min(enough)[0]:
            break
        enough.append((cost, setting))
        if first == 0:
            break  # further ladders only cost more
    if enough:
        setting = min(enough)[1]
        return setting, recall_at(setting)
    recall, setting = max(nearest)
    return setting, recall


# ---- measuring -----------------------------------------------------------------------------------


def _measure(
    ours: Ours, data: SearchData, modality: str, group: Callable[[str], list[Entry]]
) -> list[list[str]]:
    """Lines of one group, with ours at two settings before it."""
    entries = group(modality)
    if not entries:
        return []
    entries = [*_ours(ours, modality), *entries]
    queries = data.queries[modality][N_HELD_OUT:]
    truth = data.truth(modality)[N_HELD_OUT:]
    searches = {f"{entry.name}|{entry.setting}": entry.search for entry in entries}
    keys = list(searches)
    rounds = _SLOW_ROUNDS if any(entry.setting == "exact" for entry in entries) else ROUNDS
    costs = {batch: in_turns(searches, queries, batch, rounds=rounds) for batch in BATCHES}
    rows = []
    for entry, key in zip(entries, keys, strict=True):
        recall = ann_recall_at_k(_all(entry.search, queries), truth)
        cells = [entry.name, entry.setting, f"{recall:.3f}"]
        cells += [f"{costs[b][key].cpu_ms:.2f} / {costs[b][key].wall_ms:.2f}" for b in BATCHES]
        for other in (*keys[:2], f"{RawFaiss.name}|{entry.setting}"):
            known = other in searches and other != key
            ratios = [f"{costs[b][key].ratio(costs[b][other]):.3g}" for b in BATCHES if known]
            cells.append(" / ".join(ratios))
        rows.append([*cells, f"{entry.bytes_per_vector:.0f}"])
    gc.collect()
    return rows


def _ours(ours: Ours, modality: str) -> list[Entry]:
    """Ours at the card's setting, safe for every modality, and at the cheapest for this one, as peers are."""
    wanted = {"card .99": ours.chosen[TARGET], "cheapest .99": ours.cheapest(modality, TARGET)}
    return [
        Entry(
            ours.name,
            f"{why}: {setting[0]}, {setting[1]}",
            lambda q, setting=setting: ours.search(q, K, setting),
            ours.bytes_per_vector,
        )
        for why, setting in wanted.items()
        if setting is not None
    ]


def _all(search: Search, queries: np.ndarray) -> np.ndarray:
    return np.concatenate([search(queries[at : at + 256]) for at in range(0, len(queries), 256)])
