"""What images that are read from a file when needed have in common."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from stamp_index.slides.images import Level, SlideImage, file_hash

if TYPE_CHECKING:
    from pathlib import Path


class FileImage(SlideImage):
    """An image whose file is opened when it is first needed, and again in another process.

    A subclass sets `_mpp` and `_levels` when it has read the head, and names in `_HANDLES` what is open or decoded: these
    are None until they are needed, and in what is sent to another process. It holds `_lock` when it makes one.

    Parameters
    ----------
    path : Path
        The file.
    """

    _HANDLES: ClassVar[tuple[str, ...]] = ()
    _mpp: float | None = None
    _levels: tuple[Level, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uri = str(path)
        self._lock = threading.Lock()
        self._hash: str | None = None

    @property
    def mpp(self) -> float | None:
        """Microns per level-0 pixel as the file says, or None where it says nothing."""
        return self._mpp

    @property
    def levels(self) -> tuple[Level, ...]:
        """Sizes that can be read, level 0 first."""
        return self._levels

    def content_hash(self) -> str:
        """SHA-256 of the file's bytes, as hex (of the one named file, where a slide has several)."""
        if self._hash is None:
            self._hash = self._hashed()
        return self._hash

    def _hashed(self) -> str:
        return file_hash(self.path)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy() | dict.fromkeys(self._HANDLES)
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
