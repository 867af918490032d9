"""What lies inside a drawn shape: the even-odd rule, for all who draw or ask with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon


def even_odd(shape: Polygon | MultiPolygon) -> Polygon | MultiPolygon:
    """Make a shape valid; of one that crosses itself, keep what lies inside by the even-odd rule.

    A place is inside if a ray from it crosses the rings an odd number of times. So a bow tie becomes two triangles, and
    what a line goes around twice is a hole. A valid shape is returned as it is.

    Parameters
    ----------
    shape : Polygon or MultiPolygon
        With finite corners, in any unit.

    Returns
    -------
    Polygon or MultiPolygon
        Valid; empty, with an area of 0, where nothing is inside.

    Notes
    -----
    The rule is that of ``shapely.make_valid`` with its method "linework", for which a side that is drawn twice counts
    once. Lines that enclose nothing are dropped.

    Examples
    --------
    >>> import shapely
    >>> even_odd(shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])).area
    2.0
    """
    import shapely

    if shape.is_valid:
        return shape
    parts = shapely.get_parts(shapely.make_valid(shape))
    joined: Polygon | MultiPolygon = shapely.union_all([part for part in parts if part.area > 0])
    return joined


def points_inside(shape: Polygon | MultiPolygon, xy: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which points lie inside a valid shape; those on its border do not.

    Parameters
    ----------
    shape : Polygon or MultiPolygon
        As `even_odd` returns it. It is prepared, which speeds up further questions.
    xy : ndarray of shape (n, 2)
        In the unit of the shape.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    import shapely

    shapely.prepare(shape)
    inside: NDArray[np.bool_] = shapely.contains_xy(shape, xy[:, 0], xy[:, 1])
    return inside
