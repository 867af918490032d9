"""``spatial/`` of a Space Ranger run: positions, scale factors and images.

Spot positions are in pixels of the full-resolution image, which is seldom there. This module works out
which image there is, and how many of its pixels make one full-resolution pixel.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import pandas as pd

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.keys import Keys, Nums
from stamp_index.slides import open_image

if TYPE_CHECKING:
    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import SlideImage

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
_SCALE_FACTORS: Final = "scalefactors_json.json"
# Not the 55 um capture area: 10x Genomics documents spot_diameter_fullres as "a theoretical 65 um spot"
# (Space Ranger 1.3, output/images), and on real slides it is 0.65 of the pitch of 100 um.
_SPOT_DIAMETER_FULLRES_UM: Final = 65.0
_SHAPE_TOLERANCE: Final = 0.02
_KNOWN_SCALE_TOLERANCE: Final = 0.05


@dataclass(frozen=True)
class SpatialFolder:
    """What ``spatial/`` holds.

    Attributes
    ----------
    path : Path
        The folder.
    positions : DataFrame indexed by barcode
        Columns in_tissue, array_row, array_col, x_px, y_px (float64, full-resolution pixels).
    scale_factors : dict
        As in ``scalefactors_json.json``.
    """

    path: Path
    positions: pd.DataFrame
    scale_factors: dict[str, float]

    @property
    def files(self) -> tuple[Path, Path]:
        """Files that positions and scale factors were read from."""
        return _positions_path(self.path), self.path / _SCALE_FACTORS

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read positions and scale factors.

        Raises
        ------
        SlideError
            If a file is missing or damaged.
        """
        return cls(path, _read_positions(path), _read_scale_factors(path))

    def full_mpp(self) -> tuple[float | None, str]:
        """Microns per full-resolution pixel and what it was derived from; None if it cannot be.

        Notes
        -----
        On Visium's hexagonal array, spots of one row whose columns differ by 2 are 100 um apart, and
        so are spots one row and one column apart. Image axes may be turned or flipped against the
        array, which distances do not see.
        """
        pitch = _median_pitch(self.positions)
        if pitch is not None:
            return Nums.VISIUM_PITCH_UM / pitch, "the spots' pitch of 100 um"
        diameter = self.scale_factors.get("spot_diameter_fullres")
        if diameter and diameter > 0:
            return _SPOT_DIAMETER_FULLRES_UM / diameter, "spot_diameter_fullres, which spans 65 um"
        return None, ""

    def choose_image(self, options: SlideOptions) -> tuple[SlideImage | None, float, str]:
        """Choose the image: what the user gives, else the hires, else the lowres one.

        Returns
        -------
        image : SlideImage, or None
            None where the folder has none: counts and positions serve without.
        scale : float
            Pixels of the image per full-resolution pixel; 1 without an image.
        note : str
            Which image it is and why.

        Raises
        ------
        SlideError
            If the given image cannot be of this slide.
        """
        if options.image is not None:
            image = open_image(options.image)
            scale = self._scale_of(image, options.mpp)
            return image, scale, f"Image: {Path(options.image).name}, as given (scale {scale:.4g})."
        for kind in ("hires", "lowres"):
            path = self.path / f"tissue_{kind}_image.png"
            if path.exists():
                image = open_image(path)
                return image, self._factor(kind), f"Image: {path.name}. {_why(kind)}"
        note = (
            "No image: there is neither tissue_hires_image.png nor tissue_lowres_image.png. To train on images or to "
            "embed them, name it in slide.toml (image = ...)."
        )
        return None, 1.0, note

    @cached_property
    def full_size_px(self) -> tuple[float, float] | None:
        """Size of the full-resolution image, from a scaled one; None where there is none."""
        for kind in ("hires", "lowres"):
            path = self.path / f"tissue_{kind}_image.png"
            if path.exists():
                factor = self._factor(kind)
                width, height = open_image(path).size_px
                return width / factor, height / factor
        return None

    def _factor(self, kind: str) -> float:
        name = f"tissue_{kind}_scalef"
        factor = self.scale_factors.get(name)
        if factor is None or not factor > 0:
            msg = f"scalefactors_json.json has no {name} above 0, so tissue_{kind}_image.png has no scale."
            raise SlideError(msg)
        return factor

    def _scale_of(self, image: SlideImage, given_mpp: float | None) -> float:
        """Work out pixels of a given image per full-resolution pixel."""
        if self.full_size_px is not None:
            return self._scale_by_size(image, self.full_size_px)
        mpp_full, _ = self.full_mpp()
        mpp_image = given_mpp or image.mpp
        if mpp_full is not None and mpp_image is not None:
            scale = mpp_full / mpp_image
            known = [
                1.0,
                *(self.scale_factors.get(f"tissue_{k}_scalef", 1.0) for k in ("hires", "lowres")),
            ]
            nearest = min(known, key=lambda value: abs(value - scale))
            near = abs(nearest - scale) <= _KNOWN_SCALE_TOLERANCE * scale
            return nearest if near else scale
        msg = (
            f"The scale of {image.uri} against the spot positions is unknown: there is no scaled "
            "Space Ranger image to compare it with, and it has no pixel size. Give mpp "
            "(SlideOptions(mpp=...) or `mpp` in slide.toml)."
        )
        raise SlideError(msg)

    def _scale_by_size(self, image: SlideImage, full: tuple[float, float]) -> float:
        across, down = (size / whole for size, whole in zip(image.size_px, full, strict=True))
        if abs(across - down) > _SHAPE_TOLERANCE * min(across, down):
            msg = (
                f"{image.uri} is {image.size_px[0]} x {image.size_px[1]} px, but the slide's image is "
                f"{full[0]:.0f} x {full[1]:.0f} px at full resolution: their shapes differ. Give the "
                "image that Space Ranger was run on, uncropped, or its hires or lowres copy."
            )
            raise SlideError(msg)
        scale = (across + down) / 2
        # A lowres image of 600 px tells the full size to 1/600 only.
        return 1.0 if abs(scale - 1) < 0.01 else scale


def _why(kind: str) -> str:
    if kind == "hires":
        return "No full-resolution image was given."
    return "tissue_hires_image.png is missing and no other image was given, so detail is low."


def _read_positions(folder: Path) -> pd.DataFrame:
    path = _positions_path(folder)
    try:
        with path.open(encoding="utf-8") as stream:
            has_header = stream.readline().startswith("barcode,")
        names = None if has_header else list(_COLUMNS)
        table = pd.read_csv(path, header=0 if has_header else None, names=names)
        table = table[list(_COLUMNS)].astype({"barcode": str, **_POSITION_TYPES})
    except (OSError, ValueError, KeyError) as exc:  # pandas' ParserError is a ValueError
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


def _positions_path(folder: Path) -> Path:
    path = next((folder / name for name in _POSITION_FILES if (folder / name).exists()), None)
    if path is None:
        hd = " Visium HD (tissue_positions.parquet) is not read yet." if _is_hd(folder) else ""
        msg = f"{folder} has neither {' nor '.join(_POSITION_FILES)}; copy the whole folder.{hd}"
        raise SlideError(msg)
    return path


def _is_hd(folder: Path) -> bool:
    return (folder / "tissue_positions.parquet").exists()


def _read_scale_factors(folder: Path) -> dict[str, float]:
    path = folder / _SCALE_FACTORS
    try:
        factors = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in factors.items()}
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        msg = f"The scale factors {path} cannot be read ({exc}). Copy the file again."
        raise SlideError(msg) from exc


def _median_pitch(positions: pd.DataFrame) -> float | None:
    """Median distance in pixels of spots that are neighbours in a row; None where there are none."""
    cells = positions[["array_row", "array_col", Keys.X_PX, Keys.Y_PX]].dropna()
    right = cells.assign(array_col=cells["array_col"] + 2)
    pairs = cells.merge(right, on=["array_row", "array_col"], suffixes=("", "_left"))
    if pairs.empty:
        return None
    distance = np.hypot(
        pairs[Keys.X_PX] - pairs[f"{Keys.X_PX}_left"], pairs[Keys.Y_PX] - pairs[f"{Keys.Y_PX}_left"]
    )
    median = float(np.median(distance))
    return median if median > 0 else None
