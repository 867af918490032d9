"""Text tables of legacy Spatial Transcriptomics: counts with one row per spot, and spot positions."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_POSITION_COLUMNS: Final = ("x", "y", "new_x", "new_y", "pixel_x", "pixel_y")


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
        lines = _text(path).splitlines()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as exc:
        msg = f"The counts {path} cannot be read ({exc}). Copy the file again from its source."
        raise SlideError(msg) from exc
    if len(lines) < 2:
        msg = (
            f"The counts {path} have {len(lines)} lines; expected a line of genes and one per spot."
        )
        raise SlideError(msg)
    genes = tuple(lines[0].split("\t")[1:])
    barcodes: list[str] = []
    columns: list[int] = []
    data: list[NDArray[np.float32]] = []
    starts = [0]
    for number, line in enumerate(lines[1:], start=2):
        barcode, *values = line.split("\t")
        _check_width(values, genes, f"{path}, line {number} ({barcode})")
        # Nine in ten values are "0": skipping them as text takes a third of the time of reading all.
        shown = [(column, value) for column, value in enumerate(values) if value != "0"]
        try:
            data.append(np.array([value for _, value in shown], dtype=np.float32))
        except ValueError as exc:
            msg = f"The counts {path}, line {number} ({barcode}): {exc}. Expected whole numbers."
            raise SlideError(msg) from exc
        columns += [column for column, _ in shown]
        starts.append(len(columns))
        barcodes.append(barcode)
    parts = (np.concatenate(data), np.array(columns, dtype=np.int64), np.array(starts))
    counts = csr_matrix(parts, shape=(len(barcodes), len(genes)))
    counts.eliminate_zeros()
    return barcodes, genes, counts


def _check_width(values: list[str], genes: tuple[str, ...], where: str) -> None:
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
        table = pd.read_csv(path, sep="\t")
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
    spots = pd.DataFrame(
        {
            "array_x": table["new_x"].to_numpy(dtype=np.float64),
            "array_y": table["new_y"].to_numpy(dtype=np.float64),
            Keys.X_PX: table["pixel_x"].to_numpy(dtype=np.float64),
            Keys.Y_PX: table["pixel_y"].to_numpy(dtype=np.float64),
        },
        index=pd.Index(names, name=Keys.BARCODE),
    )
    if not spots.index.is_unique:
        twice = spots.index[spots.index.duplicated()].unique()
        msg = f"The positions {path} name {len(twice)} spots twice ({', '.join(twice[:5])})."
        raise BarcodeMismatchError(msg)
    return spots


def _text(path: Path) -> str:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            return stream.read()
    return path.read_text(encoding="utf-8")
