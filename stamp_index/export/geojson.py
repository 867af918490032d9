"""Reading GeoJSON that nobody vouches for: within limits, and refused in one sentence.

Source: RFC 7946. What it holds is counted before it is parsed, as a few bytes of text become many of memory.
"""

from __future__ import annotations

import json
from typing import Any, Final

from stamp_index.errors import QueryError

MAX_BYTES: Final = 20_000_000
MAX_SHAPES: Final = 10_000
MAX_VERTICES: Final = 500_000
MAX_OF_ONE: Final = 50_000  # corners of a shape: to look for crossings among more takes seconds
MAX_PX: Final = 10_000_000  # farther from the corner than any slide reaches
# What a file within these limits may hold besides: rings, and objects and measurements of each shape.
_MAX_LISTS: Final = MAX_VERTICES + 10 * MAX_SHAPES
_MAX_OBJECTS: Final = 20 * MAX_SHAPES
_MAX_VALUES: Final = 4 * MAX_VERTICES


def load_geojson(data: bytes, name: str) -> Any:  # noqa: ANN401 - whatever a file holds
    """Parse the bytes of a file.

    Parameters
    ----------
    data : bytes
        UTF-8, with or without a byte order mark.
    name : str
        What the file is called in messages.

    Raises
    ------
    QueryError
        If it is larger than 20 MB, holds more than 10,000 shapes or 500,000 corners, or is no JSON.
    """
    if len(data) > MAX_BYTES:
        msg = f"{name} has {len(data) / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} MB are read. Export fewer shapes."
        raise QueryError(msg)
    check_shapes(data.count(b'"coordinates"'), name)
    held = {b"[": _MAX_LISTS, b"{": _MAX_OBJECTS, b",": _MAX_VALUES}
    if any(data.count(sign) > most for sign, most in held.items()):
        msg = (
            f"{name} holds too much: at most {MAX_VERTICES:,} corners in {MAX_SHAPES:,} shapes are read. Simplify its "
            "shapes, and export them without measurements."
        )
        raise QueryError(msg)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as exc:
        msg = f"{name} cannot be read ({exc}). Give a GeoJSON file, such as QuPath exports."
        raise QueryError(msg) from exc


def check_shapes(n: int, name: str) -> None:
    """Raise QueryError where there are more shapes than are read."""
    if n > MAX_SHAPES:
        msg = f"{name} holds {n:,} shapes; at most {MAX_SHAPES:,} are read. Export annotations alone, or fewer of them."
        raise QueryError(msg)


def features_of(held: Any, name: str) -> list[Any]:  # noqa: ANN401 - whatever a file holds
    """Features or geometries of a FeatureCollection, a list, or of what is one itself.

    Raises
    ------
    QueryError
        If there are more than 10,000.
    """
    if isinstance(held, dict) and isinstance(held.get("features"), list):
        held = held["features"]
    found = held if isinstance(held, list) else [held]
    check_shapes(len(found), name)
    return found


def geometry_of(value: Any, name: str) -> Any:  # noqa: ANN401 - shapely has no types
    """Shapely geometry of a GeoJSON geometry, flat.

    Raises
    ------
    QueryError
        If it is none.
    """
    import shapely

    try:
        return shapely.force_2d(shapely.from_geojson(json.dumps(value)))
    except shapely.errors.GEOSException as exc:
        msg = f"{name} is no GeoJSON geometry{_reason(exc)}. Give a Polygon or a MultiPolygon."
        raise QueryError(msg) from exc


def check_valid(shape: Any, name: str) -> None:  # noqa: ANN401
    """Raise QueryError where a shape crosses itself, has too many corners, or reaches farther than any slide."""
    import numpy as np
    import shapely

    n = int(shapely.get_num_coordinates(shape))
    if n > MAX_OF_ONE:
        msg = f"{name} has {n:,} corners; at most {MAX_OF_ONE:,} are read. Simplify it."
        raise QueryError(msg)
    far = np.abs(shapely.get_coordinates(shape)).max(initial=0.0)
    if not far <= MAX_PX:
        msg = (
            f"{name} reaches {far:.3g} px far, and no slide does: at most {MAX_PX:,} px are read. Export it in pixels "
            "of the full image."
        )
        raise QueryError(msg)
    if not shape.is_valid:
        msg = f"{name} crosses or touches itself ({shapely.is_valid_reason(shape)}). Draw it again without a crossing."
        raise QueryError(msg)


def _reason(exc: Exception) -> str:
    """Repeat what GEOS says, in parentheses; "" where it names its parser's own types."""
    said = str(exc).partition("\n")[0][:200]
    return "" if "json.exception" in said else f" ({said})"
