"""Uploaded pictures as pixels: each belongs to its session and goes with it, and all of them share one budget."""

from __future__ import annotations

import hashlib
import threading
import weakref
from typing import TYPE_CHECKING

from stamp_index.slides import safe_open

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    import numpy as np
    from numpy.typing import NDArray

MAX_BYTES = 64 * 1024 * 1024  # of all sessions
_KEY = "decoded_upload"  # in the session


class Decoded:
    """One session's picture; `pixels` (h, w, 3) uint8 are None while others need the room."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.pixels: NDArray[np.uint8] | None = None


_lock = threading.Lock()  # one picture is opened at a time: a small file can hold many pixels
_held: list[weakref.ref[Decoded]] = []  # the one that was used last comes last; sessions own them


def decode(data: bytes, session: MutableMapping[str, object]) -> NDArray[np.uint8]:
    """Pixels of an upload, which `session` owns from now on in place of the one before.

    Raises
    ------
    ImageFormatError
        If it cannot be read safely.
    """
    digest = hashlib.sha256(data).digest()
    mine = session.get(_KEY)
    if not isinstance(mine, Decoded) or mine.digest != digest:
        mine = session[_KEY] = Decoded(digest)
    with _lock:
        pixels = mine.pixels if mine.pixels is not None else safe_open(data)
        mine.pixels = pixels
        _make_room(mine)
    return pixels


def _make_room(used: Decoded) -> None:
    """Let go of the pixels that were used longest ago, until the rest is within the budget; never of `used`."""
    others = [
        one
        for ref in _held
        if (one := ref()) is not None and one is not used and one.pixels is not None
    ]
    _held[:] = [weakref.ref(one) for one in (*others, used)]
    n_bytes = used.pixels.nbytes if used.pixels is not None else 0
    for one in reversed(others):
        n_bytes += one.pixels.nbytes if one.pixels is not None else 0
        if n_bytes > MAX_BYTES:
            one.pixels = None
