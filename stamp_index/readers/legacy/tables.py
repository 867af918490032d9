"""Text tables of legacy Spatial Transcriptomics: counts with one row per spot, and spot positions."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.keys import Keys
from stamp_index.readers.common.regular import regular
from stamp_index.readers.common.text_numbers import FLOATS
from stamp_index.readers.common.unpacked import open_unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_POSITION_COLUMNS: Final = ("x", "y", "new_x", "new_y", "pixel_x", "pixel_y")
_SPOT_NAME: Final = re.compile(r"(\d+(?:\.\d+)?)[x_](\d+(?:\.\d+)?)")
_TAB, _POINT, _ZERO = b"\t.0"
_LONGEST_HEADER: Final = 4096  # bytes
_LONGEST_LINE: Final = 1 << 24
_LONGEST_NAME: Final = 256
_MOST_BYTES: Final = 1 << 33  # 100,000 spots of 40,000 genes


def read_counts(path: Path) -> tuple[list[str], tuple[str, ...], csr_matrix]:
    """Read a tab-separated count table, gzipped or not.

    Parameters
    ----------
    path : Path
        First line: an empty field and the genes. Then per spot: its name and whole-number counts.

    Returns
    -------
    barcodes : list of str, length n
    genes : tuple of str, length g
    counts : csr_matrix of shape (n, g), float32

    Raises
    ------
    SlideError
        If the file is cut short, or a line has a wrong number of fields or something that is not a
        number (the line is named).
    """
    try:
        with _open(path) as stream:
            lines = iter(lambda: stream.readline(_LONGEST_LINE), b"")
            genes = tuple(next(lines, b"").rstrip(b"\r\n").decode().split("\t")[1:])
            barcodes, counts = _read_rows(lines, genes, path)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as exc:
        msg = f"The counts {path} cannot be read ({exc}). Copy the file again from its source."
        raise SlideError(msg) from exc
    if not barcodes:
        msg = f"The counts {path} have no lines below the first; expected a line of genes and one per spot."
        raise SlideError(msg)
    return barcodes, genes, counts


def is_counts_table(path: Path) -> bool:
    """Say whether a file begins as a count table: an empty field and genes, then a spot ``XxY``.

    Only the first line and the beginning of the second are read.
    """
    try:
        with _open(path) as stream:
            starts_empty = stream.readline(_LONGEST_LINE).startswith(b"\t")
            name = stream.readline(_LONGEST_NAME).split(b"\t", 1)[0].decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error):
        return False
    return starts_empty and _SPOT_NAME.fullmatch(name) is not None


def is_spotfile(path: Path) -> bool:
    """Say whether a file begins with the columns of a spot selection table."""
    try:
        with regular(path).open("rb") as stream:
            columns = stream.readline(_LONGEST_HEADER).decode().split()
    except (OSError, UnicodeDecodeError):
        return False
    return set(_POSITION_COLUMNS) <= set(columns)


def spot_xy(names: Sequence[str], where: str) -> NDArray[np.float64]:
    """Return array coordinates of shape (n, 2) from names such as ``12x7``, ``12_7`` or ``16.92x9.015``.

    Raises
    ------
    BarcodeMismatchError
        If a name is none.
    """
    found = [_SPOT_NAME.fullmatch(name) for name in names]
    bad = [name for name, match in zip(names, found, strict=True) if match is None]
    if bad:
        msg = (
            f"{where} names {len(bad)} spots that are no array coordinates (such as {bad[0]!r}). Expected names "
            "such as 12x7."
        )
        raise BarcodeMismatchError(msg)
    return np.array([match.groups() for match in found if match], dtype=np.float64).reshape(-1, 2)


def place_names(names: Sequence[str], where: str) -> list[str]:
    """Return the array's place that each name means: ``17x9`` for ``17_9`` and for the measured ``16.92x9.015``.

    Raises
    ------
    BarcodeMismatchError
        If a name is none.
    """
    return [f"{x:.0f}x{y:.0f}" for x, y in np.round(spot_xy(names, where))]


def _read_rows(
    lines: Iterator[bytes], genes: tuple[str, ...], path: Path
) -> tuple[list[str], csr_matrix]:
    barcodes: list[str] = []
    columns: list[NDArray[np.int32]] = []
    data: list[NDArray[np.float32]] = []
    for number, line in enumerate(lines, start=2):
        name, _, text = line.rstrip(b"\r\n").partition(b"\t")
        barcode = name.decode()
        try:
            values = _numbers(text)
        except ValueError as exc:
            msg = f"The counts {path}, line {number} ({barcode}): {exc}. Expected whole numbers."
            raise SlideError(msg) from exc
        _check_width(values, genes, f"{path}, line {number} ({barcode})")
        filled = np.flatnonzero(values).astype(np.int32)
        columns.append(filled)
        data.append(values[filled])
        barcodes.append(barcode)
    starts = np.concatenate([[0], np.cumsum([len(part) for part in columns], dtype=np.int64)])
    parts = (
        np.concatenate([np.empty(0, np.float32), *data]),
        np.concatenate([np.empty(0, np.int32), *columns]),
        starts,
    )
    return barcodes, csr_matrix(parts, shape=(len(barcodes), len(genes)))


def _numbers(text: bytes) -> NDArray[np.float32]:
    """Parse tab-separated numbers.

    Nearly all are one digit, written ``3`` or ``3.0``; those are read from their bytes at once, which takes a
    twentieth of the time of a number parser. The others are parsed one by one.

    Raises
    ------
    ValueError
        If a field is no number in plain digits.
    """
    if not text:
        return np.empty(0, dtype=np.float32)
    # Two bytes of padding, so that the field's second and third byte can be looked at everywhere.
    raw = np.frombuffer(text + b"\t\t\t", dtype=np.uint8)
    ends = np.flatnonzero(raw[:-2] == _TAB)
    starts = np.concatenate([[0], ends[:-1] + 1])
    width = ends - starts
    digit: NDArray[np.float32] = raw[starts].astype(np.float32) - np.float32(_ZERO)
    point_zero = (width == 3) & (raw[starts + 1] == _POINT) & (raw[starts + 2] == _ZERO)
    short = ((width == 1) | point_zero) & (digit >= 0) & (digit <= 9)
    for field in np.flatnonzero(~short):
        number = text[starts[field] : ends[field]].decode()
        # Python also takes "1_000", other scripts' digits and blanks for a number.
        if not number.isascii() or "_" in number or number != number.strip():
            msg = f"could not convert string to float: {number!r}"
            raise ValueError(msg)
        digit[field] = float(number)
    return digit


def _check_width(values: NDArray[np.float32], genes: tuple[str, ...], where: str) -> None:
    if len(values) != len(genes):
        msg = (
            f"The counts {where} have {len(values)} values for {len(genes)} genes. "
            "Copy the file again from its source."
        )
        raise SlideError(msg)


def read_spotfile(path: Path) -> pd.DataFrame:
    """Read a spot selection table.

    Parameters
    ----------
    path : Path
        Tab-separated with columns x, y (array), new_x, new_y (adjusted array coordinates), pixel_x,
        pixel_y (centre in pixels of the full image) and optionally selected (1 = under tissue).

    Returns
    -------
    DataFrame indexed by ``"<x>x<y>"``
        Columns array_x, array_y (float64, adjusted), x_px, y_px (float64); selected spots only.

    Raises
    ------
    SlideError
        If the file or a column is missing.
    BarcodeMismatchError
        If a spot stands twice.
    """
    try:
        table = pd.read_csv(regular(path), sep="\t", float_precision=FLOATS)
    except FileNotFoundError as exc:
        msg = (
            f"The positions {path} are missing; without them the counts have no place on the image."
        )
        raise SlideError(msg) from exc
    except (OSError, ValueError) as exc:  # pandas' ParserError is a ValueError
        msg = f"The positions {path} cannot be read ({exc}). Copy the file again from its source."
        raise SlideError(msg) from exc
    missing = [column for column in _POSITION_COLUMNS if column not in table.columns]
    if missing:
        msg = (
            f"The positions {path} have no columns {', '.join(missing)}; "
            f"expected {', '.join(_POSITION_COLUMNS)}."
        )
        raise SlideError(msg)
    if "selected" in table.columns:
        table = table[table["selected"] == 1]
    names = [f"{x}x{y}" for x, y in zip(table["x"], table["y"], strict=True)]
    renamed = {"array_x": "new_x", "array_y": "new_y", Keys.X_PX: "pixel_x", Keys.Y_PX: "pixel_y"}
    try:
        values = {name: table[column].to_numpy(np.float64) for name, column in renamed.items()}
    except ValueError as exc:
        msg = f"The positions {path} hold something that is no number ({exc}). Copy the file again."
        raise SlideError(msg) from exc
    spots = pd.DataFrame(values, index=pd.Index(names, name=Keys.BARCODE))
    if not spots.index.is_unique:
        twice = spots.index[spots.index.duplicated()].unique()
        msg = f"The positions {path} name {len(twice)} spots twice ({', '.join(twice[:5])})."
        raise BarcodeMismatchError(msg)
    return spots


def _open(path: Path) -> BinaryIO:
    """Open a table, gzipped or not."""
    return open_unpacked(path, _MOST_BYTES)
