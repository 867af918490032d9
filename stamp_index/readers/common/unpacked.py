"""Packed texts, of which no more is unpacked than such a file can have: a gzip file of 1 MB may hold 1 GB."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Final

from stamp_index.readers.common.regular import regular

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path
    from typing import BinaryIO

    from typing_extensions import Buffer

MOST_UNPACKED_BYTES: Final = (
    1 << 31
)  # positions of 11 million squares, or of as many cells, have 1 GB


def open_unpacked(path: Path, most_bytes: int = MOST_UNPACKED_BYTES) -> BinaryIO:
    """Open a file, gzipped or not (by its name), to read at most so many bytes of what it holds.

    Raises
    ------
    OSError
        If it is missing or no regular file. Reading raises what gzip raises for damaged files, and ValueError where it
        holds more.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    stream: gzip.GzipFile | BufferedReader = opened(regular(path), "rb")
    return io.BufferedReader(_Limited(stream, most_bytes))


class _Limited(io.RawIOBase):
    """A stream that ends in an error after so many bytes."""

    def __init__(self, stream: gzip.GzipFile | BufferedReader, most_bytes: int) -> None:
        self._stream, self._most, self._left = stream, most_bytes, most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        # read1 gives what there is before the place where a file was cut off; read would raise at once.
        part = self._stream.read1(min(len(memoryview(buffer)), self._left + 1))
        if len(part) > self._left:
            msg = f"it unpacks to more than {self._most:,} bytes"
            raise ValueError(msg)
        self._left -= len(part)
        memoryview(buffer)[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._stream.close()
        super().close()
