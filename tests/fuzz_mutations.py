"""Ways to spoil bytes and texts: what follows is decided by the random numbers that are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

_NUMBERS = (0, 1, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)  # fmt: skip
_TEXT = (
    *("", " ", "0", "-1", "1e999", "-0.0", "NaN", "Infinity", "null", "true", "[]", "{}", '"', "'"),
    *(";", ",", "\t", "\n", "\r\n", "\\", "/", "../../etc/passwd", "http://169.254.169.254/", "%00"),
    *("\0", "\ufeff", "\u202e", "\U0001f9ec", "é", "e\u0301", "\u2028", "]" * 50, "[" * 2000, "(" * 500),
    *("9" * 400, "1" + "0" * 30, "__class__", "<script>", "${x}", "%s%n", "' or 1=1", "A" * 5000),
)  # fmt: skip
_OPENERS = (b"[", b"{", b'{"a":', b"(", b"<a>", b"not (", b'"')


def spoiled(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Bytes with some of them changed, cut off, doubled, or taken from another file."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = _place(len(out), rng)
        way = rng.randrange(10)
        if way == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif way == 1:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) & ((1 << 8 * width) - 1)
            out[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif way == 2:
            del out[at:]
        elif way == 3:
            del out[at : at + rng.randrange(1, 64)]
        elif way == 4:
            out[at:at] = rng.randbytes(rng.randrange(1, 40))
        elif way == 5:
            stop = min(len(out), at + rng.randrange(1, 400))
            out[at:at] = out[at:stop] * rng.choice((1, 2, 20))
        elif way == 6:
            out[at : at + 16] = rng.randbytes(16)
        elif way == 7:
            out[at:at] = rng.choice(_TEXT).encode("utf-8", "surrogatepass")
        elif way == 8 and others:
            other = rng.choice(others)
            start = _place(len(other), rng)
            out[at : at + 64] = other[start : start + 64]
        else:
            out[at : at + 8] = bytes(8)
    return bytes(out)


def spoiled_text(text: str, rng: random.Random, others: Sequence[str] = ()) -> str:
    """A text with parts swapped, repeated or replaced by what breaks parsers."""
    if rng.random() < 0.02:
        return (rng.choice(_OPENERS) * rng.randrange(1, 20_000)).decode()
    out = text
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        stop = min(len(out), at + rng.randrange(1, 12))
        way = rng.randrange(6)
        if way == 0:
            out = out[:at] + rng.choice(_TEXT) + out[stop:]
        elif way == 1:
            out = out[:at] + rng.choice(_TEXT) + out[at:]
        elif way == 2:
            out = out[:at] + out[stop:]
        elif way == 3:
            out = out[:at] + out[at:stop] * rng.randrange(2, 60) + out[stop:]
        elif way == 4 and others:
            other = rng.choice(others)
            out = out[:at] + other[rng.randrange(len(other) + 1) :]
        else:
            out = out[:at] + chr(rng.choice((rng.randrange(1, 128), rng.randrange(0xD7FF)))) + out[stop:]  # fmt: skip
    return out


def _place(length: int, rng: random.Random) -> int:
    """Somewhere in a file: as often as not in its head or its tail, where the structure lies."""
    where = rng.random()
    if where < 0.4:
        return rng.randrange(min(length, 256) + 1)
    if where < 0.55:
        return max(0, length - rng.randrange(min(length, 256) + 1))
    return rng.randrange(length + 1)
