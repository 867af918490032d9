"""Decoded tiles, kept while they are likely to be needed again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy as np
    from numpy.typing import NDArray

CACHE_BYTES: Final = (
    128 * 1024 * 1024
)  # some 600 tiles of 256 px: three rows of a slide of 50,000 px
_most = [CACHE_BYTES]


def keep_at_most(n_bytes: int) -> None:
    """Keep this many bytes of decoded tiles of a slide, from now on in this process, instead of `CACHE_BYTES`.

    Reading every patch of a slide in file order needs whole rows of tiles; showing what a few people look at does not.
    """
    _most[0] = n_bytes


class TileCache:
    """The tiles that were used last, up to `CACHE_BYTES` or what `keep_at_most` said; threads may share it, and another process begins anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._n_bytes = 0

    def get(self, key: Hashable, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return a tile, decoded if it is not kept."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        tile = decode()
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._n_bytes += tile.nbytes
            while self._n_bytes > _most[0] and len(self._tiles) > 1:
                self._n_bytes -= self._tiles.popitem(last=False)[1].nbytes
        return tile

    def clear(self) -> None:
        """Free the tiles."""
        with self._lock:
            self._tiles.clear()
            self._n_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, _: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
