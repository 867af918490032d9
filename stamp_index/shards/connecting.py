"""From an address to what answers for the shards there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stamp_index.shards.service import LocalShards

if TYPE_CHECKING:
    from stamp_index.shards.service import ShardService
    from stamp_index.store.view import StoreView

SHARDS_VARIABLE: Final = "STAMP_INDEX_SHARDS"
LOCAL: Final = "local"


def connect(address: str, store: StoreView) -> ShardService:
    """Find what serves a store's shards.

    Parameters
    ----------
    address : str
        ``"local"`` to open them in this process; ``http://host:port`` or ``https://...`` of the service, with the bearer
        token of the environment variable STAMP_INDEX_SHARD_TOKEN if it is set (to another machine by https alone); or
        ``ray://host:port`` of the cluster that it runs on (``ray://auto`` for the one that this machine is a part of).
    store : StoreView
        Whose shards they are; whether those served are is seen by `ShardedIndex.connect`.

    Raises
    ------
    ShardError
        If the cluster cannot be reached, or runs no such service.
    AnnIndexError
        If the store has no shards to open here.
    ValueError
        If the address is none of these, or a token would be sent in the clear.
    """
    scheme = address.partition("://")[0].lower()
    if address == LOCAL:
        return LocalShards.open(store)
    if scheme in ("http", "https"):
        from stamp_index.shards.http_client import HttpShards

        return HttpShards(address)
    if scheme == "ray":
        from stamp_index.shards.ray_client import RayShards

        return RayShards(address)
    msg = f"The address of the shards is {address!r}; expected http://host:port, ray://host:port or local."
    raise ValueError(msg)
