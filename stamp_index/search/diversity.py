"""One hit per slide, per patient or per neighbourhood.

Greedy: the best row is taken, then the best of those that do not share a slide, a patient or a
neighbourhood with one that was taken, and so on. Rows that can no longer be taken are left out of
the next look, so each look brings new ones, and the answer is full if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from stamp_index.search.sources import Findable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stamp_index.search.sources import Nearest
    from stamp_index.store import Store

_PER_HIT: Final = 4  # candidates looked at for each hit at first
_WIDER: Final = 2  # times as many in each further look


class Spread(Protocol):
    """Which rows a hit keeps from being hits."""

    @property
    def words(self) -> str:
        """Of what there is one hit, to finish "With one hit ..."."""

    def block(self, blocked: NDArray[np.bool_], row: int) -> None:
        """Mark the rows that `row` keeps out, itself among them; `blocked` is (n_rows,)."""


@dataclass(frozen=True, eq=False)
class PerGroup:
    """One hit of each group of slides.

    Attributes
    ----------
    first, n : ndarray of shape (s,), int64
        First row and number of rows of every slide, by ascending row.
    group : ndarray of shape (s,), int64
        Which slides belong together.
    """

    first: NDArray[np.int64]
    n: NDArray[np.int64]
    group: NDArray[np.int64]
    words: str

    def block(self, blocked: NDArray[np.bool_], row: int) -> None:
        """Mark all rows of the slides that belong together with that of `row`."""
        slide = np.searchsorted(self.first, row, side="right") - 1
        for other in np.flatnonzero(self.group == self.group[slide]):
            blocked[self.first[other] : self.first[other] + self.n[other]] = True


@dataclass(frozen=True, eq=False)
class PerNeighbourhood:
    """One hit within a radius on the same slide; spots without a place in microns block nothing else.

    Attributes
    ----------
    first, n : ndarray of shape (s,), int64
        As in `PerGroup`.
    xy_um : ndarray of shape (n_rows, 2), float64
        Centres in microns by row id, as `places_of` reads them.
    radius_um : float
        Spots as far apart as this are neighbours too.
    """

    first: NDArray[np.int64]
    n: NDArray[np.int64]
    xy_um: NDArray[np.float64]
    radius_um: float

    @property
    def words(self) -> str:
        """As `Spread` says."""
        return f"within {self.radius_um:g} um"

    def block(self, blocked: NDArray[np.bool_], row: int) -> None:
        """Mark the neighbours of `row`, and itself."""
        slide = np.searchsorted(self.first, row, side="right") - 1
        here = slice(self.first[slide], self.first[slide] + self.n[slide])
        apart = self.xy_um[here] - self.xy_um[row]
        blocked[here] |= np.einsum("nx,nx->n", apart, apart) <= self.radius_um**2
        blocked[row] = True


def places_of(store: Store) -> NDArray[np.float64]:
    """Centres of all spots in microns by row id, (n_rows, 2); NaN where not known. 16 bytes a spot."""
    xy_um = np.full((store.n_rows, 2), np.nan)
    xy_um[store.rows()] = store.spots(["x_um", "y_um"]).to_numpy(np.float64)
    return xy_um


def spread_of(
    store: Store, one_per: str | float, places: Callable[[], NDArray[np.float64]]
) -> Spread:
    """Read what a way of spreading hits needs of a store.

    Parameters
    ----------
    store : Store
        At one version.
    one_per : {"slide", "patient"} or float
        A number is a radius in microns. A slide whose patient is not known is a patient of its own.
    places : callable
        Gives what `places_of` reads; asked for a radius only, so that all radii share one copy.
    """
    slides = store.slides()
    first, n = (slides[name].to_numpy(np.int64) for name in ("first_spot", "n_spots"))
    own = np.arange(len(slides))
    if one_per == "slide":
        return PerGroup(first, n, own, "per slide")
    if one_per == "patient":
        names = slides["patient_id"].fillna("").to_numpy(object)
        _, group = np.unique(names.astype(str), return_inverse=True)
        group = np.where(names == "", own + len(slides), group)
        return PerGroup(first, n, group, "per patient")
    return PerNeighbourhood(first, n, places(), float(one_per))


def width_for(k: int, n: int) -> int:
    """Candidates to look at for k hits of n rows, before it is known how they lie."""
    return min(_PER_HIT * k, n)


def take_spread(
    first: Nearest,
    k: int,
    *,
    spread: Spread,
    among: NDArray[np.bool_],
    look: Callable[[int, Findable], Nearest],
) -> Nearest:
    """Take hits of one query greedily, looking further until there are k or no more.

    Parameters
    ----------
    first : (scores, rows) of shape (m,), float32 and int64
        Best m rows among those that may be found, best first.
    k : int
        Hits wanted.
    spread : Spread
        What a hit keeps out.
    among : ndarray of shape (n_rows,), bool
        Rows that may be found.
    look : callable
        ``look(m, among)`` finds the best m rows of some.

    Returns
    -------
    scores, rows : ndarray of shape (at most k,), float32 and int64
        Best first.
    """
    blocked = np.zeros(len(among), np.bool_)
    taken: list[tuple[np.float32, int]] = []
    (scores, rows), width = first, len(first[1])
    while True:
        for value, row in zip(scores, rows.tolist(), strict=True):
            if len(taken) < k and not blocked[row]:
                taken.append((value, row))
                spread.block(blocked, row)
        left = among & ~blocked
        n = int(np.count_nonzero(left))
        if len(taken) == k or n == 0:
            break
        width = min(_WIDER * width, n)
        scores, rows = look(width, Findable(left, n))
        if len(rows) == 0:
            break  # what is left lies in shards of an index that do not answer
    # A later look goes deeper, so what it finds may be better than what an index found first.
    taken.sort(key=lambda hit: (-hit[0], hit[1]))
    values = np.array([value for value, _ in taken], np.float32)
    return values, np.array([row for _, row in taken], np.int64)
