"""The writer: a process that adds and deletes slides, keeps the indexes up, compacts and cleans up."""

from __future__ import annotations

import faulthandler
import signal


import numpy as np

from load_parts import world
from load_parts.shadow import Journal
from stamp_index.index.upkeep import keep_up
from stamp_index.store import Store
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOOK_EVERY, COMPACT_EVERY = 15, 40  # changes
FOLD_ROWS = 2_500


def write(folder: Path, start, stop, every_s: float, report) -> None:  # noqa: ANN001
    """Change the store until told to stop; what was committed is written down."""
    faulthandler.register(signal.SIGUSR1)
    store, journal = Store.open(folder / "store"), Journal(folder / "journal")
    rng = np.random.default_rng(17)
    slides = store.slides()["slide_id"]
    held = [int(one[1:]) for one in slides]
    base, number, n_changes = len(held), max(held) + 1, 0
    counts = {"add": 0, "delete": 0, "fold": 0, "build": 0, "compact": 0}
    start.wait()
    while not stop.wait(every_s):
        n_changes += 1
        if rng.random() < 0.5 + 0.05 * (base - len(held)):
            first = store.n_rows
            version = store.add(world.slide_rows(number, store.card.fingerprint))
            journal.write(version, add=number, first=first)
            held.append(number)
            number += 1
            counts["add"] += 1
        else:
            gone = held.pop(int(rng.integers(world.KEPT, len(held))))
            journal.write(store.delete(world.slide_id(gone)), delete=gone)
            counts["delete"] += 1
        if n_changes % LOOK_EVERY == 0:
            for side in ("image", "gene"):
                card = keep_up(store, side, fold_rows=FOLD_ROWS)
                if card is not None:
                    counts["build" if card.n == card.n_trained else "fold"] += 1
        if n_changes % COMPACT_EVERY == 0:
            journal.write(store.compact())
            store.clean_up(keep=2)
            counts["compact"] += 1
    report.put(("writer", counts))
