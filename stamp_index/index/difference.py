"""How a version of a store differs from the rows of an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import AnnIndexError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.store import Modality, Store

    # id, content hash, first row id, number of spots of a slide, and when it was added
    SlideFacts = tuple[str, str, int, int, str]


@dataclass(frozen=True)
class Difference:
    """Rows that are in one of the two only.

    Attributes
    ----------
    version : int
        Version of the store.
    gone : ndarray of shape (n,), bool, or None
        Positions in the index whose row the store does not have; None where it has all.
    rows : ndarray of shape (m,), int64
        Rows of the store that are not in the index, ascending.
    vectors : ndarray of shape (m, d), float16
        Their vectors.
    """

    version: int
    gone: NDArray[np.bool_] | None
    rows: NDArray[np.int64]
    vectors: NDArray[np.float16]

    @property
    def n_gone(self) -> int:
        """Rows of the index that the store does not have."""
        return 0 if self.gone is None else int(np.count_nonzero(self.gone))


def compare(
    store: Store,
    modality: Modality,
    rows: NDArray[np.int64],
    before: Difference | None = None,
) -> Difference:
    """Compare a store with the row ids of an index.

    Parameters
    ----------
    store : Store
        At the version that it shows.
    modality : {"image", "gene"}
        Of the index.
    rows : ndarray of shape (n,), int64
        Row ids of the index, by position.
    before : Difference, optional
        Of another version and the same index: vectors that it holds are not read again.
    """
    gone = ~here(store.has_vector(modality), rows)
    fresh = newer_rows(store, modality, rows)
    return Difference(
        store.version,
        gone if gone.any() else None,
        fresh,
        _vectors(store, modality, fresh, before),
    )


def newer_rows(store: Store, modality: Modality, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row ids of a store that have the embedding and are not among those of an index, ascending."""
    newer = store.has_vector(modality)
    newer[rows[rows < len(newer)]] = False  # the store may be open at a version before the index's
    return np.flatnonzero(newer)


def count(store: Store, modality: Modality, rows: NDArray[np.int64]) -> tuple[int, int]:
    """Count the rows of a store that are not among those of an index, and those that it has no more."""
    has = store.has_vector(modality)
    n_kept = int(np.count_nonzero(here(has, rows)))
    return int(np.count_nonzero(has)) - n_kept, len(rows) - n_kept


def here(mask: NDArray[np.bool_], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Take a mask by row id at some rows, (len(rows),); False for rows that it does not reach."""
    if len(rows) == 0 or rows.max() < len(mask):
        return mask[rows]
    taken = np.zeros(len(rows), np.bool_)
    inside = rows < len(mask)
    taken[inside] = mask[rows[inside]]
    return taken


def places(rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of some row ids among ascending ones, (m,) to (m,), int64; -1 for those that are not there."""
    if len(rows) == 0:
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return np.where(rows[at] == wanted, at, -1)


def _vectors(
    store: Store, modality: Modality, rows: NDArray[np.int64], before: Difference | None
) -> NDArray[np.float16]:
    vectors = np.empty((len(rows), store.card.dim), np.float16)
    known = np.zeros(len(rows), np.bool_)
    if before is not None:
        at = places(before.rows, rows)
        known = at >= 0
        vectors[known] = before.vectors[at[known]]
    if not known.all():
        vectors[~known] = store.vectors(modality, rows[~known])
    return vectors


def slide_facts(store: Store) -> list[SlideFacts]:
    """List what tells slides from others, in the order in which they were added."""
    slides = store.slides()
    columns = ("slide_id", "content_hash", "first_spot", "n_spots")
    added = [when.isoformat() for when in slides["added_at"]]
    return list(zip(*(slides[name].tolist() for name in columns), added, strict=True))


def require_same_history(
    store: Store, indexed: Sequence[SlideFacts], rows: NDArray[np.int64], n_rows: int
) -> None:
    """Refuse a store whose row ids mean other spots than they did when the index was built.

    That happens when a store is put back to an older copy and other slides are added then.

    Parameters
    ----------
    store : Store
        At the version that it shows.
    indexed : sequence of SlideFacts
        Slides when the index was built.
    rows : ndarray of shape (n,), int64
        Row ids of the index.
    n_rows : int
        Row ids that were given then.

    Raises
    ------
    AnnIndexError
        Naming a slide.
    """
    then = {facts[2]: facts for facts in indexed}
    for facts in slide_facts(store):
        slide_id, _, first, n, added = facts
        if first >= n_rows:
            continue
        known = then.get(first)
        if known == facts or (known is None and not ((rows >= first) & (rows < first + n)).any()):
            continue
        other = "another slide" if known is None else f"slide '{known[0]}', added {known[4]},"
        msg = (
            f"The rows from {first} are slide '{slide_id}', added {added}, in the store at {store.place}, and {other} "
            f"in its index: the store was put back to an older copy since. Build the index again."
        )
        raise AnnIndexError(msg)
