"""The slide viewer's geometry against slow obvious code."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from tests.browser.viewer_bench import Bench, viewer_server


@pytest.fixture(scope="module")
def server(browser):
    with viewer_server() as running:
        yield running


@pytest.fixture
def bench(page, server) -> Bench:
    return Bench(page, server)


def test_scale_bars_are_round_at_every_zoom(bench):
    scales = np.geomspace(1e-4, 16, 400)
    bars = bench.page.evaluate(
        """async (scales) => {
          const { barFor } = await import("/viewer/scalebar.js");
          return scales.flatMap((s) => [null, 0.2527, 1].map((mpp) => [s, mpp, barFor(s, mpp)])); }""",
        scales.tolist(),
    )
    for scale, mpp, bar in bars:
        number, unit = bar["text"].replace(",", "").split(" ")
        digits = f"{float(number):e}".split("e")[0].rstrip("0").rstrip(".")
        assert digits in ("1", "2", "5"), bar
        length = float(number) * (1000 if unit == "mm" else 1)
        assert unit in (("px",) if mpp is None else ("µm", "mm"))
        assert bar["width"] == pytest.approx(length / (mpp or 1) * scale, rel=1e-6)
        assert 60 - 1e-6 <= bar["width"] <= 150 + 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_spots_in_any_polygon_are_those_of_shapely(bench, seed):
    rng = np.random.default_rng(seed)
    xy = (rng.random((4000, 2)) * [3000, 400 if seed == 3 else 3000]).astype(np.float32)
    xy[::50] = np.nan
    ring = np.round(rng.random((3 + 9 * seed, 2)) * 3000).astype(int)  # crosses itself
    found, count = bench.page.evaluate(
        """async ([xy, ring]) => {
          const { Spots } = await import("/viewer/spots.js");
          const spots = new Spots(Float32Array.from(xy), { diameter: 10, shape: "circle" });
          const { mask, count } = spots.inside(ring);
          return [[...spots.order].filter((_, k) => mask[k]), count]; }""",
        [["NaN" if np.isnan(v) else float(v) for v in xy.ravel()], ring.tolist()],
    )
    area = shapely.make_valid(shapely.Polygon(ring))
    expected = np.flatnonzero(shapely.contains_xy(area, *np.nan_to_num(xy, nan=-1).T.astype(float)))
    assert sorted(found) == expected.tolist()
    assert count == len(expected)


def test_a_click_means_a_region_by_the_even_odd_rule_over_outer_rings_and_holes(bench):
    holed = shapely.box(0, 0, 900, 900).difference(shapely.box(300, 300, 600, 600))
    island = shapely.box(400, 400, 500, 500)
    shape = shapely.MultiPolygon([holed, island])
    rings = [list(ring.coords) for part in shape.geoms for ring in (part.exterior, *part.interiors)]
    asked = np.random.default_rng(2).random((300, 2)) * 1100 - 100
    clicked = bench.page.evaluate(
        """async ([rings, asked]) => {
          const { clicked } = await import("/viewer/pointing.js");
          const camera = { toSlide: (x, y) => [x, y], screen: () => ({ scale: 1 }) };
          const below = { id: "below", polygons: [[[-50, -50], [950, -50], [950, 950], [-50, 950]]] };
          const model = { regions: [below, { id: "ring", polygons: rings }], spots: null };
          return asked.map(([x, y]) => clicked(model, camera, x, y).region?.id ?? null); }""",
        [rings, asked.tolist()],
    )
    points = shapely.points(asked)
    below = shapely.box(-50, -50, 950, 950)
    on_line = [shapely.distance(one.boundary, points) <= 6 for one in (shape, below)]
    inside = [shapely.contains(one, points) for one in (shape, below)]
    expected = np.select([on_line[0], on_line[1], *inside], ["ring", "below", "ring", "below"], "")
    assert [one or "" for one in clicked] == expected.tolist()
    assert {"ring", "below", ""} == set(expected)


def test_the_nearest_spot_is_that_of_a_search_through_all(bench):
    rng = np.random.default_rng(1)
    xy = (rng.random((2000, 2)) * [5000, 300]).astype(np.float32)
    asked = rng.random((200, 2)) * [5200, 400] - 50
    found = bench.page.evaluate(
        """async ([xy, asked]) => {
          const { Spots } = await import("/viewer/spots.js");
          const spots = new Spots(Float32Array.from(xy), { diameter: 10, shape: "circle" });
          return asked.map(([x, y]) => spots.nearest(x, y, 15)); }""",
        [xy.ravel().tolist(), asked.tolist()],
    )
    far = np.hypot(*(asked[:, None] - xy[None].astype(float)).transpose(2, 0, 1))
    expected = [int(row.argmin()) if row.min() <= 15 else None for row in far]
    assert None in expected
    assert found == expected


@pytest.mark.parametrize("wild", [False, True], ids=["smooth", "wild"])
def test_a_simplified_ring_stays_within_its_tolerance_or_500_vertices(bench, wild):
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    radius = 900 + (rng.random(4000) * 800 if wild else 60 * np.sin(9 * angle))
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
    ring = bench.page.evaluate(
        """async (points) => (await import("/viewer/geometry.js")).simplifyRing(points, 2, 500)""",
        points.tolist(),
    )
    distance = shapely.hausdorff_distance(shapely.LinearRing(points), shapely.LinearRing(ring))
    if wild:
        assert 100 < len(ring) <= 500
    else:
        assert 20 < len(ring) < 300
        assert distance < 2 + 1  # tolerance and rounding
