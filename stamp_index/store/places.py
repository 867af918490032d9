"""Where a store lies: a folder, or a prefix of an object storage.

What a store needs of either is here; `local_place` and `remote_place` are the two. A store's tables are Lance's own
business, which reads and writes both by their addresses.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from stamp_index.errors import StoreError
from stamp_index.remote.addresses import address_of, is_address
from stamp_index.remote.redacted import redacted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import timedelta


# A scheme of two letters or more, so no drive of Windows; a Path has made one of two slashes.
_LIKE_AN_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/|(s3|gs|az):", re.IGNORECASE)


class Place(ABC):
    """Where one store lies.

    Attributes
    ----------
    name : str
        The folder or the address, for messages; holds no secret.
    folder : Path
        A local folder with the store's checkpoints and indexes: the store itself, or a copy that `fetch` fills.
    retained : timedelta
        For how long clean-up leaves alone what no version names, as somebody may be about to name it.
    """

    name: str
    folder: Path
    retained: timedelta

    def __str__(self) -> str:
        return self.name

    @property
    def label(self) -> str:
        """Last part of the name, by which people call the store."""
        return self.name.rstrip("/").rsplit("/", 1)[-1]

    @property
    def full_name(self) -> str:
        """Name that is the same from wherever it is said."""
        return self.name

    @abstractmethod
    def table(self, table: str) -> str:
        """Address of a Lance table."""

    @abstractmethod
    def is_free(self) -> bool:
        """Whether a store can be made: nothing lies there, or only what somebody left who was killed while making one."""

    # ---- versions: one small file each -------------------------------------------------------

    @abstractmethod
    def versions(self) -> list[int]:
        """Numbers of the versions that are there, ascending; none where no store is."""

    @abstractmethod
    def version_name(self, number: int) -> str:
        """Where the file of a version lies, for messages."""

    @abstractmethod
    def read_version(self, number: int) -> str:
        """Text of a version. Raises OSError where it cannot be read."""

    @abstractmethod
    def create_version(self, number: int, text: str) -> None:
        """Write a version, whole or not at all. Raises FileExistsError where it is there already."""

    @abstractmethod
    def remove_version(self, number: int, successor: int) -> bool:
        """Remove a version in whose place `successor` came, if nobody reads it; False where somebody does, or may."""

    @abstractmethod
    def hold_version(self, number: int) -> object | None:
        """Keep clean-up from a version while the object that is returned lives; None where it has gone."""

    # ---- who writes --------------------------------------------------------------------------

    @abstractmethod
    def writing(self, timeout_s: float) -> AbstractContextManager[None]:
        """Be the only one who changes the store.

        Raises
        ------
        StoreBusyError
            If somebody else still does after `timeout_s`.
        StoreError
            If nothing can be written there.
        """

    @abstractmethod
    def drafting(self) -> AbstractContextManager[None]:
        """Keep clean-up from files that no version names yet."""

    @abstractmethod
    def nobody_drafts(self) -> AbstractContextManager[bool]:
        """Whether files that no version names are left over for sure, and none comes while this lasts."""

    @abstractmethod
    def data_file_bytes(self, table: str, name: str) -> int | None:
        """Length of a data file of a table; None where it is not there."""

    @abstractmethod
    def remove_data_files(self, table: str, names: list[str]) -> None:
        """Remove data files that no version of a table names. What cannot be removed is left to clean-up."""

    # ---- folders: checkpoints, indexes -------------------------------------------------------

    @abstractmethod
    def fetch(self, name: str) -> Path:
        """Bring the local copy of a folder up to date, and return it; it may be missing on both sides.

        Raises
        ------
        StoreError
            If what arrives is not what was written.
        """

    @abstractmethod
    def sweep(self) -> None:
        """Remove what `push` left behind that nobody needs any more."""

    @abstractmethod
    def folders_damage(self) -> list[str]:
        """Say what of the folders that `fetch` would bring is gone or damaged, a sentence each."""

    @abstractmethod
    def push(self, name: str) -> None:
        """Write a local folder to where the store lies, whole or not at all."""


Where: TypeAlias = Place | Path | str


def place_of(where: Where) -> Place:
    """Return the place that a folder or an address names.

    Parameters
    ----------
    where : Place, path or str
        A folder; or ``s3://bucket/prefix`` (also ``gs://``, ``az://``). Credentials and endpoint come from the
        environment, as other tools read them: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``,
        ``AWS_ENDPOINT_URL``, and ``AWS_ALLOW_HTTP=true`` for an endpoint without TLS.

    Raises
    ------
    StoreError
        If the address cannot be used.
    """
    if isinstance(where, Place):
        return where
    if is_address(where):
        from stamp_index.store.remote_place import RemotePlace

        return RemotePlace.of(address_of(where))
    from stamp_index.store.local_place import LocalPlace
    from stamp_index.store.mirror import address_of_mirror

    if _LIKE_AN_ADDRESS.match(str(where)):
        msg = (
            f"{redacted(str(where))!r} is no address of a store; expected s3://BUCKET/PREFIX (or gs://, az://), or the path "
            f"of a folder."
        )
        raise StoreError(msg)
    address = address_of_mirror(Path(where))
    return LocalPlace(Path(where)) if address is None else place_of(address)
