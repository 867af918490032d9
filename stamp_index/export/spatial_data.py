"""SpatialData of a store's slides, through the library of that name."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stamp_index.errors import MissingPixelSizeError, StampIndexError
from stamp_index.export.annotated import decode, to_anndata
from stamp_index.export.choosing import choose_slides, each, rows_of
from stamp_index.export.files import draft, refuse_existing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spatialdata import SpatialData

    from stamp_index.store.view import StoreView


def to_spatialdata(store: StoreView, slides: Sequence[str] | str | None = None) -> SpatialData:
    """Put slides together in one SpatialData; needs the extra ``spatialdata``.

    Parameters
    ----------
    store : Store
    slides : sequence of str, optional
        Their ids; all by default.

    Returns
    -------
    SpatialData
        For each slide a coordinate system of its id, whose unit is a level-0 pixel of its image, with
        ``images["<id>_overview"]`` (the stored picture, multiscale), and ``shapes["<id>_spots"]``, circles of the
        spots' diameter. ``tables["table"]`` is `to_anndata` of all of them. Characters of an id other than
        letters, digits, ``_``, ``.`` and ``-`` become ``_``.

    Raises
    ------
    StampIndexError
        If the library is not installed.
    QueryError
        If a slide is not in the store, or there is none.
    MissingPixelSizeError
        If a slide has no pixel size.
    """
    if importlib.util.find_spec("spatialdata") is None:
        msg = (
            "SpatialData needs the extra `spatialdata`. Run: pip install 'stamp-index[spatialdata]'"
        )
        raise StampIndexError(msg)
    from spatialdata import SpatialData
    from spatialdata.models import ShapesModel, TableModel
    from spatialdata.transformations import Identity

    chosen = choose_slides(store, slides)
    names = _names(chosen["slide_id"])
    images, shapes = {}, {}
    for slide in each(chosen):
        name = names[str(slide.slide_id)]
        if not np.isfinite(slide.mpp):
            msg = f"Slide {slide.slide_id} has no microns per pixel, so its spots have no size. Read it again with mpp."
            raise MissingPixelSizeError(msg)
        picture = store.overview(str(slide.slide_id))
        if picture is not None:
            images[f"{name}_overview"] = _image(decode(picture), slide, name)
        spots = store.spots(["spot_id", "x_px", "y_px"], rows_of(slide))
        shapes[f"{name}_spots"] = ShapesModel.parse(
            spots[["x_px", "y_px"]].to_numpy(),
            geometry=0,
            radius=float(slide.spot_diameter_um / slide.mpp / 2),
            index=pd.Index(spots["spot_id"].to_numpy()),
            transformations={name: Identity()},
        )
    table = to_anndata(store, list(chosen["slide_id"]))
    table.obs["spot_id"] = table.obs_names.to_numpy()
    regions = {slide: f"{name}_spots" for slide, name in names.items()}
    table.obs["region"] = pd.Categorical([regions[str(one)] for one in table.obs["slide_id"]])
    parsed = TableModel.parse(
        table, region=list(regions.values()), region_key="region", instance_key="spot_id"
    )
    return SpatialData(images=images, shapes=shapes, tables={"table": parsed})


def write_spatialdata(
    store: StoreView,
    path: Path | str,
    slides: Sequence[str] | str | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write `to_spatialdata` to a ``.zarr`` folder, whole or not at all.

    Raises
    ------
    FileExistsError
        If there is something and `overwrite` is False.
    OSError
        If it cannot be written.
    StampIndexError
        As `to_spatialdata`.
    """
    from pathlib import Path

    refuse_existing(Path(path), overwrite=overwrite)
    made = to_spatialdata(store, slides)
    with draft(path, overwrite=overwrite) as folder:
        made.write(folder)


def _names(slide_ids: pd.Series[str]) -> dict[str, str]:
    """Names that SpatialData allows; a number is added where two become the same."""
    names: dict[str, str] = {}
    for slide_id in slide_ids:
        plain = name = re.sub(r"[^A-Za-z0-9_.-]", "_", str(slide_id))
        number = 2
        while name in names.values():
            name, number = f"{plain}_{number}", number + 1
        names[str(slide_id)] = name
    return names


def _image(pixels: np.ndarray[Any, Any], slide: Any, name: str) -> Any:  # noqa: ANN401
    """Overview with smaller sizes, laid on level-0 pixels."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale

    height, width = pixels.shape[:2]
    factors = [slide.width_px / width, slide.height_px / height]
    return Image2DModel.parse(
        pixels.transpose(2, 0, 1),
        dims=("c", "y", "x"),
        c_coords=["r", "g", "b"],
        scale_factors=[2] if min(height, width) >= 64 else None,
        transformations={name: Scale(factors, axes=("x", "y"))},
    )
