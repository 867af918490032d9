"""Cost of searches, measured in turns: what disturbs the machine disturbs all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import numpy as np

Search = Callable[[np.ndarray], np.ndarray]  # queries (b, d) to row numbers (b, k)

ROUNDS = 5
_TURN_S = 0.15  # CPU seconds of one turn, where the queries last so long


@dataclass
class Cost:
    """CPU and wall time of one query, in ms, once for each round.

    CPU time is that of the whole process: threads of a library count, wherever they run.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def cpu_ms(self) -> float:
        """Median over rounds."""
        return median(self.cpu)

    @property
    def wall_ms(self) -> float:
        """Median over rounds."""
        return median(self.wall)

    def ratio(self, other: Cost) -> float:
        """CPU time in units of another's: median of the ratios of the same round."""
        return median(a / b for a, b in zip(self.cpu, other.cpu, strict=True))


def in_turns(
    searches: dict[str, Search], queries: np.ndarray, batch: int, *, rounds: int = ROUNDS
) -> dict[str, Cost]:
    """Time every search in every round, each round beginning with another one."""
    n_calls = {name: _calls(search, queries, batch) for name, search in searches.items()}
    costs = {name: Cost() for name in searches}
    names = list(searches)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            cpu, wall = time.process_time(), time.perf_counter()
            for start in range(0, n_calls[name] * batch, batch):
                searches[name](queries[start : start + batch])
            each = 1e3 / (n_calls[name] * batch)
            costs[name].cpu.append((time.process_time() - cpu) * each)
            costs[name].wall.append((time.perf_counter() - wall) * each)
    return costs


def _calls(search: Search, queries: np.ndarray, batch: int) -> int:
    """Say how many calls make a turn; warms the search up."""
    each = 0.0
    for _ in range(2):
        if each < _TURN_S:  # else a second try would tell nothing new
            began = time.process_time()
            search(queries[:batch])
            each = max(time.process_time() - began, 1e-6)
    return int(min(max(_TURN_S / each, 1), len(queries) // batch))


def cpu_ms(search: Search, queries: np.ndarray) -> float:
    """CPU time of a query: a rough figure to choose settings by."""
    began = time.process_time()
    search(queries)
    return (time.process_time() - began) / len(queries) * 1e3
