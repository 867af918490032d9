"""The indexes that a searcher asks."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from stamp_index.index import Index, has_index
from stamp_index.index.generation import require_same_encoder
from stamp_index.store.schema import MODALITIES

if TYPE_CHECKING:
    from stamp_index.store import Modality, Store


def open_indexes(store: Store, shards: str | None = None) -> dict[Modality, Index]:
    """Open every index that a store has of its encoder.

    Parameters
    ----------
    store : Store
        Opened at a version.
    shards : str, optional
        Where its shards are served, as `stamp_index.shards.connect` takes it: the indexes that were divided are asked
        there, and only the others are opened here.

    Raises
    ------
    AnnIndexError
        If one cannot be used.
    ShardError
        If the shards cannot be reached, or are of something else.
    """
    indexes: dict[Modality, Index] = {}
    if shards:
        from stamp_index.shards import ShardedIndex, connect

        service = connect(shards, store)
        served = service.plans()
        indexes = {s: ShardedIndex.connect(store, s, service) for s in MODALITIES if s in served}
    for side in MODALITIES:
        if side not in indexes and has_index(store, side):
            indexes[side] = Index.open(store, side)
    return indexes


def index_at(store: Store, modality: Modality, index: Index) -> Index:
    """Return an index that shows the version of `store`, whatever becomes of the one given."""
    require_same_encoder(store, modality, index.card)
    shown = copy(index)
    shown.store = store
    return shown
