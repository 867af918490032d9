"""Which rows may be hits, and how many hits there can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.search.sources import Findable
from stamp_index.shards.messages import MOST_HITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.filtering import Allowed, Condition
    from stamp_index.store import Store

Own = Literal["nothing", "slide", "patient"]


@dataclass(frozen=True, eq=False)
class Selection:
    """What may be found, for any number of queries.

    Attributes
    ----------
    rows : Findable
        The rows.
    reasons : tuple of str
        What these rows do that others do not, to finish "Only 3 of 9 spots ...".
    n_spots : int
        Spots of the store.
    """

    rows: Findable
    reasons: tuple[str, ...]
    n_spots: int

    def count(self, own: int = -1) -> int:
        """How many rows a query may find that is not to find row `own`; -1 for none.

        Raises
        ------
        QueryError
            If that is none.
        """
        held = own >= 0 and (self.rows.mask is None or bool(self.rows.mask[own]))
        n = self.rows.n - held
        if n == 0:
            msg = (
                f"None of the {self.n_spots} spots of the store {self._reason(own)}. "
                f"Relax what is asked for."
            )
            raise QueryError(msg)
        return n

    def notes(self, k: int, found: int, *, own: int = -1, words: str = "") -> tuple[str, ...]:
        """Why a query that wanted `k` hits found fewer; nothing if it did not.

        Parameters
        ----------
        k, found : int
            Hits that were wanted, and that there are.
        own : int
            Row that the query was not to find; -1 for none.
        words : str
            Of what there was to be one hit, such as "per slide".
        """
        if found >= k:
            return ()
        if found < self.count(own):
            return (
                f"With one hit {words} there are {found} hits instead of {k}. Ask without one_per for more.",
            )
        reason = self._reason(own)
        return (f"Only {found} of {self.n_spots} spots {reason}: {found} hits instead of {k}.",)

    def _reason(self, own: int) -> str:
        reasons = (*self.reasons, "are not the query spot itself") if own >= 0 else self.reasons
        return " and ".join(reasons) or "can be found"


@dataclass(frozen=True)
class Excluded:
    """Slides that a query leaves out by its nature, and how to say so.

    Attributes
    ----------
    column, value : str
        Column of the slides table, and what it says on these slides.
    words : str
        What their spots are.
    """

    column: Literal["slide_id", "patient_id"]
    value: str
    words: str


def select(
    store: Store,
    has_vectors: NDArray[np.bool_],
    *,
    given: tuple[Condition, Allowed] | None,
    excluded: Excluded | None = None,
    searched: str = "the embedding that is",
) -> Selection:
    """Combine what restricts a search: vectors that are searched, a filter, slides left out."""
    mask, reasons = has_vectors, []
    n_searched = int(np.count_nonzero(mask))
    if given is not None:
        condition, passing = given
        mask = mask if passing.mask is None else mask & passing.mask
        reasons.append(f"pass the filter {condition}")
    if excluded is not None:
        slides = store.slides()[excluded.column] == excluded.value
        mask = mask & ~store.mask_of(slides.to_numpy())
        reasons.append(f"are not {excluded.words}")
    if n_searched < store.n_spots:
        reasons.append(f"have {searched} searched")
    n = int(np.count_nonzero(mask))
    return Selection(
        Findable(None if n == store.n_spots else mask, n), tuple(reasons), store.n_spots
    )


def check_k(store: Store, k: int) -> None:
    """Refuse more hits than the store has spots, or than one answer holds, with shards as without.

    Raises
    ------
    QueryError
        With both numbers.
    """
    if k > store.n_spots:
        msg = (
            f"{k} hits were asked for, but the store at {store.place} has {store.n_spots} spots. "
            f"Ask for at most that many."
        )
        raise QueryError(msg)
    if k > MOST_HITS:
        msg = f"{k:,} hits were asked for; one answer holds at most {MOST_HITS:,}. Ask for fewer."
        raise QueryError(msg)


def own_slides(store: Store, row: int, own: Own) -> Excluded | None:
    """Slides that a stored spot leaves out besides itself.

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
    if own == "nothing":
        return None
    slides = store.slides()
    at = np.searchsorted(slides["first_spot"].to_numpy(np.int64), row, side="right") - 1
    slide_id, patient_id = (str(slides[name].iloc[at]) for name in ("slide_id", "patient_id"))
    if own == "slide":
        return Excluded("slide_id", slide_id, f"of slide {slide_id}")
    if not patient_id:
        msg = (
            f"Slide {slide_id} has no patient_id, so its patient cannot be left out. Leave out "
            f"the slide (exclude_own='slide'), or name what to leave out in the filters."
        )
        raise QueryError(msg)
    return Excluded("patient_id", patient_id, f"of patient {patient_id}")
