"""Who reads a version: a lock that the kernel drops when the reader ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


class Lease:
    """A shared lock on one file, held until this object is gone.

    Whoever wants to remove what the file stands for asks `is_free` first.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Lock a file; None if it was removed before that."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink == 0:  # removed between the two lines above
            os.close(descriptor)
            return None
        return cls(descriptor)

    def __del__(self) -> None:
        os.close(self._descriptor)  # closing releases the lock


def remove_if_free(path: Path) -> bool:
    """Remove a file that nobody holds a lease on; False if somebody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
