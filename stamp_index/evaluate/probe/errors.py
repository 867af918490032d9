"""What can go wrong with a probe."""

from __future__ import annotations

from stamp_index.errors import StampIndexError


class ProbeError(StampIndexError):
    """The spots, labels or split of a probe allow no honest answer."""


class ProbeCancelled(StampIndexError):
    """Raise it from a probe's `progress` to stop the probe."""
