"""Searching image and gene embeddings together.

The score of a row is the weighted mean of its cosines with the query in both embeddings. A row that
has only one of the two has no such score and is not found: taking the one it has would compare
cosines of different kinds, as embeddings of the two lie in different parts of the space.

Both indexes give candidates, the best m of each, which are scored exactly in both. No row beyond
either list can score more than the weighted mean of the two last scores, so the search is over once
k rows exceed that (the threshold algorithm: Fagin, Lotem & Naor, "Optimal aggregation algorithms for
middleware", PODS 2001). Where the two embeddings disagree this bound comes down slowly; the lists
grow up to a sixteenth of the rows (see `MOST`), and what is not decided then is searched exactly: every
row is compared, and the answer says so.

Measured: on the phantom the first look is enough (recall of the exact hits 1.000). On 30,000 rows whose
two embeddings lie in clusters that have nothing to do with each other, 10 and 50 hits of queries in a
cluster, between two and of noise: the first look finds .63 to 1.0 of them, the bound ends the search at
320 to 1,600 rows, and recall is 1.000. What an index misses of its own list is missed here too.
On 200,000 rows (d = 512) of unrelated embeddings through two indexes, one core: 10 hits take 23 ms, 48 take 54
to 72 ms and 300 take 140 ms, all decided by lists of a sixteenth of the rows; lists of 2,048 leave 2 of 12 queries
for 48 hits undecided, 11 of 12 for 300. Exact search takes 1.1 to 1.9 s for up to 12 queries, most of it for
reading the vectors, and grows with the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.index.exact import SLACK, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from stamp_index.search.sources import Findable, Nearest, Sources
    from stamp_index.store import Modality

FIRST: Final = 8  # rows of each list per hit wanted, in the first look
WIDER: Final = 4  # times as many in the next
MOST: Final = 2_048  # rows of each list; or `FIRST` per hit, or one of every
_SHARE: Final = 16  # rows that may be found, where that is more
_VALUES: Final = 2**24  # scores held at once by exact search, 64 MB
SEARCHED_EXACTLY: Final = (
    "Image and gene embeddings rank the spots so differently that all of them were compared, which takes "
    "longer. Search one of the two where time counts."
)


@dataclass(frozen=True)
class Fusion:
    """A search of several embeddings among some rows.

    Attributes
    ----------
    sources : Sources
        Where rows come from.
    against : tuple of (modality, weight)
        Embeddings and their weights, which add up to 1.
    among : Findable
        Rows that may be found, all of which have every embedding of `against`.
    recall : float
        As in `Sources.nearest`; the same is exact where no modality has an index.
    """

    sources: Sources
    against: tuple[tuple[Modality, float], ...]
    among: Findable
    recall: float

    def nearest(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
        """Find the rows of highest weighted cosine.

        Parameters
        ----------
        queries : ndarray of shape (q, d), float32
            Unit vectors.
        k : int
            Rows per query.

        Returns
        -------
        scores, rows : ndarray of shape (q, k'), float32 and int64
            Best first, equal scores by ascending row; k' is k, or all that may be found. Where shards of an index did
            not answer, a query with fewer hits ends in row -1 with score -inf.
        undecided : ndarray of shape (q,), bool
            Queries that were searched exactly although `recall` did not ask for it.
        """
        k = min(k, self.among.n)
        undecided = np.zeros(len(queries), np.bool_)
        has_index = any(self.sources.has_index(modality) for modality, _ in self.against)
        if self.recall == 1 or not has_index:
            return *self._exactly(queries, k), undecided
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        most = min(max(MOST, FIRST * k, self.among.n // _SHARE), self.among.n)
        left, width = np.arange(len(queries)), min(FIRST * k, most)
        while len(left):
            best, unseen = self._look(queries[left], width)
            for query, (values, found) in zip(left, best, strict=True):
                n = min(k, len(found))  # fewer where shards did not answer
                scores[query, :n], rows[query, :n] = values[:n], found[:n]
            if width == self.among.n:
                break  # nothing is unseen
            left = left[scores[left, k - 1] <= unseen]
            if width == most:
                scores[left], rows[left] = self._exactly(queries[left], k)
                undecided[left] = True
                break
            width = min(WIDER * width, most)
        return scores, rows, undecided

    def _look(
        self, queries: NDArray[np.float32], width: int
    ) -> tuple[list[Nearest], NDArray[np.float32]]:
        """Score the best `width` rows of every list; also the most that any other row can score."""
        lists = [
            self.sources.nearest(name, queries, width, among=self.among, recall=self.recall)
            for name, _ in self.against
        ]
        unseen = np.zeros(len(queries))
        for (_, weight), (scores, _) in zip(self.against, lists, strict=True):
            # Without any row, as where shards do not answer, nothing is known of what is unseen.
            unseen += weight * scores[:, -1].astype(np.float64) if scores.shape[1] else np.inf
        best = []
        for query, vector in enumerate(queries):
            known = [(scores[query], rows[query]) for scores, rows in lists]
            best.append(
                self._scored(vector, np.unique(np.concatenate([k[1] for k in known])), known)
            )
        return best, unseen.astype(np.float32)  # rounded as scores are

    def _scored(
        self,
        query: NDArray[np.float32],
        rows: NDArray[np.int64],
        known: Sequence[Nearest] = (),
    ) -> Nearest:
        """Order rows (m,), ascending, by their scores; `known` are scores and rows of each embedding."""
        total = np.zeros(len(rows))
        for number, (modality, weight) in enumerate(self.against):
            cosines = np.full(len(rows), np.nan, np.float32)
            if known:
                cosines[np.searchsorted(rows, known[number][1])] = known[number][0]
            missing = np.isnan(cosines)
            if missing.any():
                cosines[missing] = self.sources.cosines(modality, query, rows[missing])
            total += weight * cosines.astype(np.float64)
        scores, found = in_order(total.astype(np.float32)[None], rows[None], len(rows))
        return scores[0], found[0]

    def _exactly(self, queries: NDArray[np.float32], k: int) -> Nearest:
        """Compare every row."""
        scores = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        for at, (vector, near) in enumerate(zip(queries, self._near(queries, k), strict=True)):
            values, found = self._scored(vector, near)
            scores[at], rows[at] = values[:k], found[:k]
        return scores, rows

    def _near(self, queries: NDArray[np.float32], k: int) -> Iterator[NDArray[np.int64]]:
        """Rows of each query, ascending, that hold its best k."""
        sources, mask = self.sources, self.among.mask
        if mask is None:
            mask = sources.has_vectors([modality for modality, _ in self.against])
        if self.among.n <= MOST:  # all of them, sooner than reading all that the store has
            yield from [np.flatnonzero(mask)] * len(queries)
            return
        step = max(1, _VALUES // len(mask))
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            total = np.zeros((len(block), len(mask)), np.float32)
            for modality, weight in self.against:
                total += np.float32(weight) * sources.all_cosines(modality, block)
            total[:, ~mask] = -np.inf
            last = np.partition(total, -k, axis=1)[:, -k]
            # Equal scores count by row: all that rounding may have put below the last belong to it.
            yield from (
                np.flatnonzero(row >= least - SLACK) for row, least in zip(total, last, strict=True)
            )
