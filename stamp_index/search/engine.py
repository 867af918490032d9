"""From embeddings to hits: filter, search, spread, and what is known about the rows that were found."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.genes import GeneResolver
from stamp_index.search.asking import NO_KIND
from stamp_index.search.calibration import NO_PERCENTILES, Backgrounds, what_it_says
from stamp_index.search.diversity import Spread, places_of, spread_of
from stamp_index.search.filtering import evaluate
from stamp_index.search.fusion import SEARCHED_EXACTLY
from stamp_index.search.hits import Answer, Hits, make_hits
from stamp_index.search.kept import Kept
from stamp_index.search.nearest import nearest_rows, table_of
from stamp_index.search.selection import Excluded, Selection, check_k, select
from stamp_index.search.sources import Sources
from stamp_index.shards.silence import is_missing, listening

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stamp_index.index import Index
    from stamp_index.search.asking import Ask, Asked
    from stamp_index.search.filtering import Allowed, Condition
    from stamp_index.search.sources import Nearest
    from stamp_index.store import Modality, Store

_KEPT: Final = 8  # filters, and selections with what indexes make of them: some bytes a row each


class SearchEngine:
    """Searches one version of a store, and keeps what is used again. Threads may share it.

    Parameters
    ----------
    store : Store
        Opened at a version.
    indexes : mapping of modality to Index
        The modalities without one are searched exactly, in memory.
    """

    def __init__(self, store: Store, indexes: Mapping[Modality, Index]) -> None:
        self.store = store
        self.sources = Sources(store, indexes)
        self.backgrounds = Backgrounds(self.sources)
        self._allowed: Kept[Allowed] = Kept(_KEPT)
        self._selections: Kept[Selection] = Kept(_KEPT)
        self._places: Kept[NDArray[np.float64]] = Kept(1)

    @cached_property
    def resolver(self) -> GeneResolver:
        """Knows the store's genes."""
        return GeneResolver(self.store.genes, self.store.gene_ids)

    def hits(
        self,
        queries: NDArray[np.float32],
        ask: Ask,
        asked: Sequence[Asked],
        *,
        own: NDArray[np.int64] | None = None,
        excluded: Sequence[Excluded | None] = (),
    ) -> list[Hits]:
        """Answer queries, and read what is known about the hits.

        Parameters
        ----------
        queries, ask, own, excluded
            As `find`.
        asked : sequence of q Asked
            The queries.
        """
        with listening() as silence:
            found = self.find(queries, ask, own=own, excluded=excluded)
            scores, _ = table_of([pair for pair, _ in found])
            z, percentile, said = self._calibrated(queries, ask, asked, scores)
        short = [*silence.notes, *self._shortfalls(ask)]
        answers = [
            Answer(
                asked=asked[i],
                scores=values,
                rows=rows,
                z=z[i, : len(rows)],
                percentile=percentile[i, : len(rows)],
                notes=(*notes, *short, *said[i]),
                is_whole=not silence,
            )
            for i, ((values, rows), notes) in enumerate(found)
        ]
        return make_hits(self.store, answers)

    def _calibrated(
        self,
        queries: NDArray[np.float32],
        ask: Ask,
        asked: Sequence[Asked],
        scores: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], list[tuple[str, ...]]]:
        """Z and percentile of every score, (q, k) each, and what they say of each query."""
        z, percentile = np.full_like(scores, np.nan), np.full_like(scores, np.nan)
        said: list[tuple[str, ...]] = [()] * len(asked)
        for kind in dict.fromkeys(one.kind for one in asked):
            background = self.backgrounds.of(ask, kind)
            if background is None:
                continue
            at = np.array([i for i, one in enumerate(asked) if one.kind == kind])
            z[at] = background.z_scores(queries[at], scores[at])
            percentile[at] = background.percentiles(scores[at])
            old = self.backgrounds.outgrown(ask, kind)
            for i in at if scores.shape[1] else ():
                # The best of few spots is worse than the best of all, whatever was asked.
                best = scores[i, 0], percentile[i, 0]
                alarm = what_it_says(background, kind, *best) if ask.condition is None else ()
                said[i] = (*alarm, *old)
                if len(background.best) == 0 and kind != NO_KIND and len(ask.against) > 1:
                    said[i] += (NO_PERCENTILES,)
        return z, percentile, said

    def _shortfalls(self, ask: Ask) -> list[str]:
        """Say where an index finds less than was asked for."""
        found = {name: self.sources.shortfall(name, ask.recall) for name in ask.modalities}
        return [
            f"The {name} index was measured to find {share:.2%} of the best hits, not the {ask.recall:.0%} "
            f"asked for. Ask with a recall of 1 to search exactly, or build the index with another recipe."
            for name, share in found.items()
            if share is not None
        ]

    def find(
        self,
        queries: NDArray[np.float32],
        ask: Ask,
        *,
        own: NDArray[np.int64] | None = None,
        excluded: Sequence[Excluded | None] = (),
    ) -> list[tuple[Nearest, tuple[str, ...]]]:
        """Find the rows that answer queries.

        Parameters
        ----------
        queries : ndarray of shape (q, d), float32
            Unit vectors.
        ask : Ask
            How they are asked.
        own : ndarray of shape (q,), int64, optional
            Row that each query must not find.
        excluded : sequence of q Excluded or None, optional
            Slides that each leaves out.

        Returns
        -------
        list of ((scores, rows), notes)
            Of shape (k',), float32 and int64, best first; notes say why there are fewer than `ask.k`, or
            why it took long.

        Raises
        ------
        QueryError
            If `ask.k` is more than the spots of the store, or a query may find nothing.
        """
        check_k(self.store, ask.k)
        own = np.full(len(queries), -1, np.int64) if own is None else own
        spread = self._spread(ask)
        left_out = list(excluded) or [None] * len(queries)
        out: dict[int, tuple[Nearest, tuple[str, ...]]] = {}
        for leave_out in dict.fromkeys(left_out):
            at = np.array([i for i, other in enumerate(left_out) if other == leave_out])
            selection = self.selection(ask, leave_out)
            here = (
                own[at] if leave_out is None else np.full(len(at), -1)
            )  # else it is left out anyway
            for row in here.tolist():
                selection.count(row)  # refuses where there is nothing to be found
            found = nearest_rows(
                self.sources, queries[at], ask, selection.rows, own=here, spread=spread
            )
            words = "" if spread is None else spread.words
            for i, row, (pair, exactly) in zip(at.tolist(), here.tolist(), found, strict=True):
                # Where shards did not answer, that is why there are fewer.
                notes = (
                    ()
                    if is_missing()
                    else selection.notes(ask.k, len(pair[1]), own=row, words=words)
                )
                out[i] = pair, (*notes, SEARCHED_EXACTLY) if exactly else notes
        return [out[i] for i in range(len(queries))]

    def selection(self, ask: Ask, excluded: Excluded | None) -> Selection:
        """Rows that a query may find; kept for the next that is asked alike."""

        def make() -> Selection:
            given = None
            if ask.condition is not None:
                given = ask.condition, self._passing(ask.condition)
            return select(
                self.store,
                self.sources.has_vectors(ask.modalities),
                given=given,
                excluded=excluded,
                searched="the embedding that is"
                if len(ask.against) == 1
                else "both embeddings that are",
            )

        return self._selections.get((ask.modalities, ask.condition, excluded), make)

    def _passing(self, condition: Condition) -> Allowed:
        columns = self.store.columns(self.resolver)
        return self._allowed.get(condition, lambda: evaluate(condition, columns))

    def _spread(self, ask: Ask) -> Spread | None:
        if ask.one_per is None:
            return None
        return spread_of(
            self.store, ask.one_per, lambda: self._places.get("um", lambda: places_of(self.store))
        )
