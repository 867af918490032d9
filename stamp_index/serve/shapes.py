"""The region that a request means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from stamp_index.errors import QueryError
from stamp_index.search.regions import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.serve.asks import RegionAsk
    from stamp_index.serve.service import Service


def region_of(ask: RegionAsk, service: Service) -> Any:  # noqa: ANN401 - whatever `search_region` takes
    """Make what `search_region` takes.

    Raises
    ------
    QueryError
        If not exactly one of polygons, ids and rows is given, a ring is no ring, or a limit is passed.
    """
    given = [one for one in (ask.polygons, ask.spot_ids, ask.rows) if one is not None]
    if len(given) != 1 or (ask.polygons is None) != (ask.slide_id is None):
        msg = "Give a region as exactly one of: slide_id with polygons, spot_ids, or rows."
        raise QueryError(msg)
    if ask.polygons is None:
        service.check("region_spots", given[0])
        return ask.spot_ids if ask.spot_ids is not None else _whole(ask.rows)
    service.check("polygons", ask.polygons)
    for polygon in ask.polygons:
        service.check("vertices", sum(len(ring) for ring in polygon))
    import shapely

    parts = [
        shapely.Polygon(_ring(rings[0]), [_ring(one) for one in rings[1:]])
        for rings in map(_rings, ask.polygons)
    ]
    shape = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return Region(cast("str", ask.slide_id), shape, cast("Any", ask.unit))


def _whole(rows: Sequence[int] | None) -> Any:  # noqa: ANN401
    import numpy as np

    try:
        return np.array(rows, np.int64)
    except OverflowError as error:
        msg = "A row is larger than any row of a store."
        raise QueryError(msg) from error


def _rings(rings: list[list[list[float]]]) -> list[list[list[float]]]:
    if not rings:
        msg = "A polygon has no ring; expected its outer one first."
        raise QueryError(msg)
    return rings


def _ring(ring: list[list[float]]) -> list[list[float]]:
    if len(ring) < 4 or any(len(point) != 2 for point in ring):
        if len(ring) == 3 and all(len(point) == 2 for point in ring):
            return ring  # a triangle that is not closed
        msg = "A ring is a list of at least three [x, y]."
        raise QueryError(msg)
    return ring
