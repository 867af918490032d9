"""GeoJSON of shapes on a slide: read as a query, written for QuPath."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stamp_index.errors import EmptyQueryError, QueryError
from stamp_index.export.geojson import (
    MAX_BYTES,
    check_valid,
    features_of,
    geometry_of,
    load_geojson,
)
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
        If the file cannot be read, is too large or no GeoJSON, or a shape is no polygon, crosses itself or reaches
        farther than any slide; the file is named.
    """
    import shapely

    shapes = []
    whole = f"The region {path}"
    held = features_of(load_geojson(_read(path), whole), whole)
    for number, (geometry, of_slide) in enumerate(_geometries(held), start=1):
        if of_slide not in ("", slide_id):
            continue
        name = f"Shape {number} of {path}"
        shape = geometry_of(geometry, name)
        if shape.geom_type not in ("Polygon", "MultiPolygon"):
            msg = f"{name} is a {shape.geom_type}; expected a Polygon or a MultiPolygon."
            raise QueryError(msg)
        check_valid(shape, name)
        shapes.append(shape)
    if all(shape.is_empty for shape in shapes):
        msg = f"{path} holds no shape on slide '{slide_id}'. Export a polygon that was drawn on it."
        raise EmptyQueryError(msg)
    joined: Polygon | MultiPolygon = shapely.union_all(shapes)
    return joined


def _read(path: Path | str) -> bytes:
    """Read a file, of which no more than is needed to see that it is too large."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        msg = f"The region {path} cannot be read ({exc}). Give a GeoJSON file, such as QuPath exports."
        raise QueryError(msg) from exc


def _geometries(held: list[Any]) -> Iterator[tuple[Any, str]]:
    """Geometries, and the slide that each says it is of; "" where it says none."""
    for one in held:
        if not isinstance(one, dict) or one.get("type") != "Feature":
            yield one, ""
            continue
        said: Any = one
        for name in ("properties", "metadata", "slide_id"):
            said = said.get(name) if isinstance(said, dict) else None
        yield one.get("geometry"), said if isinstance(said, str) else ""


def feature(
    shape: Polygon, name: str, measured: Mapping[str, float], said: Mapping[str, str]
) -> dict[str, Any]:
    """GeoJSON feature of an outline as QuPath reads it: an annotation with measurements and metadata."""
    from shapely.geometry import mapping

    return qupath_feature(mapping(shape), "annotation", name=name, measured=measured, said=said)
