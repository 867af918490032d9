"""What can go wrong with an evaluation."""

from __future__ import annotations

from stamp_index.errors import StampIndexError


class EvaluationError(StampIndexError):
    """What was given cannot be evaluated, or would give a number that means nothing."""
