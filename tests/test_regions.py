"""Region search: what is found, and where it may be found."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stamp_index.errors import QueryError
from stamp_index.search import Region, RegionSettings
from stamp_index.search.sharing import RegionRequest
from tests.region_world import (
    CENTRE,
    ELSEWHERE,
    KINDS,
    THIRD,
    XY,
    array_um,
    circle,
    disc,
    four_slides,
    mixed,
    planted,
    searcher_of,
    slide,
    square,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return four_slides(tmp_path_factory.mktemp("regions"))


def planted_rows(searcher, slide_id, where, radius=320):
    first = searcher.store.slides().set_index("slide_id").loc[slide_id, "first_spot"]
    return first + np.flatnonzero(disc(XY, where, radius))


def iou(a, b):
    return len(np.intersect1d(a, b)) / len(np.union1d(a, b))


def test_the_same_tissue_is_found_on_the_other_slides(world):
    hits = world.search_region(circle(CENTRE, 330), k=2)
    assert sorted(hits.table["slide_id"]) == ["B", "C"]
    for rows, slide_id in zip(hits.rows, hits.table["slide_id"], strict=True):
        where = ELSEWHERE if slide_id == "B" else THIRD
        assert iou(rows, planted_rows(world, slide_id, where)) > 0.8
    assert (hits.scores > 0.9).all()


def test_a_region_holds_its_own_row_of_the_table(world):
    hits = world.search_region(circle(CENTRE, 330), k=4)
    table = hits.table
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert (np.diff(table["score"]) <= 0).all()
    np.testing.assert_allclose(table["score"], table["composition"] * table["content"])
    assert table["n_spots"].tolist() == [len(rows) for rows in hits.rows]
    for rows, (_, row) in zip(hits.rows, table.iterrows(), strict=True):
        spots = world.store.spots(rows=rows)
        assert set(spots["slide_id"]) == {row["slide_id"]}
        assert set(spots["patient_id"]) == {row["patient_id"]}
        for name in ("x_px", "y_px", "x_um", "y_um"):
            assert row[name] == pytest.approx(spots[name].mean())
    assert hits.store_version == world.store.version
    assert hits.fingerprint == "0f0f"
    assert set(table["slide_id"]) <= set(hits.slides)


def test_progress_is_told_of_every_slide_that_is_looked_at(world):
    told = []
    settings = RegionSettings(n_slides=2)
    hits = world.search_region(
        circle(CENTRE, 330), k=2, settings=settings, progress=lambda *at: told.append(at)
    )
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert len(hits.slides) == 2
    silent = world.search_region(circle(CENTRE, 330), k=2, settings=settings)
    assert silent.table.equals(hits.table)


def test_what_progress_raises_ends_the_search(world):
    def stop(done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.search_region(circle(CENTRE, 330), k=2, progress=stop)


def test_a_request_tells_progress_too(world):
    told = []
    spots = world.search_region(circle(CENTRE, 330), k=1).query_rows
    ids = tuple(world.store.spots(["spot_id"], spots)["spot_id"])
    request = RegionRequest(slide_id="A", spot_ids=ids, k=1)
    hits = request.run(world, progress=lambda *at: told.append(at))
    n = len(hits.slides)
    assert told == [(done, n) for done in range(n + 1)]


def test_spots_answer_prototypes_of_their_own_kind(world):
    hits = world.search_region(circle(CENTRE, 700), k=1, settings=RegionSettings(n_prototypes=2))
    asked = world.store.vectors("image", hits.query_rows).astype(float) @ KINDS.T
    kind_of = {m: int(asked[hits.query_matches == m].mean(axis=0).argmax()) for m in (0, 1)}
    assert sorted(kind_of.values()) == [0, 1]
    found = (world.store.vectors("image", hits.rows[0]).astype(float) @ KINDS.T).argmax(axis=1)
    matches = hits.matches[0]
    assert (matches >= 0).mean() > 0.9
    assert [kind_of[m] for m in matches[matches >= 0]] == found[matches >= 0].tolist()


def test_a_mixture_is_found_where_the_mean_embedding_finds_something_else(tmp_path):
    rng = np.random.default_rng(1)
    inside = disc(XY, CENTRE, 400)
    between = (KINDS[1] + KINDS[2]) / np.linalg.norm(KINDS[1] + KINDS[2])
    asked, answer, decoy = (KINDS[np.zeros(len(XY), int)] for _ in range(3))
    asked[inside] = KINDS[mixed(rng, inside.sum(), 0.5)]
    answer[inside] = KINDS[mixed(rng, inside.sum(), 0.5)]
    decoy[inside] = between
    world = searcher_of(
        tmp_path,
        slide("A", XY, asked),
        slide("ANSWER", XY, answer),
        slide("DECOY", XY, decoy),
        slide("ONE", XY, KINDS[planted(CENTRE, 400, 1)]),
        slide("TWO", XY, KINDS[planted(CENTRE, 400, 2)]),
    )
    region = circle(CENTRE, 410)
    hits = world.search_region(region, k=1)
    assert hits.table["slide_id"][0] == "ANSWER"
    mean = world.store.vectors("image", hits.query_rows).astype(float).mean(axis=0)
    by_mean = world.search_vector(mean, k=20, filters='slide != "A"')
    assert set(by_mean.table["slide_id"]) == {"DECOY"}


def test_slides_are_ranked_by_how_near_their_shares_are_to_those_asked_for(tmp_path):
    rng = np.random.default_rng(2)
    inside = disc(XY, CENTRE, 400)
    made = {"A": 0.8, "S80": 0.8, "S60": 0.6, "S40": 0.4, "S10": 0.1}
    parts = []
    for name, share in made.items():
        vectors = KINDS[np.zeros(len(XY), int)]
        vectors[inside] = KINDS[mixed(rng, inside.sum(), share)]
        parts.append(slide(name, XY, vectors))
    world = searcher_of(tmp_path, *parts)
    hits = world.search_region(circle(CENTRE, 410), k=4, settings=RegionSettings(per_slide=1))
    assert hits.table["slide_id"].tolist() == ["S80", "S60", "S40", "S10"]


def touching_parts(xy, pitch):
    """Number of connected parts of some spots, found by flooding."""
    near = cKDTree(xy).query_ball_point(xy, 1.3 * pitch)
    left, parts = set(range(len(xy))), 0
    while left:
        flood = [left.pop()]
        while flood:
            new = [other for other in near[flood.pop()] if other in left]
            left.difference_update(new)
            flood += new
        parts += 1
    return parts


@pytest.mark.parametrize("radius", [180, 330, 700])
def test_regions_are_in_one_piece_and_their_outlines_hold_their_spots(world, radius):
    import shapely

    hits = world.search_region(circle(CENTRE, radius), k=6)
    area = 100.0**2 * np.sqrt(3) / 2
    for rows, outline, size in zip(hits.rows, hits.outlines, hits.table["area_um2"], strict=True):
        spots = world.store.spots(["x_um", "y_um", "x_px", "y_px"], rows)
        assert touching_parts(spots[["x_um", "y_um"]].to_numpy(), 100.0) == 1
        assert outline.geom_type == "Polygon"
        assert outline.is_valid
        assert shapely.contains_xy(outline, spots["x_px"], spots["y_px"]).all()
        assert size == pytest.approx(outline.area * 0.5**2)
        assert 0.95 * len(rows) * area < size < 1.35 * len(rows) * area
        others = world.store.spots(rows=np.setdiff1d(world.store.rows(), rows))
        others = others[others["slide_id"] == world.store.spots(["slide_id"], rows)["slide_id"][0]]
        inside = shapely.contains_xy(outline, others["x_px"], others["y_px"])
        assert inside.sum() == 0


def test_regions_of_a_slide_do_not_overlap_more_than_allowed(world):
    settings = RegionSettings(max_overlap=0.1, per_slide=6)
    hits = world.search_region(circle((1_000, 1_000), 250), k=12, settings=settings)
    assert len(hits) > 4
    for i, a in enumerate(hits.rows):
        assert all(iou(a, b) <= 0.1 for b in hits.rows[:i])


def test_no_slide_has_more_regions_than_allowed(world):
    hits = world.search_region(circle(CENTRE, 250), k=10, settings=RegionSettings(per_slide=1))
    assert hits.table["slide_id"].is_unique
    assert hits.notes == (
        "2 regions instead of 10 were found on the 2 slides with the nearest spots, at most 1 on each.",
    )


def test_own_slide_and_own_patient_are_left_out_as_asked(world):
    region = circle(CENTRE, 330)
    slides = {
        own: set(world.search_region(region, k=12, exclude_own=own).table["slide_id"])
        for own in ("nothing", "slide", "patient")
    }
    assert slides == {
        "nothing": {"A", "B", "C", "D"},
        "slide": {"B", "C", "D"},
        "patient": {"C", "D"},
    }


def test_the_regions_own_spots_are_never_found(world):
    hits = world.search_region(circle((1_000, 1_000), 250), k=12, exclude_own="nothing")
    assert "A" in set(hits.table["slide_id"])
    assert not np.isin(np.concatenate(hits.rows), hits.query_rows).any()


def test_a_filter_of_slides_and_of_spots_is_kept(world):
    region = circle(CENTRE, 330)
    assert set(world.search_region(region, filters='slide == "C"').table["slide_id"]) == {"C"}
    hits = world.search_region(region, k=8, filters="x_um < 1300")
    assert len(hits)
    assert world.store.spots(["x_um"], np.concatenate(hits.rows))["x_um"].max() < 1_300


def test_region_spot_ids_and_rows_ask_the_same(world):
    by_shape = world.search_region(circle(CENTRE, 330))
    ids = world.store.spots(["spot_id"], by_shape.query_rows)["spot_id"].tolist()
    for spots in (ids, ids[::-1], by_shape.query_rows[::-1], by_shape.query_rows.tolist()):
        again = world.search_region(spots)
        assert again.table.equals(by_shape.table)
    assert by_shape.query == f"image of region of {len(ids)} spots on slide A"


def test_microns_and_pixels_ask_the_same(world):
    um = world.search_region(square(CENTRE, 300))
    px = world.search_region(square(np.array(CENTRE) / 0.5, 600, unit="px"))
    assert px.table.equals(um.table)


def test_the_order_of_spots_does_not_matter(tmp_path):
    xy = array_um(20, 20)  # few enough that all spots are taken for random ones
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(2, len(xy), KINDS.shape[1])) * 0.03
    where = {"A": (1_300, 1_400), "B": (1_900, 1_900)}
    vectors = {
        name: KINDS[planted(at, 320, 1, xy_um=xy)] + extra
        for (name, at), extra in zip(where.items(), noise, strict=True)
    }
    found = []
    for order in (np.arange(len(xy)), rng.permutation(len(xy))):
        parts = [slide(name, xy[order], of[order], noise=0.0) for name, of in vectors.items()]
        (tmp_path / str(order[0])).mkdir()
        world = searcher_of(tmp_path / str(order[0]), *parts)
        hits = world.search_region(circle(where["A"], 330), k=3)
        for rank, rows in enumerate(hits.rows):
            assert (np.diff(rows) > 0).all()
            spots = world.store.spots(["x_um", "y_um"], rows).to_numpy()
            found.append((rank, sorted(map(tuple, np.round(spots, 6).tolist()))))
    half = len(found) // 2
    assert half >= 1
    assert found[:half] == found[half:]


def test_moving_turning_and_another_pixel_size_change_nothing(tmp_path):
    turn = np.array([[np.cos(0.7), np.sin(0.7)], [-np.sin(0.7), np.cos(0.7)]])
    noise = np.random.default_rng(4).normal(size=(len(XY), KINDS.shape[1])) * 0.03
    vectors = KINDS[planted(ELSEWHERE, 320, 1)] + noise
    world = searcher_of(
        tmp_path,
        slide("A", XY, KINDS[planted(CENTRE, 320, 1)]),
        slide("B", XY, vectors, noise=0.0),
        slide("C", XY @ turn + (5_000.0, 9_000.0), vectors, noise=0.0, mpp=0.23),
    )
    hits = world.search_region(circle(CENTRE, 330), k=2, settings=RegionSettings(per_slide=1))
    b, c = hits.rows if hits.table["slide_id"][0] == "B" else hits.rows[::-1]
    assert b.tolist() == (c - len(XY)).tolist()
    assert hits.scores[0] == pytest.approx(hits.scores[1], abs=1e-6)
    areas = hits.table["area_um2"]
    assert areas[0] == pytest.approx(areas[1], rel=0.02)


def test_a_coarser_array_answers_with_the_same_area(tmp_path):
    coarse = array_um(15, 15, 200.0, hexagonal=False)
    world = searcher_of(
        tmp_path,
        slide("A", XY, KINDS[planted(CENTRE, 520, 1)]),
        slide("B", coarse, KINDS[planted((1_700, 1_900), 520, 1, xy_um=coarse)]),
    )
    hits = world.search_region(circle(CENTRE, 530), k=1)
    assert hits.table["n_spots"][0] == pytest.approx(len(hits.query_rows) * np.sqrt(3) / 8, abs=2)
    expected = np.flatnonzero(disc(coarse, (1_700, 1_900), 520)) + len(XY)
    assert iou(hits.rows[0], expected) > 0.8


def test_small_bins_are_joined_and_their_outline_holds_all_of_them(tmp_path):
    import shapely

    bins = array_um(100, 100, 20.0, hexagonal=False)
    world = searcher_of(
        tmp_path,
        slide("A", bins, KINDS[planted((1_500, 1_700), 400, 1, xy_um=bins)]),
        slide("B", bins, KINDS[planted((1_300, 1_400), 400, 1, xy_um=bins)]),
    )
    hits = world.search_region(circle((1_500, 1_700), 405), k=1)
    expected = np.flatnonzero(disc(bins, (1_300, 1_400), 400)) + len(bins)
    assert iou(hits.rows[0], expected) > 0.85
    spots = world.store.spots(["x_px", "y_px"], hits.rows[0])
    assert hits.outlines[0].geom_type == "Polygon"
    assert shapely.contains_xy(hits.outlines[0], spots["x_px"], spots["y_px"]).all()


def test_the_answer_is_the_same_every_time_and_on_many_threads(world):
    def ask(radius):
        hits = world.search_region(circle(CENTRE, radius), k=4)
        return hits.table, [rows.tolist() for rows in hits.rows]

    radii = [250, 330, 400] * 2
    alone = [ask(radius) for radius in radii]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, radii))
    for (table, rows), (other, others) in zip(alone, together, strict=True):
        assert table.equals(other)
        assert rows == others


def test_a_region_asks_across_modalities(tmp_path):
    turned = np.roll(KINDS, 7, axis=1)  # the gene side lies elsewhere
    turned = 0.5 * KINDS + turned
    parts = []
    for name, where in (("A", CENTRE), ("B", ELSEWHERE), ("C", THIRD)):
        kind = planted(where, 320, 1) if name != "C" else planted(where, 320, 3)
        parts.append(slide(name, XY, KINDS[kind], gene=turned[kind]))
    world = searcher_of(tmp_path, *parts)
    hits = world.search_region(circle(CENTRE, 330), query="image", against="gene", k=1)
    assert hits.table["slide_id"][0] == "B"
    assert iou(hits.rows[0], planted_rows(world, "B", ELSEWHERE)) > 0.7


def test_few_slides_looked_at_are_those_that_hold_it(tmp_path):
    parts = [slide("A", XY, KINDS[planted(CENTRE, 320, 1)])]
    parts += [slide(f"N{i}", XY, KINDS[planted(CENTRE, 320, 2 + i % 3)], seed=i) for i in range(6)]
    parts += [slide("HIT", XY, KINDS[planted(ELSEWHERE, 320, 1)])]
    world = searcher_of(tmp_path, *parts)
    few = RegionSettings(n_slides=1, n_near=64)
    hits = world.search_region(circle(CENTRE, 330), k=1, settings=few)
    assert hits.slides == ("HIT",)
    every = world.search_region(
        circle(CENTRE, 330), k=1, settings=RegionSettings(n_slides=99, n_near=9_999)
    )
    assert len(every.slides) == 7
    assert hits.rows[0].tolist() == every.rows[0].tolist()


def test_geojson_holds_closed_rings_in_level_0_pixels(world):
    import shapely

    hits = world.search_region(circle(CENTRE, 330), k=3)
    read = hits.to_geojson()
    assert read["type"] == "FeatureCollection"
    for feature, outline, (_, row) in zip(
        read["features"], hits.outlines, hits.table.iterrows(), strict=True
    ):
        ring = feature["geometry"]["coordinates"][0]
        assert tuple(ring[0]) == tuple(ring[-1])
        assert shapely.is_ccw(shapely.LinearRing(ring))
        assert shapely.geometry.shape(feature["geometry"]).equals(outline)
        assert feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["measurements"]["score"] == row["score"]
        assert feature["properties"]["metadata"]["slide_id"] == row["slide_id"]
    only = hits.to_geojson("C")["features"]
    assert {feature["properties"]["metadata"]["slide_id"] for feature in only} == {"C"}
    with pytest.raises(
        QueryError, match="There is no slide 'XX' in the store; regions were found on"
    ):
        hits.to_geojson("XX")


def test_spots_and_table_are_copies_with_everything(world):
    hits = world.search_region(circle(CENTRE, 330), k=2)
    spots = hits.spots()
    assert spots["rank"].tolist() == [1] * len(hits.rows[0]) + [2] * len(hits.rows[1])
    assert spots["match"].tolist() == np.concatenate(hits.matches).tolist()
    table = hits.to_pandas()
    table["score"] = -1.0
    assert hits.scores[0] > 0


def test_a_slide_without_pixel_size_is_never_found_and_cannot_ask(tmp_path):
    kind = KINDS[planted(CENTRE, 320, 1)]
    world = searcher_of(
        tmp_path, slide("A", XY, kind), slide("B", XY, kind), slide("N", XY, kind, mpp=None)
    )
    for own in ("slide", "nothing"):
        hits = world.search_region(circle(CENTRE, 330), k=8, exclude_own=own)
        assert set(hits.table["slide_id"]) == ({"B"} if own == "slide" else {"A", "B"})
    with pytest.raises(QueryError, match='pass the filter slide == "N" and mpp is known'):
        world.search_region(circle(CENTRE, 330), filters='slide == "N"')
    for region in (circle(CENTRE, 330, "N"), square(CENTRE, 300, "N", unit="px")):
        with pytest.raises(QueryError, match="Slide 'N' has no microns per pixel"):
            world.search_region(region)


def test_shapes_with_holes_and_in_parts_ask_for_their_spots(world):
    import shapely

    ring = shapely.Point(CENTRE).buffer(600).difference(shapely.Point(CENTRE).buffer(300))
    two = shapely.union_all(
        [shapely.Point(CENTRE).buffer(200), shapely.Point(ELSEWHERE).buffer(200)]
    )
    for shape in (ring, two):
        hits = world.search_region(Region("A", shape))
        away = np.hypot(*(XY - CENTRE).T)
        other = np.hypot(*(XY - ELSEWHERE).T)
        inside = (away > 300) & (away <= 600) if shape is ring else (away <= 200) | (other <= 200)
        assert abs(len(hits.query_rows) - inside.sum()) <= 3  # shapely's circles have corners
