"""The small tables of STimage-1K4M: positions, annotation, and what is known of each slide."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.keys import Keys, Nums
from stamp_index.readers.common.regular import regular

if TYPE_CHECKING:
    from pathlib import Path

_COORD_COLUMNS: Final = ("yaxis", "xaxis", "r")


def read_coord(path: Path) -> tuple[pd.DataFrame, float]:
    """Read ``coord/<slide>_coord.csv``.

    Returns
    -------
    positions : DataFrame indexed by barcode
        Columns x_px, y_px (float64): centres in pixels of the slide's image.
    radius_px : float
        The spots' common radius in pixels.

    Raises
    ------
    SlideError
        If the file or a column is missing, something is not a number, or spots differ in radius.
    BarcodeMismatchError
        If a spot stands twice.
    """
    table = _table(path, "positions")
    missing = [column for column in _COORD_COLUMNS if column not in table.columns]
    if missing:
        msg = f"The positions {path} have no columns {', '.join(missing)}; expected {', '.join(_COORD_COLUMNS)}."
        raise SlideError(msg)
    try:
        numbers = table[list(_COORD_COLUMNS)].astype(np.float64)
    except ValueError as exc:
        msg = f"The positions {path} hold something that is not a number ({exc}). Copy the file again."
        raise SlideError(msg) from exc
    twice = table.index[table.index.duplicated()].unique()
    if len(twice):
        msg = f"The positions {path} name {len(twice)} spots twice ({', '.join(twice[:5])})."
        raise BarcodeMismatchError(msg)
    named = numbers.rename(columns={"xaxis": Keys.X_PX, "yaxis": Keys.Y_PX})
    return named[[Keys.X_PX, Keys.Y_PX]], _radius(numbers["r"], path)


def read_annotation(path: Path) -> tuple[pd.Series, list[str]]:
    """Read ``annotation/<slide>_anno.csv``: the first column after the barcode.

    Returns
    -------
    labels : Series of str, indexed by barcode
        The first one where a barcode stands twice, as the authors' own code takes it.
    notes : list of str

    Raises
    ------
    SlideError
        If the file cannot be read or has no column of labels.
    """
    table = _table(path, "annotation")
    if not len(table.columns):
        msg = f"The annotation {path} has no column of labels after the barcodes. Copy the file again."
        raise SlideError(msg)
    doubled = table.index.duplicated()
    notes = []
    if doubled.any():
        notes.append(
            f"{doubled.sum()} repeated barcodes of {path.name} were left out: the first label counts."
        )
    labels = table.iloc[:, 0][~doubled]
    return labels.where(labels.str.strip() != ""), notes


def read_meta(path: Path, slide_id: str) -> dict[str, str]:
    """Return the texts of ``meta/meta_all_gene.csv`` about one slide; empty where it is not named.

    Raises
    ------
    SlideError
        If the file cannot be read or has no column ``slide``.
    """
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            rows = csv.DictReader(stream, delimiter="\t" if "\t" in first else ",")
            if "slide" not in (rows.fieldnames or ()):
                msg = f"{path} has no column slide; its columns are {', '.join(rows.fieldnames or ())}."
                raise SlideError(msg)
            for row in rows:
                if row["slide"] == slide_id:
                    return {k: v.strip() for k, v in row.items() if isinstance(v, str)}
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        msg = f"{path} cannot be read ({exc}). Copy the file again."
        raise SlideError(msg) from exc
    return {}


def _radius(column: pd.Series, path: Path) -> float:
    values = column.to_numpy(dtype=np.float64)
    if not len(values):
        msg = f"The positions {path} name no spots. Copy the file again."
        raise SlideError(msg)
    least, most = float(values.min()), float(values.max())
    if not (np.isfinite(values).all() and least > 0 and most - least <= Nums.MPP_TOLERANCE * least):
        msg = (
            f"The positions {path} give radii r from {least:.4g} to {most:.4g} px; expected one number above 0 for all "
            "spots. Copy the file again."
        )
        raise SlideError(msg)
    return float(np.median(values))


def _table(path: Path, what: str) -> pd.DataFrame:
    """Read a table as texts, its first column the barcodes; commas or tabs."""
    try:
        with regular(path).open(encoding="utf-8-sig") as stream:
            separator = "\t" if "\t" in stream.readline() else ","
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, index_col=0)
    except FileNotFoundError as exc:
        msg = f"The {what} {path} are missing; without them the counts have no place on the image."
        raise SlideError(msg) from exc
    except (OSError, ValueError) as exc:  # pandas' ParserError is a ValueError
        msg = f"The {what} {path} cannot be read ({exc}). Copy the file again from its source."
        raise SlideError(msg) from exc
    table.index = table.index.map(str)
    return table
