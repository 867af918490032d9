"""What the process of a probe does; nothing here knows Streamlit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stamp_index.errors import StoreError
from stamp_index.evaluate import ProbeSettings, run_probe
from stamp_index.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stamp_index.evaluate import ProbeResult


@dataclass(frozen=True)
class StoreAt:
    """One version of a store, so that another process reads the same."""

    path: str
    version: int
    store_id: str
    encoder: str


def probe(
    where: StoreAt,
    settings: ProbeSettings,
    labels: Mapping[int, str] | None,
    *,
    tell: Callable[[str, float], object],
) -> ProbeResult:
    """Run a probe on a stored version.

    Raises
    ------
    StampIndexError
        As `run_probe`, and if the version is gone or another store lies there now.
    """
    tell("opening the store", 0.0)
    store = Store.open(where.path, version=where.version, encoder=where.encoder)
    if store.store_id != where.store_id:
        msg = f"Another store lies at {where.path} now. Reload the page to see it."
        raise StoreError(msg)
    return run_probe(store, settings, labels=labels, progress=lambda at: tell(at.step, at.share))
