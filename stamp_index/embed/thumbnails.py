"""Thumbnails of a slide's spots, kept in a file while the slide is embedded.

A plain slide of 60,000 x 60,000 px has 70,000 places: their thumbnails are 300 MB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from typing import Self


class SpooledFiles(Sequence[bytes]):
    """A list of small files in one temporary file, which goes when this object is closed."""

    def __init__(self) -> None:
        self._stream = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._ends: list[int] = [0]

    def append(self, content: bytes) -> None:
        """Put one more file at the end."""
        self._stream.seek(self._ends[-1])
        self._stream.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def close(self) -> None:
        """Give the disk's room back."""
        self._stream.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> bytes: ...

    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...

    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        i = range(len(self))[at]  # an IndexError says where the list ends
        self._stream.seek(self._ends[i])
        return self._stream.read(self._ends[i + 1] - self._ends[i])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
