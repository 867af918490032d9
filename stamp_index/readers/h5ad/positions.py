"""Where the observations of an ``.h5ad`` lie, and what their distances say about the pixel size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.readers.common.spot_pitch import array_pitch
from stamp_index.readers.common.visium_array import circle_um, visium_pitch
from stamp_index.readers.h5ad.elements import array_of, column_of, columns_of

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

# Pairs of columns (x, y): pixels of the image, then microns (Xenium's cells.parquet calls those centroids).
PIXEL_COLUMNS: Final = (
    ("x_px", "y_px"),
    ("x_pixel", "y_pixel"),
    ("pixel_x", "pixel_y"),
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
)
MICRON_COLUMNS: Final = (("x_um", "y_um"), ("x_centroid", "y_centroid"))
COORDINATES: Final = frozenset(name for pair in (*PIXEL_COLUMNS, *MICRON_COLUMNS) for name in pair)
_SPATIAL: Final = ("spatial", "X_spatial")


@dataclass(frozen=True)
class Positions:
    """Positions as the file gives them.

    Attributes
    ----------
    xy : ndarray of shape (n, 2), float64
    in_um : bool
        Whether they are microns by their columns' names; else pixels.
    origin : str
        Where they stand in the file.
    """

    xy: NDArray[np.float64]
    in_um: bool
    origin: str


def read_positions(file: h5py.File, n_obs: int, path: Path) -> Positions:
    """Read the positions.

    Raises
    ------
    SlideError
        If the file has none.
    BarcodeMismatchError
        If there are more or fewer than observations.
    """
    for name in _SPATIAL:
        if f"obsm/{name}" in file:
            xy = _matrix(file[f"obsm/{name}"])
            if xy.ndim != 2 or xy.shape[1] < 2 or len(xy) != n_obs:
                msg = (
                    f"{path}: obsm['{name}'] has shape {xy.shape} for {n_obs} observations; expected x and y of "
                    "each. Write the file again with AnnData."
                )
                raise BarcodeMismatchError(msg)
            return Positions(xy[:, :2], in_um=False, origin=f"obsm['{name}']")
    columns = columns_of(file["obs"])
    for pairs, in_um in ((PIXEL_COLUMNS, False), (MICRON_COLUMNS, True)):
        for pair in pairs:
            if set(pair) <= set(columns):
                both = [column_of(file["obs"], name).to_numpy(np.float64) for name in pair]
                return Positions(np.stack(both, axis=1), in_um, f"obs {' and '.join(pair)}")
    pairs_text = ", ".join("/".join(pair) for pair in (*PIXEL_COLUMNS, *MICRON_COLUMNS))
    msg = (
        f"{path} has no positions: neither obsm['spatial'] nor two columns of obs such as {pairs_text}. Put x and y "
        "in pixels of the image into obsm['spatial']."
    )
    raise SlideError(msg)


def visium_pitch_px(
    xy: NDArray[np.float64], array: NDArray[np.int64] | None, spot_px: float | None
) -> float | None:
    """Distance in pixels of neighbouring spots, where they are those of a Visium array.

    Parameters
    ----------
    xy : ndarray of shape (n, 2)
        Pixels.
    array : ndarray of shape (n, 2) or None
        ``array_row`` and ``array_col``.
    spot_px : float or None
        ``spot_diameter_fullres``.

    Returns
    -------
    float or None
        None unless the spots lie on the array as Visium's do or, where rows and columns are not known, lie regularly
        and their diameter is a share of the pitch that is written for Visium.
    """
    if array is not None and len(array) == len(xy):
        return visium_pitch(array, xy)
    pitch = array_pitch(xy)
    if pitch is None or spot_px is None or circle_um(spot_px, pitch) is None:
        return None
    return pitch


def array_places(obs: h5py.Group) -> NDArray[np.int64] | None:
    """Return ``array_row`` and ``array_col`` of shape (n, 2), or None where they are not there or no whole numbers."""
    names = ("array_row", "array_col")
    if not set(names) <= set(columns_of(obs)):
        return None
    values = [column_of(obs, name) for name in names]
    if not all(value.dtype.kind in "iu" for value in values):
        return None
    return np.stack([value.to_numpy(np.int64) for value in values], axis=1)


def _matrix(item: h5py.Group | h5py.Dataset) -> NDArray[np.float64]:
    """Read an array, or a data frame column by column."""
    if not hasattr(item, "keys"):
        return array_of(item).astype(np.float64)
    both = [column_of(item, name).to_numpy(np.float64) for name in columns_of(item)]
    return np.stack(both, axis=1) if both else np.empty((0, 0))
