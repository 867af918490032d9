"""What is drawn above the spots of a viewer: rings at hits, and outlines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.keys import Keys
from stamp_index.view.shapes import even_odd, points_inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray
    from shapely import MultiPolygon, Polygon

    from stamp_index.search import Hits, RegionHits

_NOT_FINITE: Final = "The outline has corners that are not finite numbers; expected level-0 pixels."

Box = tuple[float, float, float, float]  # left, top, right, bottom in level-0 pixels


@dataclass(frozen=True)
class Outline:
    """A named shape on a slide, in level-0 pixels; `kind` is "annotation", "hit" or "query"."""

    slide_id: str
    name: str
    shape: Polygon | MultiPolygon
    kind: str = "annotation"

    def to_dict(self, outline_id: str) -> dict[str, Any]:
        """For the browser."""
        import shapely

        rings = [
            shapely.get_coordinates(ring).round(1).tolist()
            for part in shapely.get_parts(self.shape)
            for ring in (part.exterior, *part.interiors)
        ]
        return {"id": outline_id, "name": self.name, "polygons": rings, "kind": self.kind}


def shape_of(outline: ArrayLike | Polygon | MultiPolygon) -> Polygon | MultiPolygon:
    """Make a valid shape with an area; one that crosses itself becomes what lies inside by the even-odd rule.

    Parameters
    ----------
    outline : array of shape (n, 2), or Polygon or MultiPolygon
        Corners (x, y) in level-0 pixels, at least three.

    Raises
    ------
    ValueError
        If it is no outline, or has no area.
    """
    import shapely

    shape: Any = outline
    if not isinstance(shape, shapely.Geometry):
        shape = shapely.Polygon(_corners(shape))
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        msg = f"The outline is a {shape.geom_type}; expected a Polygon, a MultiPolygon or corners (n, 2)."
        raise ValueError(msg)
    if not np.isfinite(shapely.get_coordinates(shape)).all():
        raise ValueError(_NOT_FINITE)
    shape = even_odd(shape)
    if shape.area == 0:
        msg = "The outline has no area. Draw at least three corners that do not lie on one line."
        raise ValueError(msg)
    return shape


def inside(outline: ArrayLike | Polygon | MultiPolygon, xy_px: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers of the points (n, 2) that lie inside an outline, ascending."""
    return np.flatnonzero(points_inside(shape_of(outline), xy_px)).astype(np.int64)


def hit_marks(hits: Hits, slide_id: str) -> list[dict[str, Any]]:
    """Rings at the hits that lie on a slide, for the browser."""
    here = hits.table[hits.table[Keys.SLIDE_ID] == slide_id]
    places = zip(here[Keys.RANK], here[Keys.X_PX], here[Keys.Y_PX], strict=True)
    return [
        {"x": float(x), "y": float(y), "label": f"#{rank}", "kind": "hit"} for rank, x, y in places
    ]


def region_outlines(found: RegionHits) -> Iterator[Outline]:
    """Outline of each region, named by its rank."""
    table = found.table
    for slide_id, rank, shape in zip(
        table[Keys.SLIDE_ID], table[Keys.RANK], found.outlines, strict=True
    ):
        yield Outline(str(slide_id), f"#{rank}", shape, "hit")


def corners_of(polygon: object, *, most: int | None = None) -> tuple[tuple[float, float], ...]:
    """Corners of a polygon without holes, in level-0 pixels.

    Parameters
    ----------
    polygon : array of shape (n, 2), or Polygon
        What was drawn or given.
    most : int, optional
        Corners that it may have.

    Raises
    ------
    ValueError
        If it is no polygon, has holes, no area or too many corners.
    """
    import shapely

    given: Any = polygon
    if isinstance(given, shapely.Polygon):
        if given.interiors:
            msg = "A lasso has no holes; the polygon that was given has."
            raise ValueError(msg)
        given = shapely.get_coordinates(given.exterior)[:-1]
    corners = _corners(given)
    if most is not None and len(corners) > most:
        msg = f"The lasso has {len(corners)} corners; expected at most {most}."
        raise ValueError(msg)
    shape_of(corners)  # raises where it has no area
    return tuple((float(x), float(y)) for x, y in corners)


def box_of(value: object) -> Box:
    """Four numbers (left, top, right, bottom) with an area, as floats.

    Raises
    ------
    ValueError
        If they are no such thing.
    """
    given: Any = value
    try:
        box = np.asarray(given, np.float64)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if box.shape != (4,) or not np.isfinite(box).all() or box[0] >= box[2] or box[1] >= box[3]:
        msg = f"The view is {str(value)[:80]}; expected left, top, right and bottom in level-0 pixels."
        raise ValueError(msg)
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _corners(points: ArrayLike) -> NDArray[np.float64]:
    try:
        corners = np.asarray(points, np.float64)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        msg = f"An outline of shape {corners.shape} was given; expected (n, 2), with three corners or more."
        raise ValueError(msg)
    if not np.isfinite(corners).all():  # before GEOS, which warns
        raise ValueError(_NOT_FINITE)
    return corners
