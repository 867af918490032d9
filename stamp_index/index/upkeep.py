"""Keeping an index close to its store, in the background of what changes the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from stamp_index.errors import StoreBusyError
from stamp_index.index.building import build_index
from stamp_index.index.difference import count
from stamp_index.index.folder import has_index, index_folder
from stamp_index.index.folding import fold_index
from stamp_index.index.generation import read_contents, require_same_encoder
from stamp_index.index.recipes import from_dict
from stamp_index.store import Store
from stamp_index.store.schema import MODALITIES

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from stamp_index.index.card import IndexCard
    from stamp_index.index.engine import Progress
    from stamp_index.store import Modality
    from stamp_index.store.places import Where

# Newer rows are compared one by one: 30,000 of 512 dimensions take 2.5 ms of a core, about what the
# rest of a search takes.
FOLD_ROWS: Final = 30_000
_MOST_FOLDED: Final = 0.5  # of the rows that trained the lists
_MOST_GONE: Final = 0.2  # of the rows in the index


def keep_up(
    store: Store,
    modality: Modality,
    *,
    fold_rows: int = FOLD_ROWS,
    progress: Progress | None = None,
) -> IndexCard | None:
    """Fold newer rows into an index if there are many, or build it again if it is no longer the same.

    It is built again, by its own recipe and in as much memory as before, when more than a fifth of its rows were deleted, when more rows were
    folded in than half of those that trained it, or when folding left its recall below the target.

    Parameters
    ----------
    store : Store
        As it is now.
    modality : {"image", "gene"}
        Of the index; nothing is done where there is none.
    fold_rows : int
        Newer rows from which they are folded in.
    progress : Progress, optional
        Is told what a build does, as in `build_index`.

    Returns
    -------
    IndexCard or None
        Of the new state; None where nothing was done, or somebody else is doing it.

    Raises
    ------
    AnnIndexError, EncoderMismatchError
        As `fold_index` and `build_index`.
    """
    if not has_index(store, modality) or not store.has_vector(modality).any():
        return None
    contents = read_contents(index_folder(store, modality))
    now, rows = contents.card, contents.rows
    require_same_encoder(store, modality, now)
    if store.version < now.store_version:
        return None  # the index knows a newer version than is shown here
    n_newer, n_gone = count(store, modality, rows)
    n_folded = now.n - now.n_trained + n_newer
    stale = (
        _lost_recall(now) or n_gone > _MOST_GONE * now.n or n_folded > _MOST_FOLDED * now.n_trained
    )
    try:
        if not stale and n_newer < fold_rows:
            return None
        if not stale:
            card = fold_index(store, modality)
            if card is None or not _lost_recall(card):
                return card  # None where somebody else has folded them meanwhile
        return build_index(
            store,
            modality,
            from_dict(now.recipe),
            seed=now.seed,
            max_memory_bytes=now.max_memory_bytes,
            progress=progress,
        )
    except StoreBusyError:
        return None


def _lost_recall(card: IndexCard) -> bool:
    """Whether the target was reached when it was built, and is no longer."""
    choices = {one["target"]: one for one in card.calibration["choices"]}
    return bool(choices[card.target_recall]["reached"]) and not card.reached


class _StoppedError(Exception):
    """Nobody waits for what is being built."""


class Keeper:
    """Keeps the indexes of a store up in a thread of its own while slides are added.

    Use it in a ``with`` statement and call `nudge` after each change. Leaving the statement waits for what is going
    on, and raises what went wrong in it; leaving it by an error stops that after the block or stage that is on.
    """

    def __init__(self, place: Where, encoder: str) -> None:
        self._where = place, encoder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="index-upkeep")
        self._running: Future[None] | None = None
        self._stopped = False

    def nudge(self) -> None:
        """Start looking whether something is to be done, unless that is going on, or went wrong before."""
        if self._running is None or (self._running.done() and self._running.exception() is None):
            self._running = self._pool.submit(self._look)

    def _look(self) -> None:
        place, encoder = self._where
        for modality in MODALITIES:
            keep_up(Store.open(place, encoder=encoder), modality, progress=self._hear)

    def _hear(self, stage: str, done: int, total: int) -> None:
        del stage, done, total
        if self._stopped:
            raise _StoppedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped = error is not None
        self._pool.shutdown()
        if error is None and self._running is not None:
            self._running.result()
            self._look()  # at what came after
