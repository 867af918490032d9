"""From row ids to places in a table: which rows are there, and where.

Tables lose rows when slides are deleted, and rows never change their order. So the n-th row of a table is
the n-th row id among the slides that are there.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Layout:
    """Stretches of row ids, one per slide, ascending.

    Attributes
    ----------
    first : ndarray of shape (s,), int64
        First row id of each stretch.
    n : ndarray of shape (s,), int64
        How many ids it has.
    place : ndarray of shape (s,), int64
        Where it begins in the table.
    n_live : int
        Rows of the table.
    """

    def __init__(self, first: NDArray[np.int64], n: NDArray[np.int64]) -> None:
        self.first = first
        self.n = n
        self.place = np.cumsum(n) - n
        self.n_live = int(n.sum())

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Every row id that is there, (n_live,), ascending."""
        rows: NDArray[np.int64] = np.arange(self.n_live) + np.repeat(
            self.first - self.place, self.n
        )
        return rows

    def stretch_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find the stretch that each row id lies in, by its number; -1 for ids that are not there."""
        at = np.searchsorted(self.first, rows, side="right") - 1
        ends = np.append(self.first + self.n, 0)  # the last is for -1
        return np.where(rows < ends[at], at, -1)

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where row ids lie in the table, all of which must be there."""
        at = self.stretch_of(rows)
        return rows - self.first[at] + self.place[at]

    def mask(self, stretches: NDArray[np.bool_], n_rows: int) -> NDArray[np.bool_]:
        """Rows of some stretches: bool (n_rows,) by row id."""
        mask = np.zeros(n_rows, np.bool_)
        for first, n in zip(self.first[stretches], self.n[stretches], strict=True):
            mask[first : first + n] = True
        return mask
