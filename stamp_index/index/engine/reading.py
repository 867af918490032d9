"""Opening a FAISS file that a stranger may have written.

A checksum says that a file is what the index's card names, not that whoever wrote both meant well. FAISS compares much
of what it reads with limits that a program sets, and with itself. What it leaves open is looked at here, that no list
lies in another file, and in `checks`, that every part is as FAISS makes it for the kinds that this library builds.
"""

from __future__ import annotations

import mmap
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine.checks import require_built_here
from stamp_index.index.engine.files import first_line
from stamp_index.index.faiss_library import load_faiss

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faiss import Index

# The mark of lists in a file of their own, which FAISS opens by the name that the index gives (OnDiskInvertedLists.cpp).
_ELSEWHERE: Final = b"ilod"
_LEAST_LIMIT: Final = 1 << 20  # bytes: small indexes hold tables that are larger than their file
_BLOCK_BYTES: Final = 1 << 20
_LIST_BYTES: Final = 4  # that a list takes in a file at the very least, even an empty one
_limits = threading.Lock()  # those of FAISS count for the whole process


def read_index(path: Path) -> Index:
    """Read an index file.

    Parameters
    ----------
    path : Path
        Of a kind that this library builds.

    Returns
    -------
    faiss.Index
        Of its own type. Its ids are whatever the file says: see `stamp_index.index.engine.checks.require_places`.

    Raises
    ------
    AnnIndexError
        If it is missing, damaged, or of a kind that is never built.
    """
    faiss = load_faiss()
    try:
        if _names_another_file(path):
            index = _read_guarded(path)
        else:
            with _limited(path.stat().st_size):
                # of its own type already; tables, which count against the limit, are made for L2 alone
                index = faiss.read_index(str(path), faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE)
        require_built_here(index)
    except (RuntimeError, MemoryError, OSError, ValueError) as exc:  # FAISS raises RuntimeError
        msg = f"{path} cannot be read ({first_line(exc)}). Build the index again."
        raise AnnIndexError(msg) from exc
    return cast("Index", index)


@contextmanager
def _limited(n_bytes: int) -> Iterator[None]:
    """Let FAISS reserve no more than a file of so many bytes can fill."""
    faiss = load_faiss()
    with _limits:
        before = (
            faiss.get_deserialization_vector_byte_limit(),
            faiss.get_deserialization_loop_limit(),
        )
        most = max(n_bytes, _LEAST_LIMIT)
        faiss.set_deserialization_vector_byte_limit(most)
        faiss.set_deserialization_loop_limit(most // _LIST_BYTES)
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before[0])
            faiss.set_deserialization_loop_limit(before[1])


# ---- lists in other files ------------------------------------------------------------------------


def _names_another_file(path: Path) -> bool:
    """Whether the mark of such lists stands anywhere; in one of 2^32 places it does by chance."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_ELSEWHERE) >= 0


def _read_guarded(path: Path) -> Any:  # noqa: ANN401 - a faiss.Index
    """Read a file that holds the mark, by chance or not, and stop where FAISS asks for it as a mark.

    Marks are read by themselves. No number of four bytes that an index holds is as large as this one. What is longer
    than a block is asked for in several, of which the last may have four bytes too.
    """
    faiss = load_faiss()
    asked = 0
    with path.open("rb") as file:

        def read(n_bytes: int) -> bytes:
            nonlocal asked
            part, goes_on, asked = file.read(n_bytes), asked == _BLOCK_BYTES, n_bytes
            if part == _ELSEWHERE and not goes_on:
                msg = "its lists lie in another file"
                raise ValueError(msg)
            return part

        with _limited(path.stat().st_size):
            reader = faiss.PyCallbackIOReader(read, _BLOCK_BYTES)
            return faiss.read_index(reader, faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE)
