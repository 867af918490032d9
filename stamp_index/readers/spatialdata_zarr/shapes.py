"""Shapes of a SpatialData store that can be spots: circles of one size, or squares of one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.readers.spatialdata_zarr.ngff import CoordinateSystem, coordinate_systems
from stamp_index.slides.zarr_files import attributes, check_files, open_node, zarr_errors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_POINT, _POLYGON = 0, 3  # of shapely.GeometryType; the old layout stores the number
_SAME: Final = 0.03  # relative; sizes that differ by more are not those of one kind of spot


@dataclass(frozen=True)
class Shapes:
    """One element of shapes.

    Attributes
    ----------
    name : str
        Its name in the store.
    index : Index of length n
        Instance ids.
    centres : ndarray of shape (n, 2), float64
        (x, y) in the element's own coordinates.
    kind : {"circle", "square"}
    width : float
        Diameter of the circles or width of the squares, in the element's own coordinates.
    systems : dict of str to CoordinateSystem
        Where it lies.
    """

    name: str
    index: pd.Index[Any]
    centres: NDArray[np.float64]
    kind: Literal["circle", "square"]
    width: float
    systems: dict[str, CoordinateSystem]


def read_shapes(path: Path) -> Shapes:
    """Read ``shapes/<name>``: GeoParquet (SpatialData 0.2 and later), or zarr arrays (before).

    Raises
    ------
    SlideError
        If it is damaged, or holds neither circles nor squares of one size.
    """
    import shapely

    check_files(path)
    said = attributes(path)
    where = f"the shapes '{path.name}'"
    axes = said.get("axes", ["x", "y"])
    systems = coordinate_systems(said.get("coordinateTransformations", ()), axes, where)
    parquet = path / "shapes.parquet"
    try:
        index, shapes, radius = _parquet(parquet) if parquet.exists() else _arrays(path)
    except (
        *zarr_errors(),
        shapely.errors.ShapelyError,
    ) as exc:  # pyarrow's are ValueErrors and OSErrors
        msg = f"The shapes {path} cannot be read ({exc}). Copy or write the element again."
        raise SlideError(msg) from exc
    if not len(index):
        msg = f"The shapes {path} are empty. Name other shapes, or write the element again."
        raise SlideError(msg)
    if index.has_duplicates:
        twice = index[index.duplicated()].unique()
        msg = f"The shapes {path} name {len(twice)} instances twice (such as {twice[0]}). An id names one shape."
        raise BarcodeMismatchError(msg)
    if radius is not None:
        return Shapes(path.name, index, shapes, "circle", 2 * _one_size(radius, path), systems)
    centres, widths = _squares(shapes, path)
    return Shapes(path.name, index, centres, "square", _one_size(widths, path), systems)


_Found = tuple["pd.Index[Any]", Any, "NDArray[np.float64] | None"]


def _parquet(path: Path) -> _Found:
    """Return ids with centres and radii of circles, or with polygons and None."""
    import pyarrow.parquet as pq
    import shapely

    # Not through a data set, which would take folder names for columns and follow what lies beside.
    frame = pq.ParquetFile(path).read().to_pandas()
    if "geometry" not in frame or not all(isinstance(one, bytes) for one in frame["geometry"]):
        msg = "it has no column `geometry` of well-known binary (WKB)"
        raise ValueError(msg)
    shapes = shapely.from_wkb(frame["geometry"].to_numpy())
    kinds = set(shapely.get_type_id(shapes).tolist())
    if kinds == {_POINT}:
        if "radius" not in frame:
            msg = "its points have no column `radius`"
            raise ValueError(msg)
        return frame.index, shapely.get_coordinates(shapes), frame["radius"].to_numpy(np.float64)
    if kinds not in ({_POLYGON}, set()):
        names = sorted(shapely.GeometryType(kind).name for kind in kinds)
        msg = f"it holds {', '.join(names)}; expected circles (points with a radius) or squares"
        raise ValueError(msg)
    return frame.index, shapes, None


def _arrays(path: Path) -> _Found:
    """Read the layout that SpatialData 0.1 writes: coordinates, ids and radii, or offsets of polygons."""
    import shapely

    group = open_node(path)
    said = dict(group.attrs)["spatialdata_attrs"]["geos"]
    index = pd.Index(np.asarray(group["Index"][:]))
    coordinates = np.asarray(group["coords"][:], np.float64)
    if said["type"] == _POINT:
        return index, coordinates, np.asarray(group["radius"][:], np.float64)
    if said["type"] != _POLYGON:
        msg = f"it holds {said.get('name', said['type'])}; expected circles or squares"
        raise ValueError(msg)
    offsets = tuple(np.asarray(group[f"offset{i}"][:]) for i in range(2))
    return (
        index,
        shapely.from_ragged_array(shapely.GeometryType.POLYGON, coordinates, offsets),
        None,
    )


def _squares(polygons: Any, path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: ANN401
    """Return centres and widths of squares in any direction, or refuse other polygons."""
    import shapely

    corners = shapely.get_num_coordinates(polygons)
    if (corners == 5).all():
        ring = shapely.get_coordinates(polygons).reshape(-1, 5, 2)
        sides = np.linalg.norm(np.diff(ring, axis=1), axis=2)  # (n, 4)
        width = sides.mean(axis=1)
        across = np.linalg.norm(ring[:, 2] - ring[:, 0], axis=1)
        is_square = (np.ptp(sides, axis=1) <= _SAME * width) & (
            np.abs(across - np.sqrt(2) * width) <= _SAME * width
        )
        if is_square.all():
            return ring[:, :4].mean(axis=1), width
    msg = (
        f"The shapes {path} are polygons that are not squares, such as outlines of cells. Expected circles or squares "
        "(Visium, Visium HD): aggregate the counts by such shapes first."
    )
    raise SlideError(msg)


def _one_size(sizes: NDArray[np.float64], path: Path) -> float:
    least, most = float(sizes.min()), float(sizes.max())
    if not (np.isfinite(most) and least > 0):
        msg = f"The shapes {path} have sizes from {least:g} to {most:g}; expected numbers above 0."
        raise SlideError(msg)
    if most > (1 + _SAME) * least:
        msg = (
            f"The shapes {path} have sizes from {least:.4g} to {most:.4g}, as cells have; expected spots of one size. "
            "Aggregate the counts by spots or bins first."
        )
        raise SlideError(msg)
    return float(np.median(sizes))
