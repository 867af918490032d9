"""What the server counts, for Prometheus."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from stamp_index.serve.live import Live

# Seconds: an index answers in milliseconds, a region search in a few, and 30 is the limit
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


# Properties of the store that are shown
_OF_STORE: Final = {
    "version": "Version of the store that is served.",
    "n_spots": "Spots in it.",
    "n_rows": "Row ids given so far.",
}


class Metrics:
    """Counters of one server.

    Parameters
    ----------
    live : Live
        What is served.
    held : callable
        How many requests are worked on or wait, by lane.
    """

    def __init__(self, live: Live, held: Callable[[], dict[str, int]]) -> None:
        from prometheus_client import (
            CollectorRegistry,
            Counter,
            Gauge,
            Histogram,
            ProcessCollector,
        )

        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry, "namespace": "stamp_index"}
        self._requests = Counter(
            "requests", "Requests answered.", ["endpoint", "method", "status"], **named
        )
        self._seconds = Histogram(
            "request_seconds", "Time to the end of an answer.", ["endpoint"], buckets=_BUCKETS, **named
        )  # fmt: skip
        self._shed = Counter("shed", "Requests sent away, as too many came.", ["endpoint"], **named)
        self.in_flight = Gauge("in_flight", "Requests that are being answered.", **named)
        lanes = Gauge("lane_held", "Requests worked on or waiting.", ["lane"], **named)
        for lane in held():
            lanes.labels(lane).set_function(partial(_held_by, held, lane))
        for name, words in _OF_STORE.items():
            gauge = Gauge(f"store_{name}", words, **named)
            gauge.set_function(partial(_of_store, live, name))
        unseen = Gauge(
            "store_unseen_seconds", "Since the newest version was last looked at with success.", **named
        )  # fmt: skip
        unseen.set_function(lambda: live.unseen_s)
        ProcessCollector(
            namespace="stamp_index", registry=self.registry
        )  # memory and processor time

    def answered(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(endpoint, method, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)
        if status in (429, 503) and endpoint != "/readyz":
            self._shed.labels(endpoint).inc()

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


def _held_by(held: Callable[[], dict[str, int]], lane: str) -> float:
    return held()[lane]


def _of_store(live: Live, name: str) -> float:
    return float(getattr(live.now().store, name)) if live.is_ready else 0.0
