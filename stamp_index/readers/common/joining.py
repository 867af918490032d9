"""Counts and positions are joined by the names of spots; what only one of the two names is dropped or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stamp_index.errors import BarcodeMismatchError, SlideError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    _Names = Sequence[Any] | pd.Index[Any]


@dataclass(frozen=True)
class Joined:
    """What counts and positions have in common.

    Attributes
    ----------
    rows, at : ndarray of shape (m,), int64
        Rows of the counts that have a place, and their rows in the positions.
    unplaced, uncounted : list of str
        Names that only the counts, and only the positions have.
    """

    rows: NDArray[np.int64]
    at: NDArray[np.int64]
    unplaced: list[str]
    uncounted: list[str]

    def notes(
        self, unplaced: str = "have no position", uncounted: str = "spots with a position"
    ) -> list[str]:
        """Say what was dropped, in the words given."""
        found = []
        if self.unplaced:
            n = len(self.unplaced) + len(self.rows)
            found.append(
                f"{len(self.unplaced)} of {n} spots with counts {unplaced}: dropped "
                f"({_listed(self.unplaced)})."
            )
        if self.uncounted:
            found.append(
                f"{len(self.uncounted)} {uncounted} have no counts and were dropped "
                f"({_listed(self.uncounted)})."
            )
        return found


def join_all(
    names: _Names,
    known: _Names,
    *,
    where: str,
    counted: str = "spots with counts",
    place: str = "position",
) -> Joined:
    """Join two files that one program wrote: everything that is counted has a place.

    Parameters
    ----------
    names, known : sequence of n and of k names
        Of the counts, and of the positions.
    where : str
        The slide, for messages.
    counted, place : str
        What the two hold, for messages.

    Raises
    ------
    BarcodeMismatchError
        If a name of the counts has no position, or one stands twice.
    """
    joined = _match(names, known, where, counted)
    if joined.unplaced:
        raise _strangers(joined, known, f"{counted} have no {place}", where)
    return joined


def join_most(
    names: _Names,
    known: _Names,
    *,
    where: str,
    counted: str = "spots with counts",
    place: str = "position",
) -> Joined:
    """Join two files of a published collection, where either may hold what the other left out.

    Parameters
    ----------
    names, known, where, counted, place
        As of `join_all`.

    Raises
    ------
    BarcodeMismatchError
        If less than half of the shorter file is in both, or a name stands twice.
    """
    joined = _match(names, known, where, counted)
    if not len(joined.rows) or 2 * len(joined.rows) < min(len(names), len(known)):
        raise _strangers(joined, known, f"{counted} have no {place}", where)
    return joined


def under_tissue(
    values: pd.Series[Any] | NDArray[Any], where: str
) -> tuple[NDArray[np.int64], list[str]]:
    """Rows that a column ``in_tissue`` (numbers, booleans or text) says are under tissue, and a note on the others.

    Raises
    ------
    SlideError
        If none is.
    """
    under = pd.Series(values).astype(str).isin(("1", "1.0", "True")).to_numpy()
    if len(under) and not under.any():
        msg = f"{where}: none of the {len(under)} spots is under tissue (in_tissue). Correct in_tissue."
        raise SlideError(msg)
    n_off = int((~under).sum())
    note = f"{n_off} of {len(under)} spots are not under tissue: dropped."
    return np.flatnonzero(under), [note] if n_off else []


def _match(names: _Names, known: _Names, where: str, counted: str) -> Joined:
    mine, place = pd.Index(names), pd.Index(known)
    at = place.get_indexer(mine)
    found = np.flatnonzero(at >= 0)
    placed = mine[found]
    twice = placed[placed.duplicated()].unique()
    if len(twice):
        msg = (
            f"{where}: {len(twice)} of the {counted} stand more than once ({_first(twice)}). A name is that of one "
            "spot: correct the source."
        )
        raise BarcodeMismatchError(msg)
    return Joined(
        rows=found,
        at=at[found],
        unplaced=[str(name) for name in mine[at < 0]],
        uncounted=[str(name) for name in place[~place.isin(mine)]],
    )


def _strangers(joined: Joined, known: _Names, what: str, where: str) -> BarcodeMismatchError:
    n = len(joined.unplaced) + len(joined.rows)
    return BarcodeMismatchError(
        f"{where}: {len(joined.unplaced)} of the {n} {what} (such as {_first(joined.unplaced)}); the other file names "
        f"{_first(known)}. The two are of different slides: give both files of one."
    )


def _first(names: _Names) -> str:
    return ", ".join(str(name) for name in names[:3])


def _listed(names: list[str]) -> str:
    return _first(names) + (", ..." if len(names) > 3 else "")
