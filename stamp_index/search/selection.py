"""Which rows may be hits, and how many hits there can be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from stamp_index.errors import QueryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.filtering import Allowed, Condition
    from stamp_index.store import Store


@dataclass(frozen=True)
class Selection:
    """What may be found.

    Attributes
    ----------
    k : int
        Hits to look for.
    allowed : ndarray of shape (n,), bool, or None
        Rows that may be hits; None for all.
    notes : tuple of str
        Why there are fewer hits than asked for.
    """

    k: int
    allowed: NDArray[np.bool_] | None
    notes: tuple[str, ...] = ()

    def with_note(self, note: str) -> Selection:
        """Return the same with one more note."""
        return replace(self, notes=(*self.notes, note))


@dataclass(frozen=True)
class Excluded:
    """Rows that a query leaves out by its nature, and how to say so.

    Attributes
    ----------
    rows : ndarray of shape (n,), bool
        True for rows that are left out.
    words : str
        What they are.
    """

    rows: NDArray[np.bool_]
    words: str


def select(
    store: Store,
    has_vector: NDArray[np.bool_],
    *,
    k: int,
    given: tuple[Condition, Allowed] | None,
    excluded: Excluded | None = None,
) -> Selection:
    """Combine what restricts a search: a filter with the rows that pass it, and rows left out.

    Raises
    ------
    QueryError
        If `k` is more than the spots of the store, or nothing may be found.
    ValueError
        If `k` is not a whole number of 1 or more.
    """
    _check_k(store, k)
    allowed, conditions = has_vector, []
    if given is not None:
        condition, passing = given
        allowed = allowed if passing.mask is None else allowed & passing.mask
        conditions.append(f"pass the filter {condition}")
    if excluded is not None:
        allowed = allowed & ~excluded.rows
        conditions.append(f"are not {excluded.words}")
    if has_vector.sum() < store.n_spots:
        conditions.append("have the embedding that is searched")
    n = int(allowed.sum())
    reason = " and ".join(conditions) or "can be found"
    if n == 0:
        msg = f"None of the {store.n_spots} spots of the store {reason}. Relax what is asked for."
        raise QueryError(msg)
    mask = None if n == store.n_spots else allowed
    if n >= k:
        return Selection(k, mask)
    words = f"Only {n} of {store.n_spots} spots {reason}: {n} hits instead of {k}."
    return Selection(n, mask, (words,))


def own_rows(store: Store, row: int, own: Literal["nothing", "slide", "patient"]) -> Excluded:
    """Rows that a stored spot leaves out: itself, and what belongs with it.

    Raises
    ------
    QueryError
        If the spot's patient is to be left out, and its slide says no patient.
    ValueError
        If `own` is none of the three.
    """
    if own not in ("nothing", "slide", "patient"):
        msg = f"exclude_own is {own!r}; expected 'nothing', 'slide' or 'patient'."
        raise ValueError(msg)
    spot = store.spots(["slide_id", "patient_id"], [row]).iloc[0]
    slide_id, patient_id = str(spot["slide_id"]), str(spot["patient_id"])
    if own == "slide":
        same = store.slides()["slide_id"] == slide_id
        return Excluded(store.mask_of(same.to_numpy()), f"of slide {slide_id}")
    if own == "patient":
        if not patient_id:
            msg = (
                f"Slide {slide_id} has no patient_id, so its patient cannot be left out. Leave out "
                f"the slide (exclude_own='slide'), or name what to leave out in the filters."
            )
            raise QueryError(msg)
        same = store.slides()["patient_id"] == patient_id
        return Excluded(store.mask_of(same.to_numpy()), f"of patient {patient_id}")
    rows = np.zeros(store.n_rows, np.bool_)
    rows[row] = True
    return Excluded(rows, "the query spot itself")


def _check_k(store: Store, k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        msg = f"k is {k!r}; expected a whole number of hits, 1 or more."
        raise ValueError(msg)
    if k > store.n_spots:
        msg = (
            f"{k} hits were asked for, but the store at {store.path} has {store.n_spots} spots. "
            f"Ask for at most that many."
        )
        raise QueryError(msg)
