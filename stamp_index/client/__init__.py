"""Asking a store that another machine serves: what `Searcher` answers, over HTTP."""

from __future__ import annotations

from stamp_index.client.searcher import RemoteSearcher, connect
from stamp_index.client.store import RemoteStore

__all__ = ["RemoteSearcher", "RemoteStore", "connect"]
