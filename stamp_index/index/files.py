"""Files that are known to be what was written: checksums, and when they need not be taken again."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine.files import flush

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Segment = tuple[int, str]  # bytes and SHA-256 of one stretch of a file

STAMPS: Final = "verified.json"
_BLOCK_BYTES: Final = 2**22


def segment(path: Path, start: int = 0) -> Segment:
    """Length and SHA-256 of a file from `start` to its end."""
    with path.open("rb") as file:
        file.seek(start)
        digest = hashlib.sha256()
        n_bytes = 0
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            n_bytes += len(block)
    return n_bytes, digest.hexdigest()


def write_json(path: Path, values: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """Write under another name, flush to the disk, rename."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)  # "x" writes through no link that lies there
    with scratch.open("x", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    flush(path.parent)


def stamp(path: Path) -> list[int]:
    """Return what changes whenever a file is written, replaced or copied."""
    facts = path.stat()
    return [facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def check_file(path: Path, written: Sequence[Segment], known: Sequence[int] | None) -> None:
    """Compare a file with what was written, by checksum unless its stamp is `known`.

    A file may be longer than was written: another generation of the index may have grown it.

    Raises
    ------
    AnnIndexError
        If it is missing, a link, shorter, or holds something else.
    """
    if not path.is_file():
        msg = f"The index at {path.parent} lacks {path.name}. Build the index again."
        raise AnnIndexError(msg)
    if path.is_symlink():  # folding writes to the end of one of them
        msg = f"{path} is a link to {path.resolve()}. Put the file itself there, or build the index again."
        raise AnnIndexError(msg)
    size, expected = path.stat().st_size, sum(n_bytes for n_bytes, _ in written)
    if size < expected:
        msg = (
            f"{path} has {size} bytes; the index's card says {expected}. It is damaged: build the "
            f"index again."
        )
        raise AnnIndexError(msg)
    if known is not None and list(known) == stamp(path):
        return
    with path.open("rb") as file:
        for n_bytes, sha256 in written:
            digest = hashlib.sha256()
            left = n_bytes
            while left and (block := file.read(min(left, _BLOCK_BYTES))):
                digest.update(block)
                left -= len(block)
            if digest.hexdigest() != sha256:
                msg = f"{path} is damaged: its checksum is not the card's. Build the index again."
                raise AnnIndexError(msg)


def read_stamps(folder: Path) -> dict[str, list[int]]:
    """Stamps of files whose checksums were right; empty where nobody left any."""
    try:
        values = json.loads((folder / STAMPS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # then the checksums are taken
    if not isinstance(values, dict):
        return {}
    return {name: held for name, held in values.items() if isinstance(held, list)}
