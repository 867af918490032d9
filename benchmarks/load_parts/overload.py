"""Overload: ten times more clients than the queue holds, and the time after it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import numpy as np
import urllib3

from load_parts.wrong import require
from load_parts import world


def latency(url: str, n: int = 40) -> np.ndarray:
    """Seconds of single requests, one after the other."""
    pool, found = urllib3.PoolManager(), []
    for seed in range(n):
        began = time.perf_counter()
        require(_ask(pool, url, seed) == 200, "a single request was refused")
        found.append(time.perf_counter() - began)
    return np.array(found)


def overload(url: str, n_clients: int, seconds: float) -> tuple[Counter, float]:
    """Statuses of requests of many clients at once, and the longest that one waited for its answer."""
    counts: Counter = Counter()
    longest, lock, stop = [0.0], threading.Lock(), threading.Event()

    def ask(seed: int) -> None:
        pool = urllib3.PoolManager(retries=False)
        while not stop.is_set():
            began = time.perf_counter()
            try:
                status = str(_ask(pool, url, seed))
            except urllib3.exceptions.HTTPError as error:
                status = type(error).__name__
            with lock:
                counts[status] += 1
                longest[0] = max(longest[0], time.perf_counter() - began)
            if status != "200":
                stop.wait(0.05)  # the server asks for a second; these are no polite clients

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(n_clients)]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join(120)
        require(not thread.is_alive(), "a client hangs")
    return counts, longest[0]


def _ask(pool: urllib3.PoolManager, url: str, seed: int) -> int:
    vector = world.content(0).image[seed % world.PER_SLIDE].astype(float).tolist()
    body = json.dumps({"vector": vector, "k": 10, "recall": 1.0})
    answer = pool.request(
        "POST", f"{url}/v1/search/vector", body=body, headers={"Content-Type": "application/json"}, timeout=90.0
    )  # fmt: skip
    return answer.status
