"""Shapes of GeoJSON files as queries, and what region search writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.errors import EmptyQueryError, QueryError
from stamp_index.search import Region
from stamp_index.search.regions.geojson import feature

SQUARE = [[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0], [0.0, 0.0]]
CROSSED = [[0.0, 0.0], [4.0, 4.0], [4.0, 0.0], [0.0, 4.0], [0.0, 0.0]]


def polygon(*rings, shift=0.0):
    moved = [[[x + shift, y] for x, y in ring] for ring in rings]
    return {"type": "Polygon", "coordinates": moved}


def of_slide(geometry, slide_id):
    metadata = {"metadata": {"slide_id": slide_id}}
    return {"type": "Feature", "geometry": geometry, "properties": metadata}


@pytest.fixture
def read(tmp_path):
    def make(held, slide_id="A"):
        path = tmp_path / "r.geojson"
        path.write_text(held if isinstance(held, str) else json.dumps(held))
        return Region.from_geojson(path, slide_id)

    return make


def test_several_shapes_are_one_region_in_pixels(read):
    region = read([polygon(SQUARE), polygon(SQUARE, shift=2.0), polygon(SQUARE, shift=9.0)])
    assert region.unit == "px"
    assert region.slide_id == "A"
    assert region.shape().geom_type == "MultiPolygon"
    assert region.shape().area == 24 + 16


def test_features_of_other_slides_are_left_out(read):
    held = [of_slide(polygon(SQUARE), "A"), of_slide(polygon(SQUARE, shift=9.0), "B")]
    assert read(held).shape().bounds == (0, 0, 4, 4)
    assert read(held, "B").shape().bounds == (9, 0, 13, 4)
    with pytest.raises(EmptyQueryError, match="holds no shape on slide 'C'"):
        read(held, "C")


def test_a_feature_of_no_slide_is_of_the_one_that_is_named(read):
    for properties in (None, {}, {"metadata": None}, {"metadata": {"slide_id": 3}}):
        held = {"type": "Feature", "geometry": polygon(SQUARE), "properties": properties}
        assert read({"type": "FeatureCollection", "features": [held]}).shape().area == 16


def test_holes_and_heights_are_read_and_heights_dropped(read):
    hole = [[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]
    held = polygon(SQUARE, hole)
    held["coordinates"] = [[[*corner, 7.0] for corner in ring] for ring in held["coordinates"]]
    assert read(held).shape().area == 15
    assert not read(held).shape().has_z


@pytest.mark.parametrize(
    ("held", "error", "words"),
    [
        pytest.param("{", QueryError, "r.geojson cannot be read", id="no_json"),
        pytest.param("[" * 100_000, QueryError, "cannot be read", id="too_deep"),
        pytest.param([], EmptyQueryError, "holds no shape on slide 'A'", id="empty"),
        pytest.param({}, QueryError, "Shape 1 of .*r.geojson is no GeoJSON geometry", id="nothing"),
        pytest.param(3, QueryError, "Shape 1 of .* is no GeoJSON geometry", id="number"),
        pytest.param(
            [polygon(SQUARE), {"type": "Point", "coordinates": [1, 2]}],
            QueryError,
            "Shape 2 of .* is a Point; expected a Polygon",
            id="point",
        ),
        pytest.param(polygon(CROSSED), QueryError, r"Self-intersection\[2 2\]", id="crossed"),
        pytest.param(polygon(SQUARE[:-1]), QueryError, "do not form a closed", id="open"),
        pytest.param(
            '{"type":"Polygon","coordinates":[[[0,NaN],[1,1],[1,0],[0,0]]]}',
            QueryError,
            "no GeoJSON geometry",
            id="nan",
        ),
        pytest.param(
            {"type": "Polygon", "coordinates": []}, EmptyQueryError, "holds no shape", id="bare"
        ),
    ],
)
def test_what_is_no_region_is_refused_with_the_file(read, held, error, words):
    with pytest.raises(error, match=words):
        read(held).shape()


def test_a_file_that_is_missing_or_no_text_is_refused_with_its_name(tmp_path):
    (tmp_path / "b.geojson").write_bytes(b"\xff\xfe\x00")
    for name in ("none.geojson", "b.geojson", "."):
        with pytest.raises(QueryError, match="cannot be read"):
            Region.from_geojson(tmp_path / name, "A")


numbers = st.one_of(st.floats(), st.integers(-5, 5))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.sampled_from(["Feature", "Polygon", "A", ""])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "features",
                    "geometry",
                    "coordinates",
                    "properties",
                    "metadata",
                    "slide_id",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(values)
def test_any_json_is_read_or_refused_in_words(tmp_path_factory, held):
    path = tmp_path_factory.getbasetemp() / "any.geojson"
    path.write_text(json.dumps(held))
    try:
        shape = Region.from_geojson(path, "A").shape()
    except QueryError:
        return
    assert shape.area > 0


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(3, 30), st.booleans())
def test_what_is_written_is_read_as_it_was(tmp_path_factory, seed, n, has_hole):
    import shapely

    rng = np.random.default_rng(seed)
    turn = np.sort(rng.uniform(0, 2 * np.pi, n))
    shape = shapely.Polygon(np.stack([np.cos(turn), np.sin(turn)], axis=1) * 1e4 + 3e4)
    if has_hole:
        shape = shape.difference(shape.centroid.buffer(10.0))
    if shape.geom_type != "Polygon" or not shape.is_valid or shape.area == 0:
        return
    path = tmp_path_factory.getbasetemp() / "written.geojson"
    one = feature(shape, "similar region 1", {"score": 0.5}, {"slide_id": "A"})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [one]}))
    read = Region.from_geojson(path, "A").shape()
    assert read.equals(shape)
    for ring in json.loads(path.read_text())["features"][0]["geometry"]["coordinates"]:
        assert ring[0] == ring[-1]
