"""Comma-separated count tables that may be larger than memory once they are dense: read line by line."""

from __future__ import annotations

import csv
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.sparse import csr_matrix, vstack

from stamp_index.errors import SlideError
from stamp_index.readers.common.regular import regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_CHUNK_VALUES: Final = 8_000_000  # 32 MB of float32, and some 16 MB of text


def read_count_csv(
    path: Path, *, chunk_values: int = _CHUNK_VALUES
) -> tuple[list[str], list[str], csr_matrix]:
    """Read a table with one row per spot.

    Parameters
    ----------
    path : Path
        First line: an empty (or any) field and the genes. Then per spot: its name and its counts. Names
        may be quoted, as R and pandas do.
    chunk_values : int, optional
        How many counts are dense at a time.

    Returns
    -------
    barcodes, genes : list of str, lengths n and g
    counts : csr_matrix of shape (n, g), float32

    Raises
    ------
    SlideError
        If the file is cut short, or a line has a wrong number of fields or something that is not a
        number (the line is named).
    """
    try:
        with regular(path).open(encoding="utf-8", newline="") as stream:
            genes = next(csv.reader([stream.readline()]), [])[1:]
            if not genes:
                msg = f"The counts {path} begin with no line of gene names. Copy the file again."
                raise SlideError(msg)
            barcodes: list[str] = []
            parts: list[csr_matrix] = []
            n_lines = max(1, chunk_values // len(genes))
            for names, counts in _chunks(stream, path, n_lines, len(genes)):
                barcodes += names
                parts.append(counts)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        msg = f"The counts {path} cannot be read ({exc}). Copy the file again from its source."
        raise SlideError(msg) from exc
    if not parts:
        msg = f"The counts {path} have a line of {len(genes)} genes and no spots. Copy the file again."
        raise SlideError(msg)
    return barcodes, genes, csr_matrix(vstack(parts, format="csr"))


def _chunks(
    stream: Iterator[str], path: Path, n_lines: int, n_genes: int
) -> Iterator[tuple[list[str], csr_matrix]]:
    number = 1  # of the line read last
    while lines := list(islice(stream, n_lines)):
        names, values = [], []
        for line in lines:
            number += 1
            text = line.rstrip("\r\n")
            if not text:
                continue
            name, _, rest = text.partition(",")
            if rest.count(",") + 1 != n_genes or not rest:
                found = rest.count(",") + 1 if rest else 0
                msg = (
                    f"The counts {path}, line {number} ({name}) have {found} values for {n_genes} genes. Copy the file "
                    "again from its source."
                )
                raise SlideError(msg)
            names.append(name.strip('"'))
            values.append(rest)
        if values:
            yield names, csr_matrix(_numbers(values, path, names))


def _numbers(values: list[str], path: Path, names: list[str]) -> NDArray[np.float32]:
    try:
        return np.loadtxt(values, dtype=np.float32, delimiter=",", comments=None, ndmin=2)
    except ValueError as exc:
        msg = (
            f"The counts {path}, in the {len(names)} lines from {names[0]} on: {exc} (rows from 0, without the name). "
            "Expected whole numbers."
        )
        raise SlideError(msg) from exc
