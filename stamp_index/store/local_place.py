"""A store in a folder: locks of the kernel, and files that appear whole."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stamp_index.store.lease import Lease, remove_if_free
from stamp_index.store.lock import write_lock
from stamp_index.store.places import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS: Final = "versions"  # folder of the versions
DRAFTS_LOCK: Final = ".drafts"  # shared by who writes data files, taken whole by who removes them
_FILE_NAME: Final = re.compile(r"^(\d{8})\.json$")


class LocalPlace(Place):
    """A folder of this machine, or one that several machines share and lock.

    Parameters
    ----------
    folder : Path
        It need not exist.
    """

    retained = timedelta(0)  # a lock keeps clean-up from who writes

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    @property
    def full_name(self) -> str:
        return str(self.folder.resolve())

    def table(self, table: str) -> str:
        return str(self.folder / f"{table}.lance")

    def is_free(self) -> bool:  # a store is made elsewhere, and moved when it is whole
        return not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir()))

    # ---- versions ----------------------------------------------------------------------------

    def versions(self) -> list[int]:
        try:
            names = [entry.name for entry in (self.folder / VERSIONS).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(match[1]) for match in map(_FILE_NAME.match, names) if match)

    def version_path(self, number: int) -> Path:
        """Where the file of a version lies."""
        return self.folder / VERSIONS / f"{number:08d}.json"

    def version_name(self, number: int) -> str:
        return str(self.version_path(number))

    def read_version(self, number: int) -> str:
        return self.version_path(number).read_text(encoding="utf-8")

    def create_version(self, number: int, text: str) -> None:
        folder = self.folder / VERSIONS
        folder.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, encoding="utf-8", suffix=".tmp") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            # a hard link appears complete, and never replaces a file that is already there
            os.link(file.name, self.version_path(number))

    def remove_version(self, number: int, successor: int) -> bool:
        return remove_if_free(self.version_path(number))

    def hold_version(self, number: int) -> object | None:
        return Lease.take(self.version_path(number))

    # ---- who writes --------------------------------------------------------------------------

    @contextmanager
    def writing(self, timeout_s: float) -> Iterator[None]:
        with write_lock(self.folder, timeout_s):
            yield

    @contextmanager
    def drafting(self) -> Iterator[None]:
        descriptor = self._drafts_lock()
        try:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    @contextmanager
    def nobody_drafts(self) -> Iterator[bool]:
        descriptor = self._drafts_lock()
        try:
            yield descriptor is not None and _taken_whole(descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _drafts_lock(self) -> int | None:
        """Open the lock file; None where nothing can be written, which whoever writes the files will say."""
        try:
            return os.open(
                self.folder / DRAFTS_LOCK,
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o644,
            )
        except OSError:
            return None

    def data_file_bytes(self, table: str, name: str) -> int | None:
        path = Path(self.table(table)) / "data" / name
        return path.stat().st_size if path.is_file() else None

    def remove_data_files(self, table: str, names: list[str]) -> None:
        for name in names:
            with suppress(OSError):
                (Path(self.table(table)) / "data" / name).unlink()

    # ---- folders -----------------------------------------------------------------------------

    def fetch(self, name: str) -> Path:
        return self.folder / name  # it is the folder itself

    def sweep(self) -> None:
        """Do nothing: nothing is left behind."""

    def folders_damage(self) -> list[str]:
        return []  # the folders are the store's own, which whoever opens them examines

    def push(self, name: str) -> None:
        """Do nothing: what is written to the folder is written to the store."""


def _taken_whole(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
