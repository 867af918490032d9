"""Outlines: what a group of spots covers, as one polygon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from shapely import Polygon

# In pitches. Discs of touching spots overlap, also in the middle of four that lie in a square (0.71); drawn in
# again, they leave 0.55 around the outermost centres: a little more than half the way to the next spot. Wider discs
# would make the outline smoother and close gaps of one line of spots.
_DISC: Final = 0.8
_DRAWN_IN: Final = 0.25
_ROUNDED: Final = 0.2  # corners between squares of bins
_DETAIL: Final = 0.05  # an outline moves by at most so much when points of it are left out
_DETAIL_OF_SQUARES: Final = 0.005  # their bins reach closer to the border
_HOLE: Final = 2.5  # in squared pitches; larger holes stay


def outline_of(xy_um: NDArray[np.float64], pitch_um: float, *, squares: bool = False) -> Polygon:
    """Outline of a connected group of units.

    Parameters
    ----------
    xy_um : ndarray of shape (n, 2), float64
        Their centres.
    pitch_um : float
        From one to the next.
    squares : bool
        Whether they are squares, all of which is covered, and not round spots.

    Returns
    -------
    Polygon
        In microns. Holds every centre; holes smaller than two spots are closed.
    """
    import shapely

    if squares:
        half = pitch_um * 0.5005  # neighbours overlap by more than rounding
        cells = shapely.box(*(xy_um - half).T, *(xy_um + half).T)
        joined = shapely.union_all(cells).buffer(_ROUNDED * pitch_um, quad_segs=4)
        shape = joined.buffer(-_ROUNDED * pitch_um, quad_segs=4)
    else:
        joined = shapely.union_all(
            shapely.buffer(shapely.points(xy_um), _DISC * pitch_um, quad_segs=8)
        )
        shape = joined.buffer(-_DRAWN_IN * pitch_um, quad_segs=8)
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    whole = max(parts, key=lambda part: part.area)
    kept = [ring for ring in whole.interiors if shapely.Polygon(ring).area > _HOLE * pitch_um**2]
    closed = shapely.Polygon(whole.exterior, kept)
    plain = closed.simplify((_DETAIL_OF_SQUARES if squares else _DETAIL) * pitch_um)
    return shapely.geometry.polygon.orient(plain)  # RFC 7946: the outer ring runs counter-clockwise


def scaled(shape: Polygon, factor: float) -> Polygon:
    """Multiply all coordinates: from microns to pixels with one over the microns per pixel."""
    from shapely import affinity

    return affinity.scale(shape, factor, factor, origin=(0.0, 0.0))
