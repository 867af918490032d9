"""Thumbnails of a slide's spots, kept in a file while the slide is embedded.

A plain slide of 60,000 x 60,000 px has 70,000 places: their thumbnails are 300 MB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from typing import Self


class SpooledFiles(Sequence[bytes]):
    """A list of small files in one temporary file, which goes when this object is closed.

    Parameters
    ----------
    n : int
        How many there will be; they may come in any order.
    """

    def __init__(self, n: int) -> None:
        self._stream = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._places = np.zeros((n, 2), np.int64)  # start and length of each
        self._end = 0

    def put(self, at: int, content: bytes) -> None:
        """Write file number `at`."""
        self._stream.seek(self._end)
        self._stream.write(content)
        self._places[at] = self._end, len(content)
        self._end += len(content)

    def close(self) -> None:
        """Give the disk's room back."""
        self._stream.close()

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> bytes: ...

    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...

    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        start, length = self._places[at].tolist()
        self._stream.seek(start)
        return self._stream.read(length)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
