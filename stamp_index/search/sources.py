"""Where the nearest rows come from: an index, or the vectors themselves.

Everything above asks here, so that nothing else of the search knows of indexes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.index import exact_search
from stamp_index.index.exact import score
from stamp_index.search.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stamp_index.index import Index, Prepared
    from stamp_index.index.background import Background
    from stamp_index.store import Modality, Store

    # Scores and rows, best first along the last axis: (q, k) of several queries, (k,) of one.
    Nearest = tuple[NDArray[np.float32], NDArray[np.int64]]

_BATCH_ROWS: Final = 16_384  # compared at once: 32 MB as float32 at d = 512


@dataclass(frozen=True, eq=False)
class Findable:
    """Rows that may be found, used for any number of searches.

    Attributes
    ----------
    mask : ndarray of shape (n_rows,), bool, or None
        True for rows that may be found, by row id; None for every row that has a vector.
    n : int
        How many.
    """

    mask: NDArray[np.bool_] | None
    n: int
    _prepared: Kept[Prepared] = field(default_factory=lambda: Kept(2), repr=False)  # per modality

    def prepared(self, modality: Modality, index: Index) -> Prepared | None:
        """Return what an index makes of the mask; made once."""
        if self.mask is None:
            return None
        mask = self.mask
        return self._prepared.get(modality, lambda: index.prepare(mask))


def _measured_below(index: Index, recall: float) -> float | None:
    """Measured recall of the settings for `recall`, by the queries that fare worst, where it falls short."""
    card = index.card
    choices = [one for one in card.calibration.get("choices", ()) if one["target"] >= recall]
    best = min(choices, key=lambda one: one["target"], default=None)
    if best is None:
        return None
    again = best["target"] == card.target_recall  # of these the card knows what was measured last
    reached = card.reached if again else best["reached"]
    measured = (card.ann_recall_at_10 if again else best["recall"]).values()
    return None if reached else min(measured, default=None)


class Sources:
    """Nearest rows of one version of a store. Threads may share it.

    Parameters
    ----------
    store : Store
        Opened at a version.
    indexes : mapping of modality to Index
        The modalities without one are searched exactly, in memory.
    """

    def __init__(self, store: Store, indexes: Mapping[Modality, Index]) -> None:
        self.store = store
        self._indexes = indexes
        self._present: Kept[NDArray[np.bool_]] = Kept(2)
        self._vectors: Kept[tuple[NDArray[np.int64], NDArray[np.float16]]] = Kept(2)

    def has_index(self, modality: Modality) -> bool:
        """Whether a modality is searched through an index."""
        return modality in self._indexes

    def has_vector(self, modality: Modality) -> NDArray[np.bool_]:
        """Rows that have an embedding, (n_rows,), bool; not to be changed."""
        return self._present.get(modality, lambda: self.store.has_vector(modality))

    def has_vectors(self, modalities: Sequence[Modality]) -> NDArray[np.bool_]:
        """Rows that have all of some embeddings, (n_rows,), bool; not to be changed."""
        mask = self.has_vector(modalities[0])
        for modality in modalities[1:]:
            mask = mask & self.has_vector(modality)
        return mask

    def background(self, modality: Modality, query: str) -> Background | None:
        """Background that the index of an embedding carries for a kind of queries, if it does."""
        index = self._indexes.get(modality)
        return None if index is None else index.backgrounds.get(query)

    def n_indexed(self, modality: Modality) -> int:
        """Rows of the store that were in the index of an embedding when it, and its backgrounds, were made."""
        index = self._indexes[modality]
        return index.card.n - index.n_gone

    def shortfall(self, modality: Modality, recall: float) -> float | None:
        """Measured share of the best hits that an index finds, if it is less than was asked for."""
        index = self._indexes.get(modality)
        return None if index is None or recall == 1 else _measured_below(index, recall)

    def nearest(
        self,
        modality: Modality,
        queries: NDArray[np.float32],
        k: int,
        *,
        among: Findable,
        recall: float,
    ) -> Nearest:
        """Find the rows of highest cosine with one embedding.

        Parameters
        ----------
        modality : {"image", "gene"}
            Which embedding.
        queries : ndarray of shape (q, d), float32
            Unit vectors.
        k : int
            Rows per query.
        among : Findable
            Rows that may be found.
        recall : float
            .95 or .99 for the settings that the index's card names; 1 for exact search.

        Returns
        -------
        scores, rows : ndarray of shape (q, k'), float32 and int64
            Best first, equal scores by ascending row; k' is k, or all that may be found.
        """
        index = self._indexes.get(modality)
        if index is None:
            rows, vectors = self._in_memory(modality)
            allowed = None if among.mask is None else among.mask[rows]
            scores, at = exact_search(vectors, queries, k, allowed=allowed)
            return scores, rows[at]
        ready = among.prepared(modality, index)
        return index.search(queries, k, allowed=ready, recall=recall)

    def cosines(
        self, modality: Modality, query: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Cosine of a unit vector (d,) with rows (m,), ascending, all of which have the embedding: (m,)."""
        if not self.has_index(modality):
            held, vectors = self._in_memory(modality)
            return score(vectors, np.searchsorted(held, rows), query)
        return self._indexes[modality].cosines(rows, query)

    def all_cosines(self, modality: Modality, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine of each query with every row, (q, n_rows), up to rounding; 0 where there is none."""
        scores = np.zeros((len(queries), self.store.n_rows), np.float32)
        batches = (
            self.store.vector_batches(modality, batch_rows=_BATCH_ROWS)
            if self.has_index(modality)
            else iter([self._in_memory(modality)])
        )
        for rows, vectors in batches:
            for start in range(0, len(rows), _BATCH_ROWS):
                part = slice(start, start + _BATCH_ROWS)
                scores[:, rows[part]] = queries @ vectors[part].astype(np.float32).T
        return scores

    def _in_memory(self, modality: Modality) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Rows with an embedding, ascending, and their vectors."""

        def read() -> tuple[NDArray[np.int64], NDArray[np.float16]]:
            present = np.flatnonzero(self.has_vector(modality))
            return present, self.store.vectors(modality, present)

        return self._vectors.get(modality, read)
