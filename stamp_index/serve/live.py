"""The store that is served: always a whole version with what answers queries on it, and soon the newest."""

from __future__ import annotations

import gc
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from stamp_index.index import Index, has_index
from stamp_index.process_memory import give_back
from stamp_index.search import Searcher
from stamp_index.search.indexes import index_at
from stamp_index.search.vector_searcher import VectorSearcher
from stamp_index.serve.problems import RefusedError
from stamp_index.store import Store
from stamp_index.store.schema import MODALITIES

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from stamp_index.encoders.base import Encoder
    from stamp_index.store import Modality

CHECK_EVERY_S = 1.0
LONGEST_WAIT_S = 30.0  # between two looks, where each fails

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """One version of the store.

    Attributes
    ----------
    searcher : VectorSearcher
        A `Searcher` where the store carries its encoder, or one was given.
    slides : DataFrame
        As `Store.slides`, indexed by slide_id.
    """

    searcher: VectorSearcher
    slides: pd.DataFrame

    @property
    def store(self) -> Store:
        """The store at this version."""
        return self.searcher.store

    @property
    def asking(self) -> Searcher:
        """What answers queries that an encoder must embed.

        Raises
        ------
        StoreError
            If the store was made without its encoder, and none was given.
        """
        if not isinstance(self.searcher, Searcher):
            _ = self.store.encoder_path  # says so
        return cast("Searcher", self.searcher)


class Live:
    """Keeps the newest version of a store open, in a thread of its own. Threads may share it.

    Requests that run go on with the version that they began with; it is let go when the last of them is done.

    Parameters
    ----------
    store_path : path
        Folder of the store.
    encoder : Encoder or str, optional
        As `Searcher.open` says.
    check_every_s : float
        Seconds between two looks for a newer version.
    """

    def __init__(
        self,
        store_path: Path | str,
        *,
        encoder: Encoder | str | None = None,
        check_every_s: float = CHECK_EVERY_S,
    ) -> None:
        self._path, self._given = store_path, encoder
        self._every_s = check_every_s
        self._opened: Opened | None = None
        self._encoder: tuple[tuple[str, str], Encoder | None] | None = None
        self._is_frozen = False
        self._looked_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stamp-live", daemon=True)

    def start(self) -> None:
        """Begin to open the store, and to look for newer versions."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking, and let the store go."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._opened = self._encoder = None

    @property
    def is_ready(self) -> bool:
        """Whether queries are answered."""
        return self._opened is not None

    @property
    def unseen_s(self) -> float:
        """Seconds since the newest version was last looked at with success, or since the server was made."""
        return time.monotonic() - self._looked_at

    def now(self) -> Opened:
        """Return the version that is served.

        Raises
        ------
        RefusedError
            503 while none is open yet.
        """
        opened = self._opened
        if opened is None:
            msg = "The store is not open yet. Ask again in a moment."
            raise RefusedError(503, "NotReadyError", msg, retry_after_s=2)
        return opened

    def refresh(self) -> None:
        """Open the newest version if it is not the one that is served.

        Raises
        ------
        StampIndexError
            If it cannot be opened; the version before stays.
        """
        before = self._opened
        if before is not None:
            if self._is_newest(before):
                self._looked_at = time.monotonic()
                return
            # another store in the place of this one is noticed by its id
            if Store.open(self._path).store_id != before.store.store_id:
                before = None
        self._opened = self._open(before)
        self._looked_at = time.monotonic()
        del before
        gc.collect()  # tables refer to themselves; the next full collection may be hours away
        give_back()

    # ---- helpers -----------------------------------------------------------------------------

    @staticmethod
    def _is_newest(opened: Opened) -> bool:
        """Whether there is nothing newer; a newer generation of an index is gone over to at once."""
        store, indexes = opened.store, opened.searcher.indexes
        if store.versions[-1] != store.version:
            return False
        for index in indexes.values():
            index.refresh()
        return {side for side in MODALITIES if has_index(store, side)} == set(indexes)

    def _watch(self) -> None:
        said, wait_s = "", self._every_s
        while not self._stop.is_set():
            try:
                self.refresh()
                said, wait_s = "", self._every_s
            except Exception as error:  # noqa: BLE001 - whatever it is: without this thread nothing newer is ever served
                if str(error) != said:  # once, not every time
                    _log.exception("The newest version of the store cannot be opened.")
                said, wait_s = str(error), min(2 * wait_s, max(LONGEST_WAIT_S, self._every_s))
            self._stop.wait(wait_s)

    def _open(self, before: Opened | None) -> Opened:
        store, encoder = self._store_and_encoder()
        if not self._is_frozen:
            # Modules and the encoder stay: a collection need not look at them every time. Not the tables and indexes
            # of a version, which are let go.
            gc.collect()
            gc.freeze()
            self._is_frozen = True
        held = before.searcher.indexes if before is not None else {}
        if held and cast("Opened", before).store.encoder != store.encoder:
            held = {}
        indexes = _indexes(store, held)
        searcher = (
            VectorSearcher(store, indexes) if encoder is None else Searcher(store, encoder, indexes)
        )
        return Opened(searcher, searcher.store.slides().set_index("slide_id", drop=False))

    def _store_and_encoder(self) -> tuple[Store, Encoder | None]:
        """Newest version, and the encoder that is in memory already where it is the same.

        It stays there where something else of the version cannot be opened: loading it takes seconds.
        """
        given: Any = self._given
        name = given if isinstance(given, str) else None
        store = Store.open(self._path, encoder=name)
        if given is not None and name is None:
            for held, card in store.encoders.items():
                if card.fingerprint == given.fingerprint:
                    store = Store.open(self._path, encoder=held)
            return store, given
        known = (store.store_id, store.card.fingerprint)
        if self._encoder is None or self._encoder[0] != known:
            self._encoder = (known, _carried(store))
        return store, self._encoder[1]


def _carried(store: Store) -> Encoder | None:
    """Load the store's own encoder; None where it carries none."""
    from stamp_index.encoders import load_encoder
    from stamp_index.errors import StoreError

    try:
        folder = store.encoder_path
    except StoreError:
        return None
    return load_encoder(folder)


def _indexes(store: Store, held: dict[Modality, Index]) -> dict[Modality, Index]:
    """Indexes of a version; those that are open are carried over, so that only what has changed is read."""
    shown: dict[Modality, Index] = {}
    for side in MODALITIES:
        if not has_index(store, side):
            continue
        if side in held:
            shown[side] = index_at(store, side, held[side])
            shown[side].refresh()
        else:
            shown[side] = Index.open(store, side)
    return shown
