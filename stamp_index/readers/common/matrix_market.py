"""Matrix Market files (``matrix.mtx``): what the head says is held against the names and the file before it is read."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse import csr_matrix

from stamp_index.errors import SlideError
from stamp_index.readers.common.declared import MOST_PER_BYTE
from stamp_index.readers.common.regular import regular

if TYPE_CHECKING:
    from pathlib import Path

MOST_TEXT_BYTES: Final = 1 << 29  # names of Visium HD's 11 million squares have 250 MB
_LEAST_ENTRY_BYTES: Final = 6  # "1 1 1" and the end of its line
_LONGEST_LINE: Final = 1 << 16
_MOST_COMMENTS: Final = 1000
_COUNTS: Final = ("integer", "real")  # "pattern" and "complex" are no counts


def read_matrix(path: Path, shape: tuple[int, int]) -> csr_matrix:
    """Read a sparse matrix of numbers.

    Parameters
    ----------
    path : Path
        ``matrix.mtx``, or gzipped.
    shape : (int, int)
        Rows and columns that it must have.

    Returns
    -------
    csr_matrix of shape (columns, rows), float32
        Transposed: spots x genes.

    Raises
    ------
    SlideError
        If it is damaged, of another shape, no table of entries, or no numbers.
    """
    from scipy.io import mmread

    try:
        _check_head(path, shape)
        return csr_matrix(mmread(path).T, dtype=np.float32)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as exc:
        msg = f"The counts {path} cannot be read ({exc}). Copy the folder again."
        raise SlideError(msg) from exc


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file, gzipped or not.

    Raises
    ------
    OSError, EOFError, ValueError, zlib.error
        If it is damaged, or unpacks to more than 512 MB.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(regular(path), "rb") as stream:
        content = stream.read(MOST_TEXT_BYTES + 1)
    if len(content) > MOST_TEXT_BYTES:
        msg = f"it has more than {MOST_TEXT_BYTES} bytes"
        raise ValueError(msg)
    return content.decode().splitlines()


def _check_head(path: Path, shape: tuple[int, int]) -> None:
    zipped = path.suffix == ".gz"
    with (gzip.open if zipped else open)(regular(path), "rb") as stream:
        kind = stream.readline(_LONGEST_LINE).decode().lower().split()
        lines = (stream.readline(_LONGEST_LINE) for _ in range(_MOST_COMMENTS))
        size = next((line.split() for line in lines if line.strip() and line[:1] != b"%"), [])
    if kind[:3] != ["%%matrixmarket", "matrix", "coordinate"] or kind[4:] != ["general"]:
        msg = f"it begins with {' '.join(kind)[:80]!r}; expected a Matrix Market table of entries"
        raise ValueError(msg)
    if kind[3] not in _COUNTS:
        msg = f"its entries are of the type {kind[3]}; expected counts, {' or '.join(_COUNTS)}"
        raise ValueError(msg)
    if len(size) != 3:
        msg = "it has no line with its rows, columns and number of entries"
        raise ValueError(msg)
    n_rows, n_columns, n_entries = map(int, size)
    if (n_columns, n_rows) != shape[::-1]:
        msg = (
            f"The counts {path.parent} have {n_columns} x {n_rows} numbers for {shape[1]} barcodes and {shape[0]} genes. Copy "
            "the files again."
        )
        raise SlideError(msg)
    most = path.stat().st_size * (MOST_PER_BYTE if zipped else 1)
    if not 0 <= n_entries * _LEAST_ENTRY_BYTES <= most:
        msg = f"it says that it has {n_entries} entries, which the file cannot hold"
        raise ValueError(msg)
