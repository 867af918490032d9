"""Measuring an index on held-out queries, and choosing how thoroughly to search it.

Candidates are ranked again exactly, so a row of the exact top 10 is found if and only if it is among
the candidates: one search with many candidates tells the recall of every smaller number of them. That
holds for a graph too: FAISS walks it as far as efSearch says, and returns as many as are asked of what it met.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.index.engine.measured import Calibration, Choice, FilterRecall, HeldOut, Rung
from stamp_index.index.engine.search import Engine, Settings
from stamp_index.index.engine.sources import Lists, Look
from stamp_index.index.exact import check_queries, search_pieces
from stamp_index.index.faiss_library import load_faiss

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from stamp_index.index.engine.allowed import Allowed
    from stamp_index.index.engine.sources import Source

K: Final = 10  # depth at which recall is measured
TARGETS: Final = (0.95, 0.99)
_FIRST: Final = 4  # breadth that the ladder begins with
_STEP: Final = 2**0.5
_MOST_BREADTH: Final = 4_096
_TIMED: Final = 64  # queries that the cost is measured on
_ROUNDS: Final = 3
_FILTER_QUERIES: Final = 64
_FILTER_SHARES: Final = (0.5, 0.1, 0.01)


@dataclass(frozen=True)
class _Asked:
    """Queries of one modality, and their exact top 10 without the query itself: (q, 10), -1 where there are fewer."""

    queries: HeldOut
    truth: NDArray[np.int64]


def calibrate(
    engine: Engine,
    held_out: Mapping[str, HeldOut],
    *,
    ladder: Sequence[int] = (50, 100, 150, 200, 300, 400, 600, 800),
    targets: Sequence[float] = TARGETS,
    seed: int = 0,
) -> Calibration:
    """Measure recall and cost, and choose settings.

    Parameters
    ----------
    engine : Engine
        What is measured. Its cost is that of one thread; recall is measured with all of them.
    held_out : mapping of modality to HeldOut
        Queries that did not train the index; at least one modality with two, unless search is exact.
    ladder : sequence of int
        Numbers of candidates to try.
    targets : sequence of float
        Recalls at 10 to choose settings for.
    seed : int
        Of the filters.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        If there are no queries.
    """
    began = time.perf_counter()
    asked = {name: queries for name, queries in held_out.items() if len(queries.vectors) >= 2}
    if not asked and engine.source is not None:
        msg = "There are no held-out queries; give at least two of one modality."
        raise ValueError(msg)
    wanted = sorted(set(targets))
    rungs: list[Rung] = []
    filters: list[FilterRecall] = []
    plain = Engine(None, engine.vectors)
    exact_ms = _cpu_ms(plain, _timed(asked), Settings()) if asked else 0.0
    if engine.source is None:
        sure = dict.fromkeys(asked, 1.0)
        none = dict.fromkeys(asked, 0.0)
        choices = [
            Choice(target, 1, 1, sure, none, reached=True, cpu_ms=exact_ms) for target in wanted
        ]
    else:
        choosing, reporting = (_with_truth(engine, asked, half) for half in (0, 1))
        depths = _usable(ladder, len(engine))
        tables = _climb(engine.source, choosing, depths, max(wanted))
        rungs = _rungs(tables, depths, _costs(engine, _timed(asked), list(tables), depths))
        choices = [_choose(engine, reporting, rungs, target) for target in wanted]
        filters = _filtered(engine, asked, choices[-1].settings, seed)
    return Calibration(
        choices=tuple(choices),
        rungs=tuple(rungs),
        filters=tuple(filters),
        exact_cpu_ms=exact_ms,
        n_queries={name: len(queries.vectors) for name, queries in asked.items()},
        seconds=time.perf_counter() - began,
    )


def measure(
    engine: Engine, held_out: Mapping[str, HeldOut], settings: Settings
) -> dict[str, tuple[float, float]]:
    """Recall at 10 of whole searches by modality, and its standard error.

    Parameters
    ----------
    engine : Engine
        What is measured.
    held_out : mapping of modality to HeldOut
        Queries.
    settings : Settings
        What they are searched with.
    """
    out = {}
    for name, queries in held_out.items():
        recalls = _engine_recalls(engine, _Asked(queries, _truth(engine, queries)), settings)
        out[name] = float(recalls.mean()), _error(recalls)
    return out


# ---- the ladder ----------------------------------------------------------------------------------


def _with_truth(engine: Engine, held_out: Mapping[str, HeldOut], half: int) -> dict[str, _Asked]:
    halves = {name: queries.half(half) for name, queries in held_out.items()}
    return {name: _Asked(queries, _truth(engine, queries)) for name, queries in halves.items()}


def _climb(
    source: Source, asked: Mapping[str, _Asked], ladder: Sequence[int], target: float
) -> dict[int, dict[str, NDArray[np.float64]]]:
    """Try wider and wider searches until one is wide enough for the highest target.

    Returns
    -------
    dict of int to dict of str to ndarray of shape (q, depths)
        By breadth and modality, recall of each query with each number of candidates.
    """
    tables: dict[int, dict[str, NDArray[np.float64]]] = {}
    for breadth in _breadths(min(source.most(None), _MOST_BREADTH)):
        tables[breadth] = {
            name: _recalls(source, one, breadth, ladder) for name, one in asked.items()
        }
        if min(_safe(table[:, -1]) for table in tables[breadth].values()) >= target:
            break
    return tables


def _rungs(
    tables: Mapping[int, Mapping[str, NDArray[np.float64]]],
    ladder: Sequence[int],
    costs: Mapping[tuple[int, int], float],
) -> list[Rung]:
    return [
        Rung(
            breadth=breadth,
            n_rerank=depth,
            recall={name: float(table[:, i].mean()) for name, table in by_name.items()},
            safe={name: _safe(table[:, i]) for name, table in by_name.items()},
            cpu_ms=costs[breadth, depth],
        )
        for breadth, by_name in tables.items()
        for i, depth in enumerate(ladder)
    ]


def _usable(ladder: Sequence[int], n: int) -> list[int]:
    """Depths that are less than the rows there are; at least one."""
    return [depth for depth in sorted(set(ladder)) if depth < n] or [n]


def _breadths(most: int) -> list[int]:
    steps = int(np.log(max(most / _FIRST, 1)) / np.log(_STEP)) + 1
    return sorted({min(most, round(_FIRST * _STEP**step)) for step in range(steps)} | {most})


def _truth(engine: Engine, queries: HeldOut, allowed: Allowed | None = None) -> NDArray[np.int64]:
    """Exact top 10 without the query itself, (q, 10); -1 where there are fewer."""
    unit = check_queries(queries.vectors, engine.vectors.shape[1], K + 1)
    pieces = [(0, len(engine))] if allowed is None else allowed.all_pieces()
    _, rows = search_pieces(engine.vectors, unit, K + 1, pieces)
    return _without(rows, queries.own)


def _without(rows: NDArray[np.int64], own: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """First ten of each row that are not the query itself; filled with -1."""
    out = np.full((len(rows), K), -1, np.int64)
    for i, hits in enumerate(rows):
        kept = hits if own is None else hits[hits != own[i]]
        out[i, : min(len(kept), K)] = kept[:K]
    return out


def _recalls(
    source: Source, asked: _Asked, breadth: int, ladder: Sequence[int]
) -> NDArray[np.float64]:
    """Recall at 10 of each query with each number of candidates, (q, depths)."""
    queries, truth = asked.queries.vectors, asked.truth
    unit = check_queries(queries, queries.shape[1], K)
    breadth = source.breadth_for(breadth, K, None)
    found = source.codes(unit, Look(breadth, max(ladder)))  # (q, depth)
    shares = np.zeros((len(truth), len(ladder)))
    for i, hits in enumerate(found):
        there = truth[i][truth[i] >= 0]
        hit = np.isin(hits, there)
        shares[i] = [hit[:depth].sum() / max(len(there), 1) for depth in ladder]
    return shares


def _safe(recalls: NDArray[np.float64]) -> float:
    """Mean less one standard error."""
    return float(recalls.mean()) - _error(recalls)


def _error(recalls: NDArray[np.float64]) -> float:
    """Calculate the standard error of the mean."""
    return float(recalls.std() / len(recalls) ** 0.5)


def _costs(
    engine: Engine,
    queries: NDArray[np.float32],
    breadths: Sequence[int],
    ladder: Sequence[int],
) -> dict[tuple[int, int], float]:
    """CPU ms of a query at every setting: a plane through times of the smallest and largest depth.

    A single time is too noisy to choose by; that cost grows with both numbers is not in doubt.
    """
    timed, times = [], []
    for breadth in breadths:
        for depth in {ladder[0], ladder[-1]}:
            timed.append((1.0, float(breadth), float(depth)))
            times.append(_cpu_ms(engine, queries, Settings(breadth, depth)))
    from scipy.optimize import nnls

    # Weighed by 1 / time, so that the cheap settings, which are chosen, fit best.
    weights = 1 / np.maximum(np.array(times), 1e-6)
    plane, _ = nnls(np.array(timed) * weights[:, None], np.array(times) * weights)
    return {
        (breadth, depth): float(plane @ (1.0, breadth, depth))
        for breadth in breadths
        for depth in ladder
    }


def _timed(held_out: Mapping[str, HeldOut]) -> NDArray[np.float32]:
    """Take queries of every modality to measure the cost on."""
    each = -(-_TIMED // len(held_out))
    return np.concatenate([queries.first(each).vectors for queries in held_out.values()])


def _cpu_ms(engine: Engine, queries: NDArray[np.float32], settings: Settings) -> float:
    times = []
    with _one_thread():
        for _ in range(_ROUNDS):
            began = time.thread_time()
            engine.search(queries, K, settings=settings)
            times.append(time.thread_time() - began)
    return float(np.median(times)) / len(queries) * 1e3


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have FAISS use one thread when called from this one; others are not affected."""
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


# ---- choosing and reporting ----------------------------------------------------------------------


def _choose(
    engine: Engine, asked: Mapping[str, _Asked], rungs: Sequence[Rung], target: float
) -> Choice:
    """Cheapest rung that is safe for every modality, or the best; measured on the other half."""
    safe = [rung for rung in rungs if min(rung.safe.values()) >= target]
    if safe:
        best = min(safe, key=lambda rung: rung.cpu_ms)
    else:
        best = max(rungs, key=lambda rung: (min(rung.recall.values()), -rung.cpu_ms))
    settings = Settings(best.breadth, best.n_rerank)
    recalls = {name: _engine_recalls(engine, one, settings) for name, one in asked.items()}
    recall = {name: float(each.mean()) for name, each in recalls.items()}
    error = {name: _error(each) for name, each in recalls.items()}
    reached = all(recall[name] + error[name] >= target for name in recall)
    return Choice(
        target=target,
        breadth=best.breadth,
        n_rerank=best.n_rerank,
        recall=recall,
        error=error,
        reached=reached,
        cpu_ms=best.cpu_ms,
    )


def _engine_recalls(
    engine: Engine, asked: _Asked, settings: Settings, allowed: Allowed | None = None
) -> NDArray[np.float64]:
    """Recall at 10 of whole searches, (q,)."""
    queries, truth = asked.queries, asked.truth
    _, rows = engine.search(queries.vectors, K + 1, settings=settings, allowed=allowed)
    found = _without(rows, queries.own)
    there = truth >= 0
    hit = (truth[:, :, None] == found[:, None, :]).any(axis=2) & there
    shares: NDArray[np.float64] = hit.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return shares


def _filtered(
    engine: Engine, held_out: Mapping[str, HeldOut], settings: Settings, seed: int
) -> list[FilterRecall]:
    """Recall under filters at random, and under filters that follow the inverted lists."""
    rng = np.random.default_rng(seed)
    asked = {name: half.half(1).first(_FILTER_QUERIES) for name, half in held_out.items()}
    kinds = [False, True] if isinstance(engine.source, Lists) else [False]
    out = []
    for follows in kinds:
        for share in _FILTER_SHARES:
            mask = _mask(engine, share, rng, follows=follows)
            if np.count_nonzero(mask) <= K:
                continue
            allowed = engine.prepare(mask)
            recall = {}
            for name, queries in asked.items():
                one = _Asked(queries, _truth(engine, queries, allowed))
                recall[name] = float(_engine_recalls(engine, one, settings, allowed).mean())
            out.append(FilterRecall(share, follows, recall))
    return out


def _mask(
    engine: Engine, share: float, rng: np.random.Generator, *, follows: bool
) -> NDArray[np.bool_]:
    n = len(engine)
    if not follows or not isinstance(engine.source, Lists):
        return rng.random(n) < share
    order = rng.permutation(engine.source.n_lists)
    sizes = np.bincount(engine.source.list_of, minlength=len(order))[order]
    chosen = np.zeros(len(order), np.bool_)
    chosen[order[: np.searchsorted(np.cumsum(sizes), share * n) + 1]] = True
    return chosen[engine.source.list_of]
