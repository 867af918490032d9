"""A folder of copies, of bounded size, that processes share: no copy is seen in part, and none goes that somebody reads.

A copy is a folder that is made under a hidden name and renamed when it is whole. A file in it is a lock: whoever makes
or reads the copy holds it shared, so what can be locked whole is in nobody's use. Only one process at a time makes room,
and it counts what is being copied as if it were there; so the bound holds, and what a killed process left behind goes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from stamp_index.errors import SlideError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT_VARIABLE: Final = "STAMP_INDEX_CACHE_GB"
_LIMIT_GB: Final = 50.0
_LOCK: Final = ".lock"
_ORIGIN: Final = ".origin.json"  # address and bytes; written when the copy was used last
_ROOM: Final = ".room"  # beside the copies: held by who makes room
_TAKEN: Final = (errno.ENOTEMPTY, errno.EEXIST)


def held(entry: Path) -> int | None:
    """Hold a copy: a descriptor that keeps it until it is closed; None where there is none."""
    while True:
        try:
            lease = os.open(entry / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        fcntl.flock(lease, fcntl.LOCK_SH)
        if _is_of(lease, entry):
            os.utime(entry / _ORIGIN)
            return lease
        os.close(lease)  # that copy was removed before it could be held; another may be there


def _is_of(lease: int, entry: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lease), (entry / _LOCK).stat())
    except FileNotFoundError:
        return False


def begin(entry: Path, address: str, n_bytes: int) -> tuple[Path, int]:
    """Make room for a copy, and a folder to make it in, which is held: see `held`.

    Raises
    ------
    SlideError
        If it does not fit.
    """
    home = entry.parent
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(home):
        _make_room(home, n_bytes, address)
        draft = _hidden(entry)
        draft.mkdir()
        said = {"address": address, "bytes": n_bytes}
        (draft / _ORIGIN).write_text(json.dumps(said), encoding="utf-8")
        lease = os.open(draft / _LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lease, fcntl.LOCK_SH)
        return draft, lease


def finish(draft: Path, entry: Path) -> bool:
    """Put a copy that is whole in its place; False where another process's is there, which stays."""
    try:
        draft.replace(entry)
    except OSError as exc:
        if exc.errno not in _TAKEN:
            raise
        return False
    return True


def address_in(entry: Path) -> str | None:
    """Address that a copy was made of; None for what is no copy."""
    try:
        said = json.loads((entry / _ORIGIN).read_text(encoding="utf-8"))
        return str(said["address"])
    except (ValueError, OSError, KeyError, TypeError):
        return None


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    lock = os.open(home / _ROOM, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _hidden(entry: Path) -> Path:
    return entry.with_name(f".{entry.name.lstrip('.')}.{uuid.uuid4().hex}")


def _make_room(home: Path, n_bytes: int, address: str) -> None:
    """Remove what killed processes left, and copies that nobody reads, those used longest ago first, until it fits.

    Raises
    ------
    SlideError
        If it does not.
    """
    limit = _limit_bytes()
    used: dict[Path, int] = {}
    if n_bytes <= limit:  # else nothing need go for what will not fit
        used = {folder: _size(folder) for folder in _oldest_first(home)}
    for folder in list(used):
        is_left_over = folder.name.startswith(".") or not used[folder]
        is_full = sum(used.values()) + n_bytes > limit
        if (is_left_over or is_full) and _removed(folder):
            del used[folder]
    if sum(used.values()) + n_bytes > limit:
        msg = (
            f"{address} has {n_bytes / 1e9:.3g} GB; the cache at {home} takes {limit / 1e9:.3g} GB, of which "
            f"{sum(used.values()) / 1e9:.3g} GB are being read or written. Give it more by {LIMIT_VARIABLE}."
        )
        raise SlideError(msg)


def _oldest_first(home: Path) -> list[Path]:
    """List copies and drafts, what killed processes left before anything else."""

    def key(folder: Path) -> tuple[bool, float]:
        try:
            return not folder.name.startswith("."), (folder / _ORIGIN).stat().st_mtime
        except OSError:
            return False, 0.0

    return sorted((path for path in home.iterdir() if path.is_dir()), key=key)


def _limit_bytes() -> float:
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit_gb = float(text) if text else _LIMIT_GB
    except ValueError:
        limit_gb = math.nan
    if not 0 <= limit_gb < math.inf:
        msg = f"{LIMIT_VARIABLE} is {text!r}; expected a number of gigabytes, such as 50."
        raise SlideError(msg)
    return limit_gb * 1e9


def _size(folder: Path) -> int:
    """Bytes that a copy has, or will have when it is whole; 0 for what its maker or its remover left behind."""
    try:
        return int(json.loads((folder / _ORIGIN).read_text(encoding="utf-8"))["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _removed(folder: Path) -> bool:
    """Remove what nobody holds; False where somebody does. To be called by who makes room."""
    try:
        lease = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        lease = None  # its maker was killed before it could hold it
    try:
        if lease is not None:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = _hidden(folder)
        folder.rename(gone)  # at once, so that nobody finds a part of it
        shutil.rmtree(gone, ignore_errors=True)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass  # its maker gave it up
    finally:
        if lease is not None:
            os.close(lease)
    return True
