"""Cells of a Xenium section: their table (``cells.parquet`` or ``cells.csv.gz``) and their matrix."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.readers.common.joining import join_all
from stamp_index.readers.common.parquet import ParquetTable
from stamp_index.readers.common.text_numbers import FLOATS
from stamp_index.readers.common.unpacked import open_unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_LEAST_SHARED: Final = 0.5
_POSITIONS: Final = ("x_centroid", "y_centroid")
# Columns that become labels, and what they are called then.
_LABELS: Final = {
    "cell_area": "cell_area",  # square microns
    "nucleus_area": "nucleus_area",
    "transcript_counts": "n_transcripts",
}
CELL_TABLES: Final = ("cells.parquet", "cells.csv.gz")


def read_cells(path: Path) -> pd.DataFrame:
    """Read the table of cells.

    Parameters
    ----------
    path : Path
        ``cells.parquet`` or ``cells.csv.gz``.

    Returns
    -------
    DataFrame indexed by cell id as text
        Columns x_centroid and y_centroid (float64, microns), and cell_area, nucleus_area (square microns)
        and n_transcripts where the file has them. Ids are whole numbers before Xenium Onboard Analysis 1.3.

    Raises
    ------
    SlideError
        If it is damaged, lacks a column or names a cell twice.
    """
    columns = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    table = pd.DataFrame(columns).set_index("cell_id").rename(columns=_LABELS)
    if not len(table):
        msg = f"The cells {path} are none. Copy the file again."
        raise SlideError(msg)
    twice = table.index[table.index.duplicated()].unique()
    if len(twice):
        msg = f"The cells {path} name {len(twice)} cells twice ({', '.join(twice[:3])})."
        raise BarcodeMismatchError(msg)
    lost = ~np.isfinite(table[list(_POSITIONS)].to_numpy()).all(axis=1)
    if lost.any():
        msg = f"The cells {path}: {lost.sum()} have no position, such as {table.index[lost][0]}."
        raise SlideError(msg)
    if "n_transcripts" in table and table["n_transcripts"].notna().all():
        table["n_transcripts"] = table["n_transcripts"].astype(np.int64)
    return table


def join_cells(cells: pd.DataFrame, barcodes: Sequence[str], path: Path) -> pd.DataFrame:
    """Return the cells of a matrix, in its order.

    Raises
    ------
    BarcodeMismatchError
        If the table does not have them all.
    """
    where = f"The cells {path}"
    return cells.iloc[
        join_all(barcodes, cells.index, where=where, counted="cells with counts", place="row").at
    ]


def check_same_area(
    centres_um: NDArray[np.float64],
    n_transcripts: NDArray[np.int64],
    cells: pd.DataFrame,
    *,
    reach_um: float,
    path: Path,
) -> None:
    """Refuse transcripts and cells that lie in different areas: pixels taken for microns, or axes swapped.

    Parameters
    ----------
    centres_um : ndarray of shape (m, 2)
        Of bins of transcripts.
    n_transcripts : ndarray of shape (m,)
        In each bin.
    cells : DataFrame
        As `read_cells` returns it.
    reach_um : float
        Width of a bin, by which both areas are widened.
    path : Path
        The run, for messages.

    Raises
    ------
    SlideError
        If less than half of the transcripts lie in the cells' bounding box, or the other way round.
    """
    xy_um = cells[list(_POSITIONS)].to_numpy(dtype=np.float64)
    apart = {
        "transcripts lie where cells are": np.average(
            _in_box_of(centres_um, xy_um, reach_um), weights=n_transcripts
        ),
        "cells lie where transcripts are": _in_box_of(xy_um, centres_um, reach_um).mean(),
    }
    for what, share in apart.items():
        if share < _LEAST_SHARED:
            msg = (
                f"{path}: {share:.0%} of the {what}; expected {_LEAST_SHARED:.0%} at least. One of the two is in pixels or has x "
                "and y swapped: give both files as the instrument wrote them, in microns."
            )
            raise SlideError(msg)


def _in_box_of(
    xy_um: NDArray[np.float64], others_um: NDArray[np.float64], reach_um: float
) -> NDArray[np.bool_]:
    """Say which points of (n, 2) lie in the bounding box of others, widened by `reach_um`."""
    low, high = others_um.min(axis=0) - reach_um, others_um.max(axis=0) + reach_um
    return np.asarray(((xy_um >= low) & (xy_um <= high)).all(axis=1), dtype=bool)


def median_diameter_um(cells: pd.DataFrame, path: Path) -> float:
    """Diameter of a disc with the median cell's area, in microns.

    Raises
    ------
    SlideError
        If the table gives no areas.
    """
    if "cell_area" in cells:
        areas = cells["cell_area"].to_numpy(dtype=np.float64)
        areas = areas[np.isfinite(areas) & (areas > 0)]
        if len(areas):
            return 2 * float(np.sqrt(np.median(areas) / np.pi))
    msg = f"The cells {path} have no cell_area above 0, so a cell's width is unknown. Read bins (spots = 'bins')."
    raise SlideError(msg)


def _read_parquet(path: Path) -> dict[str, Any]:
    with ParquetTable(path, ["cell_id", *_POSITIONS], what="cells") as table:
        names = [*_POSITIONS, *(name for name in _LABELS if name in table.names)]
        ids: list[str] = []
        parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
        for batch in table.batches(["cell_id", *names]):
            ids += batch.texts("cell_id").to_pylist()
            for name in names:
                parts[name].append(batch.numbers(name, np.float64))
    empty = np.zeros(0)
    return {"cell_id": ids, **{name: np.concatenate([empty, *p]) for name, p in parts.items()}}


def _read_csv(path: Path) -> dict[str, Any]:
    wanted = {"cell_id", *_POSITIONS, *_LABELS}
    try:
        with open_unpacked(path) as stream:
            table = pd.read_csv(
                stream,
                usecols=lambda name: name in wanted,
                dtype={"cell_id": str},
                float_precision=FLOATS,
            )
        missing = [name for name in ("cell_id", *_POSITIONS) if name not in table]
        if missing:
            msg = f"it lacks the columns {', '.join(missing)}"
            raise ValueError(msg)
        if table["cell_id"].isna().any():
            msg = "a row has no cell_id"
            raise ValueError(msg)
        numbers = table.drop(columns="cell_id").astype(np.float64)
    except (
        OSError,
        EOFError,
        ValueError,
        zlib.error,
    ) as exc:  # pandas' ParserError is a ValueError
        msg = f"The cells {path} cannot be read ({exc}). Expected columns cell_id, {', '.join(_POSITIONS)}: copy the file again."
        raise SlideError(msg) from exc
    return {"cell_id": table["cell_id"].tolist(), **{str(name): numbers[name] for name in numbers}}
