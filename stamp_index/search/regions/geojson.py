"""GeoJSON of shapes on a slide: read as a query, written for QuPath."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stamp_index.errors import EmptyQueryError, QueryError
from stamp_index.export.qupath import qupath_feature

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shapely import MultiPolygon, Polygon


def read_shape(path: Path | str, slide_id: str) -> Polygon | MultiPolygon:
    """Read the shapes of a file, joined to one.

    Parameters
    ----------
    path : path
        A geometry, a Feature, a FeatureCollection or a list of Features: Polygons and MultiPolygons.
    slide_id : str
        Features that name another slide in ``properties.metadata.slide_id``, as those of `RegionHits.to_geojson` do, are
        left out.

    Raises
    ------
    EmptyQueryError
        If it holds no shape for this slide.
    QueryError
        If the file cannot be read or is no GeoJSON, or a shape is no polygon or crosses itself; the file is named.
    """
    import shapely

    try:
        held = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as exc:
        msg = f"The region {path} cannot be read ({exc}). Give a GeoJSON file, such as QuPath exports."
        raise QueryError(msg) from exc
    shapes = []
    for number, (geometry, of_slide) in enumerate(_geometries(held), start=1):
        if of_slide not in ("", slide_id):
            continue
        shape = _shape(geometry, f"Shape {number} of {path}")
        if shape.geom_type not in ("Polygon", "MultiPolygon"):
            msg = f"Shape {number} of {path} is a {shape.geom_type}; expected a Polygon or a MultiPolygon."
            raise QueryError(msg)
        if not shape.is_valid:
            msg = (
                f"Shape {number} of {path} crosses or touches itself ({shapely.is_valid_reason(shape)}). Draw it again "
                f"without a crossing."
            )
            raise QueryError(msg)
        shapes.append(shape)
    if all(shape.is_empty for shape in shapes):
        msg = f"{path} holds no shape on slide '{slide_id}'. Export a polygon that was drawn on it."
        raise EmptyQueryError(msg)
    joined: Polygon | MultiPolygon = shapely.union_all(shapes)
    return joined


def _geometries(held: Any) -> Iterator[tuple[Any, str]]:  # noqa: ANN401 - whatever a file holds
    """Geometries, and the slide that each says it is of; "" where it says none."""
    if isinstance(held, dict) and isinstance(held.get("features"), list):
        held = held["features"]
    for one in held if isinstance(held, list) else [held]:
        if not isinstance(one, dict) or one.get("type") != "Feature":
            yield one, ""
            continue
        said: Any = one
        for name in ("properties", "metadata", "slide_id"):
            said = said.get(name) if isinstance(said, dict) else None
        yield one.get("geometry"), said if isinstance(said, str) else ""


def _shape(geometry: Any, name: str) -> Any:  # noqa: ANN401
    import shapely

    try:
        return shapely.force_2d(shapely.from_geojson(json.dumps(geometry)))
    except shapely.errors.GEOSException as exc:
        msg = f"{name} is no GeoJSON geometry ({exc}). Give a Polygon or a MultiPolygon."
        raise QueryError(msg) from exc


def feature(
    shape: Polygon, name: str, measured: Mapping[str, float], said: Mapping[str, str]
) -> dict[str, Any]:
    """GeoJSON feature of an outline as QuPath reads it: an annotation with measurements and metadata."""
    from shapely.geometry import mapping

    return qupath_feature(mapping(shape), "annotation", name=name, measured=measured, said=said)
