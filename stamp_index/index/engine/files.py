"""FAISS files that are there whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stamp_index.errors import AnnIndexError
from stamp_index.index.faiss_library import load_faiss

if TYPE_CHECKING:
    from pathlib import Path

    import faiss


def write_index(index: faiss.Index, path: Path) -> None:
    """Write under another name, flush to the disk, rename.

    Raises
    ------
    AnnIndexError
        If it cannot be written, as on a full disk.
    """
    scratch = path.with_name(f".{path.name}.new")
    try:
        load_faiss().write_index(index, str(scratch))
        flush(scratch)
        scratch.replace(path)
        flush(path.parent)
    except (RuntimeError, OSError) as exc:  # FAISS raises RuntimeError
        scratch.unlink(missing_ok=True)
        msg = f"{path} cannot be written ({_first_line(exc)}). Free disk space and try again."
        raise AnnIndexError(msg) from exc


def read_index(path: Path) -> faiss.Index:
    """Read an index file.

    Raises
    ------
    AnnIndexError
        If it is missing or damaged.
    """
    try:
        index: faiss.Index = load_faiss().read_index(str(path))  # of its own type already
    except RuntimeError as exc:
        msg = f"{path} cannot be read ({_first_line(exc)}). Build the index again."
        raise AnnIndexError(msg) from exc
    return index


def flush(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _first_line(exc: Exception) -> str:
    # FAISS puts the C++ function and file first, and what happened last.
    return str(exc).strip().rsplit("Error: ", 1)[-1].splitlines()[0]
