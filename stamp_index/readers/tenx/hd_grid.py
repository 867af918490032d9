"""The array of a Visium HD slide: which squares lie under tissue, and where they are on the image.

``tissue_positions.parquet`` lists every square of the array, its row and column, and the centre of the
square in pixels of the full-resolution image (Space Ranger 3 and 4, "Spatial outputs").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import BarcodeMismatchError, MissingPixelSizeError, SlideError
from stamp_index.keys import Nums
from stamp_index.readers.common.parquet import ParquetTable
from stamp_index.readers.tenx.hd_barcodes import parse_barcodes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

POSITIONS: Final = "tissue_positions.parquet"
_COLUMNS: Final = {
    "in_tissue": np.int32,
    "array_row": np.int32,
    "array_col": np.int32,
    "pxl_row_in_fullres": np.float64,
    "pxl_col_in_fullres": np.float64,
}
MAX_ARRAY_UM: Final = 20_000  # the widest capture area is 11 mm; more is a damaged number
# One cell. Registration by Space Ranger may hold a slight perspective, which is about 2 um at the corners.
_MAX_RESIDUAL_UM: Final = 8.0
_BATCH: Final = 1 << 17  # squares whose barcodes are in memory as texts
_CHUNK: Final = 1 << 20  # squares at a time where whole columns would need copies

NO_SQUARE, OFF_TISSUE, UNDER_TISSUE = range(3)


@dataclass(frozen=True)
class HdGrid:
    """The array of one slide at one width of squares.

    Attributes
    ----------
    square_um : int
        Width of a square in microns.
    state : ndarray of shape (rows, columns), uint8
        `NO_SQUARE`, `OFF_TISSUE` or `UNDER_TISSUE` for each place of the array.
    to_px : ndarray of shape (2, 3), float64
        Affine map from (array column, array row, 1) to (x, y) in full-resolution pixels; whole numbers are
        centres of squares.
    """

    square_um: int
    state: NDArray[np.uint8]
    to_px: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path, square_um: int) -> HdGrid:
        """Read ``tissue_positions.parquet``.

        Raises
        ------
        SlideError
            If the file is missing or damaged, or rows, columns, barcodes and pixels contradict each other.
        """
        squares = _read_squares(path, square_um)
        state = _states(squares, square_um, path)
        to_px = _fit(squares, square_um, path)
        return cls(square_um, state, to_px)

    @property
    def mpp(self) -> float:
        """Microns per full-resolution pixel, from the distance of neighbouring squares."""
        return self.square_um / float(np.sqrt(abs(np.linalg.det(self.to_px[:, :2]))))

    def centres_px(
        self, row: NDArray[np.integer], col: NDArray[np.integer], squares: int
    ) -> NDArray[np.float64]:
        """Centres of bins that are `squares` squares wide: shape (m, 2), (x, y) full-resolution pixels.

        They follow from the array alone: a bin at the edge of the tissue lies where the grid has it.
        """
        half = (squares - 1) / 2  # from the centre of a bin's first square to the centre of the bin
        places = np.column_stack([col * squares + half, row * squares + half, np.ones(len(row))])
        return places @ self.to_px.T

    def squares_per_bin(self, squares: int) -> NDArray[np.int64]:
        """Count the squares under tissue in each bin: shape (bin rows, bin columns)."""
        under = self.state == UNDER_TISSUE
        height, width = (-(-side // squares) for side in under.shape)
        padded = np.zeros((height * squares, width * squares), dtype=bool)
        padded[: under.shape[0], : under.shape[1]] = under
        blocks = padded.reshape(height, squares, width, squares)
        return np.asarray(blocks.sum(axis=(1, 3)), dtype=np.int64)


def _read_squares(path: Path, square_um: int) -> dict[str, NDArray[Any]]:
    """Read every square, and check each barcode against its row and column."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    with ParquetTable(path, ["barcode", *_COLUMNS], what="positions") as table:
        for batch in table.batches(["barcode", *_COLUMNS], rows=_BATCH):
            values = {name: batch.numbers(name, kind) for name, kind in _COLUMNS.items()}
            names = [name.encode() for name in batch.texts("barcode").to_pylist()]
            barcodes = np.array(names, dtype=np.bytes_)
            row, col = parse_barcodes(barcodes, square_um, path)
            wrong = np.flatnonzero((row != values["array_row"]) | (col != values["array_col"]))
            if len(wrong):
                first = wrong[0]
                msg = (
                    f"The positions {path} name square {barcodes[first].decode()} at array row "
                    f"{values['array_row'][first]} and column {values['array_col'][first]}; a barcode "
                    f"ends with its own row and column ({len(wrong)} rows are wrong). Copy the file again."
                )
                raise BarcodeMismatchError(msg)
            for name, column in values.items():
                parts[name].append(column)
    if not any(map(len, parts["array_row"])):
        msg = f"The positions {path} list no squares. Copy the file again."
        raise SlideError(msg)
    # Pieces are let go column by column: an array has millions of squares.
    return {name: np.concatenate(parts.pop(name)) for name in _COLUMNS}


def _states(squares: dict[str, NDArray[Any]], square_um: int, path: Path) -> NDArray[np.uint8]:
    row, col, in_tissue = (squares[name] for name in ("array_row", "array_col", "in_tissue"))
    shape = int(row.max()) + 1, int(col.max()) + 1
    if max(shape) * square_um > MAX_ARRAY_UM:  # a barcode's digits are never below 0
        msg = (
            f"The positions {path} span {shape[0]} x {shape[1]} squares of {square_um} um; expected an array of "
            f"{MAX_ARRAY_UM / 1000:g} mm at most. Copy the file again."
        )
        raise SlideError(msg)
    if not np.isin(in_tissue, (0, 1)).all():
        msg = f"The positions {path} hold in_tissue of {in_tissue.min()} to {in_tissue.max()}; expected 0 or 1."
        raise SlideError(msg)
    state = np.full(shape, NO_SQUARE, dtype=np.uint8)
    state[row, col] = np.where(in_tissue == 1, UNDER_TISSUE, OFF_TISSUE)
    n_places = int((state != NO_SQUARE).sum())
    if n_places < len(row):
        msg = f"The positions {path} name {len(row) - n_places} squares twice. Copy the file again."
        raise BarcodeMismatchError(msg)
    if not (state == UNDER_TISSUE).any():
        msg = f"The positions {path} have no square under tissue (in_tissue is 0 throughout)."
        raise SlideError(msg)
    return state


def _fit(squares: dict[str, NDArray[Any]], square_um: int, path: Path) -> NDArray[np.float64]:
    """Fit pixels against the array by least squares: shape (2, 3)."""
    array = (squares["array_col"], squares["array_row"])
    pixels = (squares["pxl_col_in_fullres"], squares["pxl_row_in_fullres"])
    if not all(np.isfinite(axis).all() for axis in pixels):
        msg = f"The positions {path} have squares without pixels. Copy the file again."
        raise SlideError(msg)
    centre, mean_px = ([float(axis.mean()) for axis in axes] for axes in (array, pixels))
    moments, mixed = np.zeros((2, 2)), np.zeros((2, 2))
    for start in range(0, len(array[0]), _CHUNK):
        cut = slice(start, start + _CHUNK)
        a = np.stack([axis[cut] - mean for axis, mean in zip(array, centre, strict=True)])
        p = np.stack([axis[cut] - mean for axis, mean in zip(pixels, mean_px, strict=True)])
        moments += a @ a.T
        mixed += p @ a.T
    if np.linalg.matrix_rank(moments) < 2:
        msg = (
            f"The positions {path} lie in one line of the array, so their distance gives no pixel size in both "
            "directions. Give the whole positions file."
        )
        raise MissingPixelSizeError(msg)
    linear: NDArray[np.float64] = np.linalg.solve(moments, mixed.T).T.astype(np.float64)
    offset = np.array(mean_px) - linear @ np.array(centre)
    to_px = np.column_stack([linear, offset])
    _check_similarity(linear, square_um, path)
    _check_residuals(to_px, array, pixels, square_um=square_um, path=path)
    return to_px


def _check_similarity(linear: NDArray[np.float64], square_um: int, path: Path) -> None:
    largest, smallest = np.linalg.svd(linear, compute_uv=False)
    if largest > 0 and largest - smallest <= Nums.MPP_TOLERANCE * smallest:
        return
    sizes = " to ".join(
        f"{square_um / s:.4g}" if s > 0 else "infinite" for s in (largest, smallest)
    )
    msg = (
        f"The positions {path} give {sizes} um/px in different directions of the array; they may differ by "
        f"{Nums.MPP_TOLERANCE:.0%} at most. Copy the file again."
    )
    raise MissingPixelSizeError(msg)


def _check_residuals(
    to_px: NDArray[np.float64],
    array: tuple[NDArray[Any], NDArray[Any]],
    pixels: tuple[NDArray[Any], NDArray[Any]],
    *,
    square_um: int,
    path: Path,
) -> None:
    """Refuse positions that do not lie on a straight grid, such as shuffled ones."""
    um_per_px = square_um / float(np.sqrt(abs(np.linalg.det(to_px[:, :2]))))
    largest = 0.0
    for start in range(0, len(array[0]), _CHUNK):
        cut = slice(start, start + _CHUNK)
        fitted = to_px[:, :2] @ np.stack([axis[cut] for axis in array]) + to_px[:, 2:]
        away = np.hypot(fitted[0] - pixels[0][cut], fitted[1] - pixels[1][cut])
        largest = max(largest, float(away.max()) * um_per_px)
    if largest > _MAX_RESIDUAL_UM:
        msg = (
            f"The positions {path} do not lie on a straight grid: a square is {largest:.3g} um from its place; at most "
            f"{_MAX_RESIDUAL_UM:g} um are expected. Copy the file again."
        )
        raise SlideError(msg)
