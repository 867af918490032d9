"""Hits and selections as GeoJSON that QuPath reads, in level-0 pixels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.export.choosing import choose_slides, each
from stamp_index.export.hit_tables import barcodes
from stamp_index.export.qupath import qupath_feature, spot_ring
from stamp_index.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike
    from shapely import MultiPolygon, Polygon

    from stamp_index.export.hit_tables import HitList

HIT_CLASS: Final[dict[str, Any]] = {"name": "stamp hit", "color": [0, 161, 255]}
_MEASURED: Final = (Keys.SCORE, Keys.RANK, Keys.Z, Keys.PERCENTILE)


def hits_geojson(hits: HitList, slide_id: str) -> dict[str, Any]:
    """Hits on one slide, as QuPath opens one image at a time.

    Parameters
    ----------
    hits : Hits
    slide_id : str
        A slide of the store; one without hits gives an empty collection.

    Returns
    -------
    dict
        FeatureCollection of detections at the spots' true diameter: polygons of 24 corners, or squares for bins. Their
        classification is "stamp hit"; score, rank, z, percentile and what was measured of the genes asked for are
        measurements, where they are known; slide, barcode, query, store version and encoder are metadata.

    Raises
    ------
    QueryError
        If the store has no such slide.
    MissingPixelSizeError
        If the slide has no pixel size.
    """
    slide = next(each(choose_slides(hits.store, slide_id)))
    here = hits.table[hits.table[Keys.SLIDE_ID] == slide_id]
    centres = here[[Keys.X_PX, Keys.Y_PX]].to_numpy(np.float64)
    corners = np.round(centres[:, None] + spot_ring(slide), 3)  # (k, c, 2)
    said = {
        "query": hits.query,
        "store_version": str(hits.store_version),
        "fingerprint": hits.fingerprint,
    }
    features = []
    spots = zip(here.to_dict("records"), barcodes(here), corners.tolist(), strict=True)
    for hit, barcode, ring in spots:
        one = qupath_feature(
            {"type": "Polygon", "coordinates": [ring]},
            "detection",
            name=f"hit {hit[Keys.RANK]}",
            measured=_measured(hit),
            said={"slide_id": slide_id, "barcode": barcode, **said},
        )
        one["properties"]["classification"] = HIT_CLASS
        features.append(one)
    return {"type": "FeatureCollection", "features": features}


def selection_geojson(
    polygons: Sequence[ArrayLike | Polygon | MultiPolygon], names: Sequence[str]
) -> dict[str, Any]:
    """Outlines that were drawn, as annotations.

    Parameters
    ----------
    polygons : sequence of arrays of shape (n, 2), Polygons or MultiPolygons
        In level-0 pixels. An array's first corner need not be repeated at its end.
    names : sequence of str
        One for each.

    Returns
    -------
    dict
        FeatureCollection.

    Raises
    ------
    QueryError
        If an outline crosses itself or has no area.
    ValueError
        If there are not as many names as polygons.
    """
    from shapely.geometry import mapping

    if len(polygons) != len(names):
        msg = f"There are {len(polygons)} polygons and {len(names)} names; expected one name for each."
        raise ValueError(msg)
    features = []
    for polygon, name in zip(polygons, names, strict=True):
        shape = _shape(polygon, name)
        features.append(
            qupath_feature(mapping(shape), "annotation", name=name, measured={}, said={})
        )
    return {"type": "FeatureCollection", "features": features}


def geojson_bytes(collection: Mapping[str, Any]) -> bytes:
    """Content of a ``.geojson`` file."""
    return json.dumps(collection, allow_nan=False).encode("ascii")


def _shape(polygon: ArrayLike | Polygon | MultiPolygon, name: str) -> Polygon | MultiPolygon:
    import shapely

    shape: Any = polygon if isinstance(polygon, shapely.Geometry) else shapely.Polygon(polygon)
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty or not shape.is_valid:
        msg = f"The outline '{name}' has no area, or crosses itself. Draw it again without a crossing."
        raise QueryError(msg)
    drawn: Polygon | MultiPolygon = shape
    return drawn


def _measured(hit: Mapping[Any, Any]) -> dict[str, float]:
    """Numbers of a hit that are known: its score, and all columns behind the places."""
    numbers = {name: hit[name] for name in _MEASURED}
    names = list(hit)
    numbers |= {name: hit[name] for name in names[names.index(Keys.Y_UM) + 1 :]}
    return {str(name): float(value) for name, value in numbers.items() if np.isfinite(value)}
