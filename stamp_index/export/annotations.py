"""Annotations that were drawn in QuPath or another program, read from GeoJSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stamp_index.errors import EmptyQueryError
from stamp_index.export.geojson import (
    check_shapes,
    check_valid,
    features_of,
    geometry_of,
    load_geojson,
)

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

_MAX_NAME: Final = 100  # characters of a name that are kept
_FILE: Final = "The file"


@dataclass(frozen=True)
class Annotation:
    """A named shape.

    Attributes
    ----------
    name : str
        As its file says; "Annotation 3" for the third without one.
    polygons : tuple of Polygon
        Its parts, with their holes, in level-0 pixels; valid, and at least one.
    classification : str
        Such as "Tumor"; "" where it has none.
    """

    name: str
    polygons: tuple[Polygon, ...]
    classification: str = ""

    def shape(self) -> Polygon | MultiPolygon:
        """All parts as one shape, for `Region`."""
        import shapely

        joined: Polygon | MultiPolygon = shapely.union_all(self.polygons)
        return joined


@dataclass(frozen=True)
class Annotations:
    """What a file holds.

    Attributes
    ----------
    shapes : tuple of Annotation
        In the order of the file; at least one.
    notes : tuple of str
        What was left out.
    """

    shapes: tuple[Annotation, ...]
    notes: tuple[str, ...] = ()


def read_annotations(data: bytes, size_px: tuple[float, float] | None = None) -> Annotations:
    """Read the annotations of a file, within limits of size and number.

    Parameters
    ----------
    data : bytes
        GeoJSON in level-0 pixels, origin at the top left, at most 20 MB with 10,000 shapes, 500,000 corners, and 50,000 of one shape: a
        FeatureCollection, a Feature, a list of these, or a geometry. Polygons and MultiPolygons are read, those in a
        GeometryCollection too; points and lines are counted in the notes.
    size_px : (float, float), optional
        Width and height of the slide: shapes that do not touch it are counted in the notes. NaN where not known.

    Returns
    -------
    Annotations

    Raises
    ------
    EmptyQueryError
        If it holds no polygon, or none on the slide.
    QueryError
        If it is too large or no GeoJSON, or a shape is none, crosses itself, has too many corners, or reaches farther
        than 10,000,000 px.
    """
    found: list[Annotation] = []
    n_others = n_parts = 0
    features = features_of(load_geojson(data, _FILE), _FILE)
    for number, one in enumerate(features, start=1):
        geometry, name, classification = _read_feature(one, number)
        if geometry is None:
            n_others += 1
            continue
        polygons, others = _polygons(geometry_of(geometry, f"Shape {number} of the file"))
        n_others += others
        n_parts += len(polygons)
        check_shapes(n_parts, _FILE)
        for polygon in polygons:
            check_valid(polygon, f"Shape {number} of the file")
        if polygons:
            found.append(Annotation(name, polygons, classification))
    return _on_slide(found, size_px, n_others)


def _on_slide(
    found: list[Annotation], size_px: tuple[float, float] | None, n_others: int
) -> Annotations:
    """Leave out what does not touch the slide, and say what was left out."""
    notes = []
    if n_others:
        notes.append(f"{_counted(n_others, 'point, line or empty shape')} left out: no area.")
    if not found:
        msg = f"The file holds no polygon. {' '.join(notes)} Export annotations that were drawn as areas."
        raise EmptyQueryError(" ".join(msg.split()))
    kept = found
    if size_px is not None and all(math.isfinite(side) for side in size_px):
        kept = [annotation for annotation in found if _touches(annotation, size_px)]
    gone = len(found) - len(kept)
    if not kept:
        msg = (
            f"No shape of the file lies on this slide, which is {size_px[0]:,.0f} x {size_px[1]:,.0f} px. Export it from "  # type: ignore[index]
            "the same image, in pixels of the full image."
        )
        raise EmptyQueryError(msg)
    if gone:
        notes.append(f"{_counted(gone, 'shape')} left out: not on this slide.")
    return Annotations(tuple(kept), tuple(notes))


def _read_feature(one: Any, number: int) -> tuple[Any, str, str]:  # noqa: ANN401
    """Geometry, name and classification of a feature, or of a geometry that stands alone."""
    name = f"Annotation {number}"
    if not isinstance(one, dict) or one.get("type") != "Feature":
        return one, name, ""
    said = one.get("properties")
    said = said if isinstance(said, dict) else {}
    kind = said.get("classification")
    # QuPath writes {"name": "Tumor"}, or {"names": ["Tumor", "Positive"]} for derived ones.
    names = kind.get("names") if isinstance(kind, dict) else None
    if isinstance(names, list):
        text = ": ".join(_text(part) for part in names[:10])
    else:
        text = _text(kind.get("name") if isinstance(kind, dict) else kind)
    return one.get("geometry"), _text(said.get("name")) or text or name, text


def _text(value: Any) -> str:  # noqa: ANN401 - whatever a file holds
    """Text as one short line; "" for what is none."""
    if not isinstance(value, str):
        return ""
    plain = "".join(c if c.isprintable() else " " for c in value[: 10 * _MAX_NAME])
    return " ".join(plain.split())[:_MAX_NAME]


def _polygons(shape: Any) -> tuple[tuple[Polygon, ...], int]:  # noqa: ANN401
    """Polygons of a geometry, and how many parts are something else or empty."""
    import shapely

    polygons: list[Polygon] = []
    n_others, waiting = 0, [shape]
    while waiting:
        one = waiting.pop()
        if one.geom_type in ("MultiPolygon", "GeometryCollection") and not one.is_empty:
            waiting.extend(reversed(shapely.get_parts(one).tolist()))
        elif one.geom_type == "Polygon" and not one.is_empty:
            polygons.append(one)
        else:
            n_others += 1
    return tuple(polygons), n_others


def _touches(annotation: Annotation, size_px: tuple[float, float]) -> bool:
    import shapely

    slide = shapely.box(0.0, 0.0, *size_px)
    return bool(shapely.intersects(slide, list(annotation.polygons)).any())


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{' was' if n == 1 else 's were'}"
