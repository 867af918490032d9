"""What merging the hits of shards takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.index.exact import in_order

if TYPE_CHECKING:
    from pathlib import Path

HITS: Final = 48


def run_merge(folder: Path, shards: int) -> dict[str, Any]:
    """Median CPU ms of merging 48 hits of each shard into 48."""
    del folder
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random((shards, HITS), dtype=np.float32))[:, ::-1]
    rows = rng.permutation(shards * HITS).reshape(shards, HITS)
    times = []
    for _ in range(51):
        began = time.thread_time()
        in_order(scores.reshape(1, -1), rows.reshape(1, -1), HITS)
        times.append(time.thread_time() - began)
    return {"cpu_ms": round(1e3 * float(np.median(times)), 4)}
