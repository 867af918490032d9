"""Record of a search: enough to repeat it, and to see whether the answer is the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import stamp_index
from stamp_index.keys import Keys
from stamp_index.search.hits import Hits

if TYPE_CHECKING:
    from stamp_index.search.regions.hits import RegionHits
    from stamp_index.search.sharing.requests import Request

FORMAT: Final = 1
_OF_SPOTS: Final = (Keys.RANK, Keys.SPOT_ID, Keys.SCORE, Keys.Z, Keys.PERCENTILE)
_OF_REGIONS: Final = (
    Keys.RANK, Keys.SLIDE_ID, Keys.SCORE, "composition", "content", "n_spots", "area_um2", Keys.X_PX, Keys.Y_PX,
)  # fmt: skip


def run_record(
    hits: Hits | RegionHits, request: Request | None = None, *, at: datetime | None = None
) -> dict[str, Any]:
    """Record of a search in plain values, without any path of this machine.

    Parameters
    ----------
    hits : Hits or RegionHits
    request : Request, optional
        What was asked, with every argument; only the words of the query are recorded without.
    at : datetime, optional
        When it was asked; now by default. Written in UTC.

    Returns
    -------
    dict
        ``stamp_index_record`` (version of this format), ``library_version``, ``time_utc``, ``query``, ``request`` (kind,
        method, subject, arguments) or None, ``store`` (name, store_id, version, n_spots), ``encoder`` (name, fingerprint),
        ``notes``, ``n_hits``, and ``hits``: of spots rank, spot_id, score, z and percentile; of regions rank, slide_id,
        score and its two parts, size, place, and ids of the spots. None where a number is not known.
    """
    store = hits.store
    return {
        "stamp_index_record": FORMAT,
        "library_version": stamp_index.__version__,
        "time_utc": (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
        "query": hits.query,
        "request": None if request is None else _request(request),
        "store": {
            "name": store.place.label,
            "store_id": store.store_id,
            "version": int(hits.store_version),
            "n_spots": int(store.n_spots),
        },
        "encoder": {"name": store.card.name, "fingerprint": hits.fingerprint},
        "notes": list(hits.notes),
        "n_hits": len(hits),
        "hits": _spots(hits) if isinstance(hits, Hits) else _regions(hits),
    }


def record_json(record: Mapping[str, Any]) -> bytes:
    """Content of a record's file: JSON in ASCII, indented."""
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode("ascii")


def _request(request: Request) -> dict[str, Any]:
    return {
        "kind": request.kind,
        "method": request.method,
        "subject": _plain(request.subject),
        "arguments": _plain(request.arguments()),
    }


def _spots(hits: Hits) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = _plain(hits.table[list(_OF_SPOTS)].to_dict("records"))
    return records


def _regions(hits: RegionHits) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = _plain(hits.table[list(_OF_REGIONS)].to_dict("records"))
    spots = hits.spots()
    for record in records:
        of_it = spots[Keys.RANK] == record[Keys.RANK]
        record["spot_ids"] = spots.loc[of_it, Keys.SPOT_ID].tolist()
    return records


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a request or a table holds
    """Return the same in values that JSON has; None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(held) for name, held in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(held) for held in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
