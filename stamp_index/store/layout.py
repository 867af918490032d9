"""From row ids to places in a table: which rows are there, and where.

Rows of one slide stand together, but slides stand in any order: compaction moves whole files.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Layout:
    """Stretches of row ids, one per slide, ascending.

    Parameters
    ----------
    first : ndarray of shape (s,), int64
        First row id of each stretch, ascending where it has any.
    n : ndarray of shape (s,), int64
        How many ids it has; may be 0.
    table : ndarray of shape (n_live,), int64
        Row id of each row of the table, in the table's order.

    Attributes
    ----------
    first, n : ndarray of shape (s,), int64
        As given.
    place : ndarray of shape (s,), int64
        Where each stretch begins in the table.
    n_live : int
        Rows of the table.

    Raises
    ------
    StoreError
        If the table does not have these rows, each stretch in one piece.
    """

    def __init__(
        self, first: NDArray[np.int64], n: NDArray[np.int64], table: NDArray[np.int64]
    ) -> None:
        self.first = first
        self.n = n
        self.n_live = int(n.sum())
        self._filled = np.flatnonzero(n > 0)  # a slide without counts has no genes
        if len(table) != self.n_live:
            msg = f"it has {len(table)} rows, but its slides say {self.n_live}"
            raise StoreError(msg)
        self.place = self._places_of(table)

    def _places_of(self, table: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find every stretch in the table, which is made of runs of consecutive ids."""
        start = np.flatnonzero(np.diff(table, prepend=-2) != 1)
        end = np.append(start[1:], len(table))
        by_id = np.argsort(table[start])
        start, end = start[by_id], end[by_id]
        first, n = self.first[self._filled], self.n[self._filled]
        run = np.searchsorted(table[start], first, side="right") - 1
        if (run < 0).any():
            msg = f"it has no row {first[run < 0][0]}, which its slides say it has"
            raise StoreError(msg)
        places = np.zeros(len(self.first), np.int64)
        places[self._filled] = place = start[run] + first - table[start][run]
        cut = np.flatnonzero(place + n > end[run])
        if len(cut):
            here = cut[0]
            msg = (
                f"its rows {first[here]} to {first[here] + n[here] - 1}, of one slide, do not "
                f"stand together"
            )
            raise StoreError(msg)
        return places

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Every row id that is there, (n_live,), ascending."""
        before = np.cumsum(self.n) - self.n
        rows: NDArray[np.int64] = np.arange(self.n_live) + np.repeat(self.first - before, self.n)
        return rows

    def stretch_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find the stretch that each row id lies in, by its number; -1 for ids that are not there."""
        first = self.first[self._filled]
        at = np.searchsorted(first, rows, side="right") - 1
        ends = np.append(first + self.n[self._filled], 0)  # the last is for -1
        return np.where(rows < ends[at], np.append(self._filled, -1)[at], -1)

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
