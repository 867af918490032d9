"""Annotations as the viewer draws them: outer rings and holes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely

pytest.importorskip("streamlit")

import streamlit

from app import annotations
from stamp_index.export import read_annotations
from stamp_index.view.shapes import points_inside

HOLED = shapely.box(0, 0, 900, 900).difference(shapely.box(300, 300, 600, 600))
XY = np.random.default_rng(0).random((500, 2)) * 1000


def collection(*shapes) -> dict:
    """Several shapes as one annotation."""
    parts = [json.loads(shapely.to_geojson(shape)) for shape in shapes]
    return {"type": "GeometryCollection", "geometries": parts}


def loaded(monkeypatch, *geometries):
    """Load geometries onto a slide of the session; their outlines."""
    features = [{"type": "Feature", "geometry": one, "properties": {}} for one in geometries]
    held = read_annotations(json.dumps(features).encode()).shapes
    monkeypatch.setattr(streamlit, "session_state", {annotations.KEY: {"S1": held}})
    return annotations.outlines("S1")


def inside_odd(rings, xy):
    """Points inside an odd number of rings, as the viewer sees them."""
    return sum(points_inside(shapely.Polygon(ring), xy).astype(int) for ring in rings) % 2 == 1


def ragged(side: float, n: int) -> np.ndarray:
    """A ring of many corners around (500, 500)."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = side / 2 * (0.95 + 0.05 * np.random.default_rng(1).random(n))
    return 500 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_hole_of_an_annotation_is_a_ring_behind_that_which_holds_it(monkeypatch):
    island = shapely.box(400, 400, 500, 500)
    (outline,) = loaded(monkeypatch, collection(HOLED, island))
    assert len(outline.rings) == 3
    at = next(n for n, ring in enumerate(outline.rings) if shapely.Polygon(ring).area == 900**2)
    assert shapely.Polygon(outline.rings[at + 1]).equals(shapely.box(300, 300, 600, 600))
    both = shapely.union_all([HOLED, island])
    np.testing.assert_array_equal(inside_odd(outline.rings, XY), points_inside(both, XY))


def test_parts_that_overlap_are_drawn_as_one(monkeypatch):
    (outline,) = loaded(
        monkeypatch, collection(shapely.box(0, 0, 500, 500), shapely.box(300, 300, 800, 800))
    )
    (ring,) = outline.rings
    assert shapely.Polygon(ring).area == 2 * 500**2 - 200**2


def test_corners_are_left_out_until_a_screen_can_show_them_and_the_area_stays():
    part = shapely.Polygon(ragged(1000, 20_000), [ragged(400, 9_000)])
    outer, hole = annotations.rings(part)
    assert 100 < len(outer) + len(hole) <= annotations.MAX_CORNERS
    drawn = shapely.Polygon(outer).area - shapely.Polygon(hole).area
    assert drawn == pytest.approx(part.area, rel=0.05)


def test_holes_that_no_screen_shows_are_left_out_of_very_many():
    corners = [(x, y) for x in range(20, 980, 20) for y in range(20, 980, 20)]
    tiny = [shapely.box(x, y, x + 0.3, y + 0.3).exterior for x, y in corners]
    large = shapely.box(985, 10, 998, 990).exterior
    rings = annotations.rings(
        shapely.Polygon(shapely.box(0, 0, 1000, 1000).exterior, [*tiny, large])
    )
    assert [shapely.Polygon(ring).area for ring in rings] == [1000**2, 13 * 980]
    few = annotations.rings(shapely.Polygon(shapely.box(0, 0, 1000, 1000).exterior, tiny[:5]))
    assert len(few) == 6
