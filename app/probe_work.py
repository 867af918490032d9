"""What the process of a probe does; nothing here knows Streamlit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stamp_index.errors import StoreError
from stamp_index.evaluate import ProbeSettings, run_probe
from stamp_index.evaluate.probe.reading import result_from_json, settings_from
from stamp_index.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stamp_index.evaluate import ProbeResult


@dataclass(frozen=True)
class StoreAt:
    """One version of a store, so that another process reads the same."""

    path: str
    version: int
    store_id: str
    encoder: str


def probe(
    where: Mapping[str, Any],
    settings: Mapping[str, Any],
    labels: Sequence[tuple[int, str]] | None,
    *,
    tell: Callable[[str, float], object],
) -> dict[str, Any]:
    """Run a probe on a stored version: plain values in (see `asked`) and out (see `answered`).

    Raises
    ------
    StampIndexError
        As `run_probe`, and if the version is gone or another store lies there now.
    """
    tell("opening the store", 0.0)
    where = StoreAt(**where)
    store = Store.open(where.path, version=where.version, encoder=where.encoder)
    if store.store_id != where.store_id:
        msg = f"Another store lies at {where.path} now. Reload the page to see it."
        raise StoreError(msg)
    found = run_probe(
        store,
        settings_from(dict(settings)),
        labels=None if labels is None else dict(labels),
        progress=lambda at: tell(at.step, at.share),
    )
    drawn = None if found.drawn is None else [(int(row), name) for row, name in found.drawn.items()]
    return {"json": found.to_json(predictions=True), "drawn": drawn}


def asked(
    where: StoreAt, settings: ProbeSettings, labels: Mapping[int, str] | None
) -> tuple[dict[str, Any], dict[str, Any], list[tuple[int, str]] | None]:
    """Arguments of `probe` in plain values."""
    drawn = None if labels is None else [(int(row), name) for row, name in labels.items()]
    return asdict(where), asdict(settings), drawn


def answered(values: Mapping[str, Any]) -> ProbeResult:
    """Result of `probe` from its plain values."""
    drawn = values["drawn"]
    return result_from_json(values["json"], None if drawn is None else dict(drawn))
