"""Stores that this process has open for reading: the pages and the routes share them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from app.settings import settings
from stamp_index.errors import StoreError
from stamp_index.search import Searcher
from stamp_index.search.indexes import open_indexes
from stamp_index.search.kept import Kept
from stamp_index.store import Store
from stamp_index.store.manifest import read_manifest

if TYPE_CHECKING:
    import pandas as pd

    from stamp_index.encoders.base import Encoder

Against = Literal["image", "gene"]
MAX_OPEN = 2  # versions that are kept open: the newest, and the one that open pages still show

_given_encoder: list[Encoder] = []
_opened: OrderedDict[tuple[str, int, str], Opened] = OrderedDict()
_opening = threading.Lock()
_searchers: Kept[Searcher] = Kept(MAX_OPEN)


@dataclass(frozen=True)
class Opened:
    """A version of a store that is open for reading, with what answers queries on it."""

    path: str
    store: Store
    slides: pd.DataFrame  # indexed by slide_id

    @property
    def key(self) -> tuple[str, int, str]:
        """What a cached answer depends on besides the query; a store in the place of another differs in its id."""
        return self.path, self.store.version, self.store.store_id

    @property
    def searcher(self) -> Searcher:
        """Answers queries; the first who asks waits for encoder and indexes, which looking at slides does not need.

        Raises
        ------
        StampIndexError
            If the encoder cannot be loaded, or an index cannot be used.
        """
        return _searchers.get(self.key, lambda: _searcher_of(self.store))

    def has_row(self, row: int) -> bool:
        """Whether a spot has this row id."""
        first, n = self.slides["first_spot"], self.slides["n_spots"]
        return bool(((first <= row) & (row < first + n)).any())

    @property
    def is_synthetic(self) -> bool:
        """True where every slide was drawn by the phantom."""
        return len(self.slides) > 0 and set(self.slides["platform"]) == {"phantom"}

    @cached_property
    def measured(self) -> frozenset[str]:
        """Genes that a slide of the store measured; none where all of it is plain H&E."""
        return frozenset(self.store.genes)

    @cached_property
    def plain_slides(self) -> frozenset[str]:
        """Slides on which nothing was measured."""
        return frozenset(self.slides.index[self.slides["n_genes"] == 0])

    @cached_property
    def searchable(self) -> tuple[Against, ...]:
        """Embeddings that any spot has; a store of plain H&E has no gene profiles."""
        held: tuple[Against, ...] = ("image", "gene")
        return tuple(one for one in held if self.store.has_vector(one).any())


def use_encoder(encoder: Encoder) -> None:
    """Serve every store with this encoder instead of the one that the store carries."""
    _given_encoder[:] = [encoder]


def open_store(path: str) -> Opened:
    """The newest version of the store at `path`, a folder or an address; a new version is noticed at the next query.

    Raises
    ------
    StampIndexError
        If there is no store, or it is damaged or newer than this release.
    """
    newest = read_manifest(path)
    return open_version(path, newest.version, newest.store_id)


def open_version(path: str, version: int, store_id: str) -> Opened:
    """One version of the store at `path`; the `MAX_OPEN` that were asked for last stay open.

    Raises
    ------
    StoreError
        If another store lies at `path` now, or it has no such version any more.
    """
    key = path, version, store_id
    with _opening:  # one thread opens, the others wait for it
        held = _opened.get(key) or _open(path, version)
        if held.store.store_id != store_id:
            msg = f"Another store lies at {path} now. Reload the page to see it."
            raise StoreError(msg)
        _opened[key] = held
        _opened.move_to_end(key)
        while len(_opened) > MAX_OPEN:
            _opened.popitem(last=False)
    return held


def _open(path: str, version: int) -> Opened:
    store = Store.open(path, version=version)
    if _given_encoder:
        for name, card in store.encoders.items():
            if card.fingerprint == _given_encoder[0].fingerprint:
                store = Store.open(path, version=version, encoder=name)
    return Opened(path, store, store.slides().set_index("slide_id", drop=False))


def _searcher_of(store: Store) -> Searcher:
    """The only place where the app makes a searcher."""
    from stamp_index.encoders import load_encoder

    encoder = _given_encoder[0] if _given_encoder else load_encoder(store.encoder_path)
    return Searcher(store, encoder, open_indexes(store, settings().shards))
