"""Inside by the even-odd rule: the fast way against counting how often a ray crosses the rings."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as some

from stamp_index.view.shapes import even_odd, points_inside

XY = np.stack(np.meshgrid(*[np.linspace(-0.1, 1.1, 20)] * 2), -1).reshape(-1, 2)


def crossings(ring, x, y) -> int:
    """How many sides of a ring a ray from a point to the right crosses."""
    n = 0
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            n += 1
    return n


@settings(max_examples=60)
@given(
    corners=some.lists(some.integers(3, 12), min_size=1, max_size=3),
    seed=some.integers(0, 2**32 - 1),
)
def test_points_inside_are_those_whose_ray_crosses_the_rings_an_odd_number_of_times(corners, seed):
    rng = np.random.default_rng(seed)
    rings = [rng.random((n, 2)).tolist() for n in corners]
    drawn = shapely.Polygon(rings[0], rings[1:])  # holes cross the outer ring, and themselves
    shape = even_odd(drawn)
    assert shape.is_valid
    assert shape.geom_type in ("Polygon", "MultiPolygon")
    clear = XY[shapely.distance(drawn.boundary, shapely.points(XY)) > 1e-9]  # else rounding decides
    expected = [sum(crossings(ring, x, y) for ring in rings) % 2 == 1 for x, y in clear]
    np.testing.assert_array_equal(points_inside(shape, clear), expected)


@pytest.mark.parametrize(
    ("corners", "area"),
    [
        pytest.param([(0, 0), (2, 2), (2, 0), (0, 2)], 2, id="bow tie"),
        pytest.param([(0, 0), (4, 0), (4, 4), (2, 4), (2, 6), (2, 4), (0, 4)], 16, id="spike"),
        pytest.param([(0, 0), (1, 1), (2, 2)], 0, id="a line"),
        pytest.param([(1, 1), (1, 1), (1, 1)], 0, id="a point"),
        pytest.param(
            [(0, 0), (6, 0), (6, 6), (0, 6), (0, 1), (5, 1), (5, 5), (1, 5), (1, 0)],
            36 - 4 * 4 - 1,
            id="around twice",
        ),
    ],
)
def test_area_is_that_of_what_lies_inside(corners, area):
    assert even_odd(shapely.Polygon(corners)).area == area


def test_valid_shape_stays_as_it_is():
    shape = shapely.box(0, 0, 9, 9).difference(shapely.box(2, 2, 5, 5))
    assert even_odd(shape) is shape


def test_where_nothing_is_inside_no_point_is():
    shape = even_odd(shapely.Polygon([(0, 0), (1, 1), (0.5, 0.5)]))
    assert shape.is_empty
    assert not points_inside(shape, XY).any()


def test_a_point_on_the_border_or_without_a_place_is_not_inside():
    xy = np.array([[0.0, 1.0], [2.0, 2.0], [1.0, 1.0], [np.nan, 1.0]])
    assert points_inside(shapely.box(0, 0, 2, 2), xy).tolist() == [False, False, True, False]
