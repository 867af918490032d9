"""``spatial/`` of a Visium run: the spots' positions, and the pixel size that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import pandas as pd

from stamp_index.errors import BarcodeMismatchError, MissingPixelSizeError, SlideError
from stamp_index.keys import Keys
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.text_numbers import FLOATS
from stamp_index.readers.common.visium_array import agree, neighbour_steps, visium_mpp
from stamp_index.readers.tenx.spatial_images import (
    SCALE_FACTORS,
    SpatialImages,
    read_scale_factors,
)

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS: Final = (
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)
_POSITION_TYPES: Final = {
    "in_tissue": np.int64,
    "array_row": np.int64,
    "array_col": np.int64,
    "pxl_row_in_fullres": np.float64,
    "pxl_col_in_fullres": np.float64,
}
_POSITION_FILES: Final = ("tissue_positions.csv", "tissue_positions_list.csv")


@dataclass(frozen=True)
class SpatialFolder:
    """What ``spatial/`` holds.

    Attributes
    ----------
    path, root : Path
        The folder, and the run's, which all files lie in.
    positions : DataFrame indexed by barcode
        Columns in_tissue, array_row, array_col, x_px, y_px (float64, full-resolution pixels).
    scale_factors : dict
        As in ``scalefactors_json.json``.
    """

    path: Path
    root: Path
    positions: pd.DataFrame
    scale_factors: dict[str, float]

    @property
    def files(self) -> tuple[Path, Path]:
        """Files that positions and scale factors were read from."""
        return _positions_path(self.path, self.root), confined(self.path / SCALE_FACTORS, self.root)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Read positions and scale factors of a run.

        Raises
        ------
        SlideError
            If a file is missing or damaged, or leads out of the run's folder.
        """
        path = root / "spatial"
        positions = _read_positions(_positions_path(path, root))
        return cls(path, root, positions, read_scale_factors(path, root))

    def full_mpp(self) -> dict[str, float | None]:
        """Microns per full-resolution pixel by what they follow from: pitch and ``spot_diameter_fullres``; may be empty.

        Raises
        ------
        MissingPixelSizeError
            If spots are not equally far apart in the array's directions, as shuffled ones are not.

        Notes
        -----
        Image axes may be turned or flipped against the array, which distances do not see.
        """
        array = self.positions[["array_row", "array_col"]].to_numpy(np.int64)
        steps = neighbour_steps(array, self.positions[[Keys.X_PX, Keys.Y_PX]].to_numpy(np.float64))
        if steps and not agree(steps):
            msg = (
                f"{self.path}: neighbouring spots are {' and '.join(f'{step:.4g}' for step in steps)} px apart in the "
                "directions of the array; expected the same distance, as on Visium's hexagonal array, so that the pitch "
                "of 100 um gives a pixel size. Copy the positions again."
            )
            raise MissingPixelSizeError(msg)
        circle_px = self.scale_factors.get("spot_diameter_fullres")
        return visium_mpp(steps[0] if steps else None, circle_px)

    def images(self) -> SpatialImages:
        """Return the folder's images."""
        return SpatialImages((self.path,), self.root, self.scale_factors)


def _read_positions(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8") as stream:
            has_header = stream.readline().startswith("barcode,")
        names = None if has_header else list(_COLUMNS)
        table = pd.read_csv(
            path, header=0 if has_header else None, names=names, float_precision=FLOATS
        )
        table = table[list(_COLUMNS)].astype({"barcode": str, **_POSITION_TYPES})
    except (
        OSError,
        ValueError,
        KeyError,
        OverflowError,
    ) as exc:  # pandas' ParserError is a ValueError
        msg = (
            f"The positions {path} cannot be read ({exc}). Expected columns {', '.join(_COLUMNS)}."
        )
        raise SlideError(msg) from exc
    twice = table["barcode"][table["barcode"].duplicated()].unique()
    if len(twice):
        msg = f"The positions {path} name {len(twice)} barcodes twice ({', '.join(twice[:5])})."
        raise BarcodeMismatchError(msg)
    renamed = {"pxl_col_in_fullres": Keys.X_PX, "pxl_row_in_fullres": Keys.Y_PX}
    return table.rename(columns=renamed).set_index("barcode").rename_axis(Keys.BARCODE)


def _positions_path(folder: Path, root: Path) -> Path:
    path = next((folder / name for name in _POSITION_FILES if (folder / name).exists()), None)
    if path is None:
        msg = f"{folder} has neither {' nor '.join(_POSITION_FILES)}; copy the whole folder."
        raise SlideError(msg)
    return confined(path, root)
