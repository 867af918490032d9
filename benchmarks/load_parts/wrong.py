"""What the load test raises where something is not as it must be."""

from __future__ import annotations


class WrongAnswerError(Exception):
    """An answer that differs from the truth, or a server that does not behave."""


def require(is_so: object, otherwise: str) -> None:
    """Raise `WrongAnswerError` unless something is so."""
    if not is_so:
        raise WrongAnswerError(otherwise)
