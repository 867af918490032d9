"""How far embedding has come, for whoever shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Counter:
    """Adds up the steps that are done and tells how many there are of how many.

    Parameters
    ----------
    total : int
        Steps in all.
    tell : callable, optional
        Called with the steps done so far and those in all.
    """

    def __init__(self, total: int, tell: Callable[[int, int], object] | None) -> None:
        self.total, self.tell = total, tell
        self.done = 0

    def add(self, n: int) -> None:
        """Count `n` further steps."""
        self.done += n
        if self.tell is not None:
            self.tell(self.done, self.total)
