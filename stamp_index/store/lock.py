"""One writer at a time."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from stamp_index.errors import StoreBusyError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE: Final = ".lock"
WAIT_S: Final = 60.0  # for another writer, unless the caller says otherwise
_POLL_S: Final = 0.05


@contextmanager
def write_lock(folder: Path, timeout_s: float, *, what: str = "store") -> Iterator[None]:
    """Hold the write lock of a store, or of `what` else lies in a folder; wait up to `timeout_s` seconds.

    The kernel drops the lock when its holder ends, however it ends, so a lock is never stale.

    Raises
    ------
    StoreBusyError
        If another process still holds it after `timeout_s`.
    StoreError
        If nothing can be written there.
    """
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as exc:
        msg = f"The {what} at {folder} cannot be written: {exc}. Check the folder and its permissions."
        raise StoreError(msg) from exc
    try:
        _acquire(descriptor, f"{what} at {folder}", timeout_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)  # for the message of who waits
        yield
    finally:
        os.close(descriptor)  # closing releases the lock


def _acquire(descriptor: int, what: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 20, 0).decode() or "unknown"
                msg = (
                    f"The {what} is being written by process {holder}, waited "
                    f"{timeout_s:g} s for it. Try again when it is done."
                )
                raise StoreBusyError(msg) from exc
            time.sleep(_POLL_S)
        else:
            return
