"""Local folders with copies of what lies in object storage, and where they are."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from stamp_index.remote.cache import cache_home, writing_copies

if TYPE_CHECKING:
    from pathlib import Path

_STORES: Final = "stores"
_LONGEST: Final = (
    50  # characters of a store's name in that of its copy: file systems take 255 bytes
)
_ADDRESS: Final = "ADDRESS"  # file of a copy: what it is a copy of


def mirror_of(address: str) -> Path:
    """Return the folder that keeps copies of a store's checkpoints and indexes; made if it is missing.

    Raises
    ------
    StoreError
        If it cannot be made.
    """
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    folder = cache_home() / _STORES / f"{address.rsplit('/', 1)[-1][:_LONGEST]}-{digest}"
    note = folder / _ADDRESS
    with writing_copies():
        if not note.is_file():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            note.write_text(address + "\n", encoding="utf-8")
    return folder


def address_of_mirror(folder: Path) -> str | None:
    """Say what a folder is the copy of; None for a folder that is no copy.

    Only folders that `mirror_of` made count: a folder from a stranger must not lead elsewhere.
    """
    if folder.parent != cache_home() / _STORES:
        return None
    try:
        address = (folder / _ADDRESS).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return address if mirror_of(address) == folder else None
