"""FAISS files that are written whole or not at all; `reading` opens them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from stamp_index.errors import AnnIndexError
from stamp_index.index.faiss_library import load_faiss

if TYPE_CHECKING:
    from pathlib import Path

    import faiss


_BUFFER_BYTES: Final = 2**20
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def write_index(index: faiss.Index, path: Path) -> None:
    """Write under another name, flush to the disk, rename.

    FAISS's own files do not tell when their last bytes found no room, so Python writes them.

    Raises
    ------
    AnnIndexError
        If it cannot be written, as on a full disk.
    """
    scratch, faiss = path.with_name(f".{path.name}.new"), load_faiss()
    try:
        scratch.unlink(missing_ok=True)  # "x" below writes through no link that lies there
        with scratch.open("xb", buffering=_BUFFER_BYTES) as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
        flush(scratch)
        scratch.replace(path)
        flush(path.parent)
    except (RuntimeError, OSError) as exc:  # FAISS raises RuntimeError
        scratch.unlink(missing_ok=True)
        raise AnnIndexError(cannot_write(path, exc)) from exc


def cannot_write(what: object, exc: Exception) -> str:
    """Say why something cannot be written, and what to do."""
    full = isinstance(exc, OSError) and exc.errno in _FULL
    remedy = "Free disk space" if full else "Put right what this says"
    return f"{what} cannot be written ({first_line(exc)}). {remedy} and try again."


def flush(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def first_line(exc: Exception) -> str:
    """Return what FAISS says happened."""
    # FAISS puts the C++ function and file first, and what happened last.
    return str(exc).strip().rsplit("Error: ", 1)[-1].splitlines()[0]
