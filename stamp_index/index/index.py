"""An index over one modality of a store, to search."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from stamp_index.index.building import build_index
from stamp_index.index.difference import (
    Difference,
    compare,
    here,
    places,
    require_same_history,
)
from stamp_index.index.exact import (
    check_allowed,
    check_queries,
    exact_search,
    in_order,
    merge_hits,
    score,
)
from stamp_index.index.folder import check_modality, current, fetch_index
from stamp_index.index.generation import open_generation, require_same_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.index.background import Background
    from stamp_index.index.card import IndexCard
    from stamp_index.index.engine import Progress, Settings
    from stamp_index.index.generation import Generation
    from stamp_index.index.recipes import IndexRecipe
    from stamp_index.store import Modality, Store

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]

_WIDER: Final = 4  # times as many hits, while more may score as the last does


@dataclass(frozen=True)
class _State:
    """A generation of the index, how one version of the store differs from it, and that made ready."""

    generation: Generation
    since: Difference
    everything: Prepared


@dataclass(frozen=True)
class Prepared:
    """A filter made ready by `Index.prepare`, for any number of searches; answers at that version of the store.

    Attributes
    ----------
    generation : Generation
        What is searched.
    since : Difference
        What the store has besides.
    old : object or None
        Positions of the index that may be found, as its engine has them; None for all.
    newer : ndarray of shape (m,), bool, or None
        Which of the newer rows may be found; None for all.
    """

    generation: Generation
    since: Difference
    old: Any
    newer: NDArray[np.bool_] | None


class Index:
    """Nearest rows of a store by one of its embeddings.

    Made by `Index.open` or `Index.build`. Searches change nothing, so threads may share it. Rows
    added to the store since it was built are searched exactly and merged, and rows that were deleted since
    are not found: a search is right just after an add or a delete.

    Attributes
    ----------
    store : Store
        The store whose rows are found, at the version that it shows.
    modality : {"image", "gene"}
        Which embedding is searched.
    """

    def __init__(self, store: Store, modality: Modality, generation: Generation) -> None:
        self.store = store
        self.modality = modality
        self._state = self._compare(generation, None)

    def __repr__(self) -> str:
        card = self.card
        return f"Index({card.kind}, {card.modality}, {card.n} x {card.dim})"

    @classmethod
    def open(cls, store: Store, modality: Modality) -> Self:
        """Open a store's index.

        Raises
        ------
        AnnIndexError
            If there is none, it is damaged, or was made of another store, history or release.
        EncoderMismatchError
            If its embeddings are not of the encoder that the store was opened with.
        ValueError
            If the modality is unknown.
        """
        check_modality(modality)
        return cls(store, modality, open_generation(fetch_index(store, modality)))

    @classmethod
    def build(
        cls,
        store: Store,
        modality: Modality,
        recipe: IndexRecipe | None = None,
        *,
        seed: int = 0,
        max_memory_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Build a store's index and open it: see `build_index`."""
        build_index(
            store,
            modality,
            recipe,
            seed=seed,
            max_memory_bytes=max_memory_bytes,
            progress=progress,
        )
        return cls.open(store, modality)

    # ---- what it is --------------------------------------------------------------------------

    @property
    def card(self) -> IndexCard:
        """What it is and its measured recall."""
        return self._state.generation.card

    @property
    def n_newer(self) -> int:
        """Rows of the store that are not in the index: searched exactly."""
        return len(self._now().since.rows)

    @property
    def n_gone(self) -> int:
        """Rows of the index that the store does not have any more: passed over."""
        return self._now().since.n_gone

    @property
    def backgrounds(self) -> dict[str, Background]:
        """Scores of random queries by their modality, to hold a score against."""
        return self._state.generation.backgrounds

    def settings_for(self, recall: float) -> Settings:
        """Return the cheapest settings measured to find this share of the exact top 10: see `IndexCard.settings_for`."""
        return self.card.settings_for(recall)

    def refresh(self) -> None:
        """Go over to the newest generation of the index, if another process has put one in place.

        Searches that other threads have begun go on with the old one.

        Raises
        ------
        AnnIndexError, EncoderMismatchError
            As `open`.
        """
        folder = fetch_index(self.store, self.modality)
        if current(folder) != self._state.generation.folder:
            self._state = self._compare(open_generation(folder), None)

    # ---- searching ---------------------------------------------------------------------------

    def prepare(self, allowed: NDArray[np.bool_] | None) -> Prepared:
        """Make a filter ready, to be used for any number of searches.

        Parameters
        ----------
        allowed : ndarray of shape (store.n_rows,), bool, or None
            Rows that may be found, by row id; None for all.

        Raises
        ------
        ValueError
            If it is not one bool per row.
        """
        state = self._now()
        if allowed is None:
            return state.everything
        check_allowed(allowed, self.store.n_rows)
        generation, since = state.generation, state.since
        mask = here(allowed, generation.rows)
        if since.gone is not None:
            mask &= ~since.gone
        return Prepared(generation, since, generation.engine.prepare(mask), allowed[since.rows])

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | Prepared | None = None,
        settings: Settings | None = None,
        recall: float | None = None,
    ) -> Hits:
        """Find the rows of highest cosine.

        Parameters
        ----------
        queries : ndarray of shape (q, d), float32
            Scaled to unit length.
        k : int
            Hits per query.
        allowed : ndarray of shape (store.n_rows,), bool, or Prepared, optional
            Rows that may be found, by row id; all by default. What `prepare` returns saves time where it is used
            again.
        settings : Settings, optional
            How thoroughly to search; by default what the recipe's target needs. Without effect on a flat index.
        recall : float, optional
            Instead of `settings`: share of the exact top 10 to find. The settings are those that were measured for
            it (see `IndexCard.settings_for`), of the very index that answers, whatever was put in place since
            `allowed` was prepared. At 1, and whatever is asked of a flat index, all rows are compared.

        Returns
        -------
        scores : ndarray of shape (q, k'), float32
            Exact cosine with the stored float16 vectors, descending. k' is k, or the number of
            allowed rows that have the embedding if that is less.
        rows : ndarray of shape (q, k'), int64
            Row ids of the store; equal scores by ascending row.

        Raises
        ------
        ValueError
            If shapes, dtypes, values or numbers are wrong, both `settings` and `recall` are given, or nothing was
            measured for a recall so high.
        """
        ready = allowed if isinstance(allowed, Prepared) else self.prepare(allowed)
        engine, card = ready.generation.engine, ready.generation.card
        exactly = False
        if recall is not None:
            _check_recall(recall, settings)
            exactly = recall == 1 or engine.is_exact
            settings = None if exactly else card.settings_for(recall)

        def ask(queries: NDArray[np.float32], k: int) -> Hits:
            if exactly:
                return engine.exact(check_queries(queries, card.dim, k), k, ready.old)
            return engine.search(queries, k, settings=settings, allowed=ready.old)

        found = _found(ready.generation, queries, k, ask)
        since = ready.since
        newer, at = exact_search(since.vectors, queries, k, allowed=ready.newer)
        # Also where nothing is newer: equal scores come by ascending row, whatever their positions.
        return merge_hits((found[0], newer), (found[1], since.rows[at]), k)

    def cosines(self, rows: ArrayLike, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine of some rows with one query, at the version that the store shows.

        Parameters
        ----------
        rows : array of shape (m,), int
            Row ids of the store, in any order.
        query : ndarray of shape (d,), float32
            Scaled to unit length.

        Returns
        -------
        ndarray of shape (m,), float32
            The scores that `search` gives these rows, to the last bit; -inf for rows without the embedding, and
            for those that the store does not have.

        Raises
        ------
        ValueError
            If shapes, dtypes or values are wrong.
        """
        asked = np.asarray(rows)
        if asked.ndim != 1 or (len(asked) and asked.dtype.kind not in "iu"):
            msg = f"Rows are {asked.dtype} of shape {asked.shape}; expected whole numbers of shape (m,)."
            raise ValueError(msg)
        state = self._now()
        generation, since = state.generation, state.since
        unit = check_queries(np.asarray(query)[None], generation.card.dim, 1)[0]
        cosines = np.full(len(asked), -np.inf, np.float32)
        at = generation.positions(asked)
        there = at >= 0
        if since.gone is not None:
            there &= ~since.gone[at]
        cosines[there] = generation.engine.cosines(at[there], unit)
        at = places(since.rows, asked)
        there = at >= 0
        cosines[there] = score(since.vectors, at[there], unit)
        return cosines

    # ---- helpers -----------------------------------------------------------------------------

    def _now(self) -> _State:
        """State at the version that the store shows."""
        before = state = self._state
        if state.since.version != self.store.version:
            state = self._compare(state.generation, state.since)
            if (
                self._state is before
            ):  # else another thread went over to a newer generation meanwhile
                self._state = state
        return state

    def _compare(self, generation: Generation, before: Difference | None) -> _State:
        store = copy(self.store)  # another thread may move the original on meanwhile
        require_same_encoder(store, self.modality, generation.card)
        require_same_history(store, generation.slides, generation.rows, generation.card.n_rows)
        since = compare(store, self.modality, generation.rows, before)
        old = None if since.gone is None else generation.engine.prepare(~since.gone)
        return _State(generation, since, Prepared(generation, since, old, None))


def _check_recall(recall: float, settings: Settings | None) -> None:
    if settings is not None:
        msg = f"Both {settings} and a recall of {recall:g} were given to search with; give one of them."
        raise ValueError(msg)
    if not 0 < recall <= 1:
        msg = f"recall is {recall!r}; expected a number above 0, at most 1."
        raise ValueError(msg)


def _found(
    generation: Generation,
    queries: NDArray[np.float32],
    k: int,
    ask: Callable[[NDArray[np.float32], int], Hits],
) -> Hits:
    """Scores and row ids of what is found in an index, of equal scores the lowest row ids.

    An engine gives the lowest positions. Where row ids do not ascend with them, it is asked for more, until all
    that score as the last hit does are seen.
    """
    if generation.order is None:
        scores, at = ask(queries, k)
        return scores, generation.rows[at]
    width = k + 1
    scores, at = ask(queries, width)
    best, rows = in_order(scores, generation.rows[at], k)
    left = np.arange(len(queries))
    while scores.shape[1] == width:  # else that is all there is
        tied = scores[:, -1] == scores[:, k - 1]
        left = left[tied]
        if len(left) == 0:
            break
        width *= _WIDER
        scores, at = ask(queries[left], width)
        if scores.shape[1] < k:
            break  # shards that answered before do not any more: what is known of them stays
        best[left], rows[left] = in_order(scores, generation.rows[at], k)
    return best, rows
