"""An index over one modality of a store, to search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from stamp_index.index.building import build_index
from stamp_index.index.difference import Difference, compare, here, require_same_history
from stamp_index.index.exact import check_allowed, check_queries, exact_search, merge_hits
from stamp_index.index.folder import check_modality, current, index_folder
from stamp_index.index.generation import open_generation, require_same_encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stamp_index.index import engine
    from stamp_index.index.background import Background
    from stamp_index.index.card import IndexCard
    from stamp_index.index.engine import Progress, Settings
    from stamp_index.index.generation import Generation
    from stamp_index.index.recipes import IndexRecipe
    from stamp_index.store import Modality, Store

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]


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
    old : engine.Allowed or None
        Positions of the index that may be found; None for all.
    newer : ndarray of shape (m,), bool, or None
        Which of the newer rows may be found; None for all.
    """

    generation: Generation
    since: Difference
    old: engine.Allowed | None
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
        return cls(store, modality, open_generation(index_folder(store, modality)))

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
        folder = index_folder(self.store, self.modality)
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
            If shapes, dtypes, values or numbers are wrong.
        """
        ready = allowed if isinstance(allowed, Prepared) else self.prepare(allowed)
        engine = ready.generation.engine
        return _merged(
            ready, queries, k, engine.search(queries, k, settings=settings, allowed=ready.old)
        )

    def search_exactly(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | Prepared | None = None,
    ) -> Hits:
        """Find the rows of highest cosine by comparing all of them; otherwise as `search`."""
        ready = allowed if isinstance(allowed, Prepared) else self.prepare(allowed)
        engine = ready.generation.engine
        unit = check_queries(queries, self.card.dim, k)
        return _merged(ready, queries, k, engine.exact(unit, k, ready.old))

    # ---- helpers -----------------------------------------------------------------------------

    def _now(self) -> _State:
        """State at the version that the store shows."""
        state = self._state
        if state.since.version != self.store.version:
            state = self._state = self._compare(state.generation, state.since)
        return state

    def _compare(self, generation: Generation, before: Difference | None) -> _State:
        store = self.store
        require_same_encoder(store, self.modality, generation.card)
        require_same_history(store, generation.slides, generation.rows, generation.card.n_rows)
        since = compare(store, self.modality, generation.rows, before)
        old = None if since.gone is None else generation.engine.prepare(~since.gone)
        return _State(generation, since, Prepared(generation, since, old, None))


def _merged(ready: Prepared, queries: NDArray[np.float32], k: int, found: Hits) -> Hits:
    """Join what was found in the index, by position, with newer rows."""
    scores, rows = found[0], ready.generation.rows[found[1]]
    since = ready.since
    newer, at = exact_search(since.vectors, queries, k, allowed=ready.newer)
    # Also where nothing is newer: equal scores come by ascending row, whatever their positions.
    return merge_hits((scores, newer), (rows, since.rows[at]), k)
