"""A store in an object storage: S3, or what speaks as S3 does, Google Cloud Storage, Azure.

Nothing can be locked there. What holds is that an object can be created only if it is not there (``If-None-Match``) and
replaced only if it is what was read (``If-Match``): a version of the store is created so, which decides between writers;
and a lease is held so, which spares them from meeting.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

from stamp_index.errors import StoreError
from stamp_index.remote.cache import writing_copies
from stamp_index.remote.objects import open_objects, unreachable
from stamp_index.store.mirror import mirror_of
from stamp_index.store.places import Place
from stamp_index.store.remote_folders import (
    damaged_folders,
    fetch_folder,
    push_folder,
    sweep_objects,
)
from stamp_index.store.remote_lock import held_lock
from stamp_index.store.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from obstore.store import ObjectStore

# Somebody on another machine may read a version for so long after a newer one came, or may be about to name a file for so
# long after it was written.
RETAINED: Final = timedelta(days=7)
# What lies there before version 1, which is created last.
_UNFINISHED: Final = {*(f"{name}.lance" for name in TABLES), "folders", "objects", "dropped", "writer.json"}  # fmt: skip
_VERSION: Final = re.compile(r"versions/(\d{8})\.json$")


class RemotePlace(Place):
    """A prefix of an object storage.

    Made by `of`. Its `folder` is a local copy of checkpoints and indexes; the tables are read where they lie.
    """

    def __init__(self, address: str, objects: ObjectStore) -> None:
        self.name = address
        self._objects = objects

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, address: str) -> Self:
        """Open an address, which takes no connection yet.

        Raises
        ------
        StoreError
            If the address is no such thing, or the package obstore is not there.
        """
        return cls(address, open_objects(address))

    @property
    def folder(self) -> Path:  # type: ignore[override]
        return mirror_of(self.name)

    @property
    def retained(self) -> timedelta:  # type: ignore[override]
        return RETAINED

    def table(self, table: str) -> str:
        return f"{self.name}/{table}.lance"

    def is_free(self) -> bool:
        import obstore

        with unreachable(self.name):
            found = obstore.list_with_delimiter(self._objects)
        names = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
        if not {name.strip("/") for name in names} <= _UNFINISHED:
            return False
        # Rows without a version are a store that lost it: they are not written over.
        return not any(self._holds(f"{name}.lance/data") for name in TABLES)

    # ---- versions ----------------------------------------------------------------------------

    def versions(self) -> list[int]:
        names = (_VERSION.search(one["path"]) for one in self._list("versions"))
        return sorted(int(match[1]) for match in names if match)

    def version_name(self, number: int) -> str:
        return f"{self.name}/{_version(number)}"

    def read_version(self, number: int) -> str:
        import obstore

        with unreachable(self.name):
            return bytes(obstore.get(self._objects, _version(number)).bytes()).decode()

    def create_version(self, number: int, text: str) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with unreachable(self.name):
                try:
                    obstore.put(self._objects, _version(number), text.encode(), mode="create")
                    return
                except AlreadyExistsError:
                    pass
        except StoreError as exc:
            msg = f"Whether version {number} of the store was written is not known. {exc} Then look what the store holds."
            raise StoreError(msg) from None
        # Where it is what was to be written, an answer was lost on the way, and the request repeated.
        if self.read_version(number) != text:
            raise FileExistsError(_version(number))

    def remove_version(self, number: int, successor: int) -> bool:
        import obstore

        with unreachable(self.name):
            # Until the successor came, everybody who opened the store opened this one, however old it was.
            superseded = obstore.head(self._objects, _version(successor))["last_modified"]
            if datetime.now(UTC) - superseded < RETAINED:
                return False
            obstore.delete(self._objects, _version(number))
            return True

    def hold_version(self, number: int) -> object | None:  # age alone keeps a version here
        return object()

    # ---- who writes --------------------------------------------------------------------------

    @contextmanager
    def writing(self, timeout_s: float) -> Iterator[None]:
        with unreachable(self.name), held_lock(self._objects, self.name, timeout_s):
            yield

    @contextmanager
    def drafting(self) -> Iterator[None]:
        yield  # files are left alone for `RETAINED`

    @contextmanager
    def nobody_drafts(self) -> Iterator[bool]:
        yield False

    def data_file_bytes(self, table: str, name: str) -> int | None:
        import obstore

        with unreachable(self.name):
            try:
                size: int = obstore.head(self._objects, f"{table}.lance/data/{name}")["size"]
            except FileNotFoundError:
                return None
            return size

    def remove_data_files(self, table: str, names: list[str]) -> None:
        import obstore
        from obstore.exceptions import BaseError

        for name in names:
            try:
                obstore.delete(self._objects, f"{table}.lance/data/{name}")
            except (BaseError, OSError):
                return  # clean-up does it one day

    # ---- folders -----------------------------------------------------------------------------

    def fetch(self, name: str) -> Path:
        with writing_copies(), unreachable(self.name):
            return fetch_folder(self._objects, self.folder, name)

    def sweep(self) -> None:
        with unreachable(self.name):
            sweep_objects(self._objects, RETAINED)

    def push(self, name: str) -> None:
        with unreachable(self.name):
            push_folder(self._objects, self.folder, name)

    def folders_damage(self) -> list[str]:
        with unreachable(self.name):
            return damaged_folders(self._objects)

    def _holds(self, prefix: str) -> bool:
        import obstore

        with unreachable(self.name):
            return bool(next(iter(obstore.list(self._objects, prefix=prefix, chunk_size=1)), []))

    def _list(self, prefix: str) -> list[Any]:
        import obstore

        with unreachable(self.name):
            return list(obstore.list(self._objects, prefix=prefix).collect())


def _version(number: int) -> str:
    return f"versions/{number:08d}.json"
