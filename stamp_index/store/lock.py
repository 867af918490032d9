"""One writer at a time."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE: Final = ".lock"
WAIT_S: Final = 60.0  # for another writer, unless the caller says otherwise
_POLL_S: Final = 0.05


@contextmanager
def write_lock(store: Path, timeout_s: float) -> Iterator[None]:
    """Hold the store's write lock; wait up to `timeout_s` seconds for it.

    The kernel drops the lock when its holder ends, however it ends, so a lock is never stale.

    Raises
    ------
    StoreError
        If another process still holds it after `timeout_s`, or nothing can be written there.
    """
    try:
        descriptor = os.open(store / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        msg = (
            f"The store at {store} cannot be written: {exc}. Check the folder and its permissions."
        )
        raise StoreError(msg) from exc
    try:
        _acquire(descriptor, store, timeout_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)  # for the message of who waits
        yield
    finally:
        os.close(descriptor)  # closing releases the lock


def _acquire(descriptor: int, store: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 20, 0).decode() or "unknown"
                msg = (
                    f"The store at {store} is being written by process {holder}, waited "
                    f"{timeout_s:g} s for it. Try again when it is done."
                )
                raise StoreError(msg) from exc
            time.sleep(_POLL_S)
        else:
            return
