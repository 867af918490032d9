"""Barcodes of Visium HD: ``s_008um_00301_00321-1`` is the 8 um square in row 301 and column 321."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import BarcodeMismatchError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def parse_barcodes(
    barcodes: NDArray[np.bytes_], square_um: int, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take row and column from barcodes, all at once.

    Parameters
    ----------
    barcodes : ndarray of shape (n,), bytes
    square_um : int
        Width of the squares that they should name.
    path : Path
        Where they were read from, for the message.

    Returns
    -------
    row, col : ndarray of shape (n,), int64

    Raises
    ------
    BarcodeMismatchError
        If one is no barcode of a square of that width.
    """
    template = f"s_{square_um:03d}um_00000_00000-1".encode()
    # One byte more than a barcode has, so that longer ones are seen to be longer.
    exact = np.ascontiguousarray(barcodes, dtype=f"S{len(template) + 1}")
    letters = exact.view(np.uint8).reshape(len(barcodes), len(template) + 1)
    expected = np.frombuffer(template + b"\0", dtype=np.uint8)
    row_at = template.index(b"_00000_") + 1
    places = np.concatenate([np.arange(row_at, row_at + 5), np.arange(row_at + 6, row_at + 11)])
    fixed = np.setdiff1d(np.arange(len(expected)), places)
    digits = letters[:, places] - np.uint8(ord("0"))  # letters below "0" wrap to large numbers
    wrong = (letters[:, fixed] != expected[fixed]).any(axis=1) | (digits > 9).any(axis=1)
    if wrong.any():
        example = barcodes[np.flatnonzero(wrong)[0]].decode(errors="replace")
        msg = (
            f"{path} names {int(wrong.sum())} of {len(barcodes)} barcodes that are no squares of {square_um} um, such as "
            f"{example}; expected {template.decode()} and the like. Give files of one run and one square width."
        )
        raise BarcodeMismatchError(msg)
    tens = 10 ** np.arange(4, -1, -1)
    return digits[:, :5] @ tens, digits[:, 5:] @ tens
