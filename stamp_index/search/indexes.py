"""The indexes that a searcher asks."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from stamp_index.index import Index, has_index
from stamp_index.index.generation import require_same_encoder
from stamp_index.store.schema import MODALITIES

if TYPE_CHECKING:
    from stamp_index.store import Modality, Store


def open_indexes(store: Store) -> dict[Modality, Index]:
    """Open every index that a store has of its encoder.

    Raises
    ------
    AnnIndexError
        If one cannot be used.
    """
    return {side: Index.open(store, side) for side in MODALITIES if has_index(store, side)}


def index_at(store: Store, modality: Modality, index: Index) -> Index:
    """Return an index that shows the version of `store`, whatever becomes of the one given."""
    require_same_encoder(store, modality, index.card)
    shown = copy(index)
    shown.store = store
    return shown
