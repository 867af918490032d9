"""A filter made ready for searching: done once, used for many queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.index.exact import check_allowed
from stamp_index.index.faiss_library import load_faiss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.index.halves import Vectors

_STRETCH: Final = 256  # rows; filters whose stretches are longer on average are read where they lie
_POSITIONS: Final = 65_536  # rows up to which a scattered filter can be searched exactly
_COPY_BYTES: Final = 4 * 2**20  # scattered rows up to here are copied together: a third of a
# millisecond a query, against 2 ms to gather them (4,096 rows of 512 dimensions, one core)


@dataclass(frozen=True)
class Allowed:
    """Rows that may be found.

    Made by `Engine.prepare`; of use to that engine only.

    Attributes
    ----------
    n : int
        How many rows.
    share : float
        `n` by the rows there are.
    bits : ndarray of uint8
        One bit a row.
    selector : faiss.IDSelector
        The same for FAISS.
    list_selector : faiss.IDSelector or None
        Inverted lists that hold such a row; None without lists.
    n_lists : int
        How many lists those are.
    stretches : list of (int, int) or None
        The rows as stretches, where they lie in few.
    positions : ndarray of shape (n,), int64, or None
        The rows one by one, where they are scattered and few.
    copy : ndarray of shape (n, d), float16, or None
        Their vectors, where they are scattered and very few.
    """

    n: int
    share: float
    bits: NDArray[np.uint8]
    selector: Any
    list_selector: Any
    n_lists: int
    stretches: list[tuple[int, int]] | None
    positions: NDArray[np.int64] | None
    copy: Vectors | None

    @property
    def pieces(self) -> Sequence[tuple[int, int] | NDArray[np.int64]] | None:
        """Rows as `search_pieces` takes them; None where they are scattered and many."""
        if self.stretches is not None:
            return self.stretches
        return None if self.positions is None else [self.positions]

    def holds(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some rows are allowed; anything for negative ones."""
        held: NDArray[np.bool_] = self.bits[rows >> 3] >> (rows & 7).astype(np.uint8) & 1 > 0
        return held

    def all_pieces(self) -> Sequence[tuple[int, int] | NDArray[np.int64]]:
        """Rows as `search_pieces` takes them, whatever it costs."""
        if self.pieces is not None:
            return self.pieces
        return [np.flatnonzero(np.unpackbits(self.bits, bitorder="little"))]


def prepare(
    mask: NDArray[np.bool_], vectors: Vectors, list_of: NDArray[np.int32] | None, n_lists: int
) -> Allowed:
    """Make a filter ready.

    Parameters
    ----------
    mask : ndarray of shape (n,), bool
        Rows that may be found.
    vectors : ndarray of shape (n, d), float16
        What is searched.
    list_of : ndarray of shape (n,), int32, or None
        Inverted list of every row; None without lists.
    n_lists : int
        How many there are.

    Raises
    ------
    ValueError
        If the filter is not one bool per row.
    """
    check_allowed(mask, len(vectors))
    n = int(np.count_nonzero(mask))
    stretches = _stretches(mask, n)
    positions = np.flatnonzero(mask) if stretches is None and n <= _POSITIONS else None
    copy = None
    if positions is not None and n * vectors.shape[1] * vectors.itemsize <= _COPY_BYTES:
        copy = vectors[positions]
    usable, list_selector = 0, None
    if list_of is not None:
        holds = np.zeros(n_lists, np.bool_)
        for start, stop in stretches or ():
            holds[list_of[start:stop]] = True
        if stretches is None:
            holds[list_of[mask if positions is None else positions]] = True
        usable, list_selector = int(holds.sum()), _selector(_bits(holds))
    bits = _bits(mask)
    return Allowed(
        n=n,
        share=n / max(len(mask), 1),
        bits=bits,
        selector=_selector(bits),
        list_selector=list_selector,
        n_lists=usable,
        stretches=stretches,
        positions=positions,
        copy=copy,
    )


def _stretches(mask: NDArray[np.bool_], n: int) -> list[tuple[int, int]] | None:
    """Find the starts and ends of runs of True; None where they are short."""
    bits = mask.view(np.int8)
    edges = np.flatnonzero(bits[1:] != bits[:-1]) + 1
    if n == 0 or len(edges) // 2 > n // _STRETCH + 1:
        return None
    inner = [*([0] if mask[0] else []), *edges.tolist(), *([len(mask)] if mask[-1] else [])]
    return list(zip(inner[::2], inner[1::2], strict=True))


def _bits(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(mask, bitorder="little")


def _selector(bits: NDArray[np.uint8]) -> Any:  # noqa: ANN401 - a faiss.IDSelectorBitmap
    """Members by bits; FAISS's wrapper keeps the array alive."""
    return load_faiss().IDSelectorBitmap(bits)
