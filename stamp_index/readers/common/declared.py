"""What a file says that it holds is held against its size, before memory is asked for it."""

from __future__ import annotations

from typing import Final

# Arrays up to this size are read whatever they say: a small bomb does no harm.
FREE_BYTES: Final = 64 * 1024 * 1024
# Deflate makes at most 1032 bytes of one (zlib, "technical details").
MOST_PER_BYTE: Final = 1032


def refuse_bomb(what: str, declared: int, stored: int) -> None:
    """Refuse an array that is larger than its file can hold.

    Parameters
    ----------
    what : str
        The array, for the message.
    declared : int
        Bytes that it takes in memory.
    stored : int
        Bytes that it has on disk.

    Raises
    ------
    ValueError
    """
    if declared > max(FREE_BYTES, MOST_PER_BYTE * stored):
        msg = (
            f"{what} says that it holds {declared:,} bytes, but the file has {stored:,} bytes of it"
        )
        raise ValueError(msg)
