"""Annotations of other programs: what is read, and what is refused in one sentence."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.errors import EmptyQueryError, QueryError
from stamp_index.export import read_annotations
from stamp_index.export.geojson import MAX_BYTES, MAX_OF_ONE, MAX_SHAPES, MAX_VERTICES
from stamp_index.search import Region
from tests.test_regions_geojson import CROSSED, SQUARE, polygon, values

# As QuPath 0.5 writes a rectangle with a class, an ellipse of a derived class that is locked, and a point.
QUPATH = """{"type":"FeatureCollection","features":[
{"type":"Feature","id":"8f0c","geometry":{"type":"Polygon","coordinates":[[[10,20],[40,20],[40,60],[10,60],[10,20]]]},
"properties":{"objectType":"annotation","classification":{"name":"Tumor","color":[200,0,0]},"isLocked":true}},
{"type":"Feature","id":"17aa","geometry":{"type":"MultiPolygon","coordinates":[[[[0,0],[9,0],[9,9],[0,0]]],
[[[50,50],[90,50],[90,90],[50,90],[50,50]],[[60,60],[70,60],[70,70],[60,60]]]]},"properties":{"objectType":"annotation",
"name":"both parts","classification":{"names":["Stroma","Inflamed"],"color":[1,2,3]},"measurements":{"Area":NaN}}},
{"type":"Feature","id":"b1","geometry":{"type":"Point","coordinates":[5,5]},"properties":{"objectType":"annotation"}},
{"type":"Feature","id":"b2","geometry":{"type":"LineString","coordinates":[[5,5],[6,6]]},"properties":null}]}"""


def encoded(held):
    return json.dumps(held).encode()


def feature(geometry, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def test_what_qupath_writes_is_read():
    read = read_annotations(QUPATH.encode(), (100, 100))
    assert [(one.name, one.classification) for one in read.shapes] == [
        ("Tumor", "Tumor"),
        ("both parts", "Stroma: Inflamed"),
    ]
    (rectangle,) = read.shapes[0].polygons
    assert rectangle.equals(shapely.box(10, 20, 40, 60))
    assert [len(part.interiors) for part in read.shapes[1].polygons] == [0, 1]
    assert read.notes == ("2 point, line or empty shapes were left out: no area.",)


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(polygon(SQUARE), id="geometry"),
        pytest.param([polygon(SQUARE)], id="list"),
        pytest.param(feature(polygon(SQUARE)), id="feature"),
        pytest.param(
            {"type": "FeatureCollection", "features": [feature(polygon(SQUARE))]}, id="all"
        ),
        pytest.param(
            {"type": "GeometryCollection", "geometries": [polygon(SQUARE)]}, id="collection"
        ),
    ],
)
def test_a_polygon_is_read_wherever_it_stands(held):
    read = read_annotations(b"\xef\xbb\xbf" + encoded(held))
    assert [one.name for one in read.shapes] == ["Annotation 1"]
    assert read.shapes[0].shape().equals(shapely.box(0, 0, 4, 4))


def test_parts_of_a_collection_that_have_no_area_are_counted():
    held = {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "Point", "coordinates": [1, 2]},
            polygon(SQUARE),
            {"type": "GeometryCollection", "geometries": [polygon(SQUARE, shift=9.0)]},
        ],
    }
    read = read_annotations(encoded(held))
    assert [part.bounds for part in read.shapes[0].polygons] == [(0, 0, 4, 4), (9, 0, 13, 4)]
    assert read.notes == ("1 point, line or empty shape was left out: no area.",)


def test_an_annotation_can_be_asked_for():
    shape = read_annotations(QUPATH.encode()).shapes[1].shape()
    assert Region("S1", shape, "px").shape().area == 40.5 + 1600 - 50


def test_names_are_one_short_line():
    names = ["<b>a</b>\n\x00\u202eb", "x" * 1000, 5, None, "\ud800y", ""]
    held = [feature(polygon(SQUARE), name=name) for name in names]
    read = [one.name for one in read_annotations(encoded(held)).shapes]
    assert read == ["<b>a</b> b", "x" * 100, "Annotation 3", "Annotation 4", "y", "Annotation 6"]


def test_shapes_off_the_slide_are_counted_or_refused():
    held = encoded([polygon(SQUARE), polygon(SQUARE, shift=500.0)])
    read = read_annotations(held, (100, 100))
    assert len(read.shapes) == 1
    assert read.notes == ("1 shape was left out: not on this slide.",)
    assert len(read_annotations(held, (float("nan"), float("nan"))).shapes) == 2
    with pytest.raises(EmptyQueryError, match="No shape of the file lies on this slide.*3 x 3 px"):
        read_annotations(encoded(polygon(SQUARE, shift=500.0)), (3, 3))


def many(n):
    return ("[" + ",".join([json.dumps(polygon(SQUARE))] * n) + "]").encode()


def round_one(n, radius=100.0):
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    ring = (np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius + 500).tolist()
    return encoded(polygon([*ring, ring[0]]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "cannot be read", id="empty"),
        pytest.param(b"{", "cannot be read", id="no_json"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "cannot be read", id="picture"),
        pytest.param(b"[" * 100_000, "cannot be read", id="deep"),
        pytest.param(b"{}", "Shape 1 of the file is no GeoJSON geometry", id="nothing"),
        pytest.param(b"[]", "holds no polygon", id="no_shape"),
        pytest.param(encoded(feature(None)), "holds no polygon. 1 point", id="null"),
        pytest.param(
            encoded(polygon(CROSSED)), r"Shape 1 .*Self-intersection\[2 2\]", id="crossed"
        ),
        pytest.param(encoded(polygon(SQUARE[:-1])), "do not form a closed", id="open"),
        pytest.param(encoded(polygon(SQUARE, shift=1e300)), "reaches 1e", id="huge"),
        pytest.param(
            b'{"type":"Polygon","coordinates":[[[0,0],[1e999,0],[0,5],[0,0]]]}',
            "no GeoJSON",
            id="inf",
        ),
        pytest.param(
            b'{"type":"Polygon","coordinates":[[[0,0],[%s,0],[0,5],[0,0]]]}' % (b"9" * 10_000),
            "cannot be read",
            id="long_number",
        ),
        pytest.param(many(100_000), "holds 100,000 shapes; at most 10,000", id="100k_shapes"),
        pytest.param(
            many(MAX_SHAPES + 1).replace(b'"coord', b'"\\u0063oord'), "holds 10,001", id="escaped"
        ),
        pytest.param(
            encoded({"type": "MultiPolygon", "coordinates": [[SQUARE]] * (MAX_SHAPES + 1)}),
            "holds 10,001 shapes",
            id="one_of_many_parts",
        ),
        pytest.param(round_one(MAX_OF_ONE + 1), "has 50,002 corners; at most 50,000", id="corners"),
        pytest.param(b" " * (MAX_BYTES + 1), "has 20 MB; at most 20 MB", id="large"),
        pytest.param(b"[" + b"[]," * 6_000_000 + b"1]", "holds too much", id="lists"),
        pytest.param(b"[" + b"{}," * 6_000_000 + b"1]", "holds too much", id="objects"),
        pytest.param(b"[" + b"0.5," * 4_000_000 + b"1]", "holds too much", id="numbers"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_and_little_memory(data, words):
    tracemalloc.start()
    try:
        with pytest.raises(QueryError, match=words) as refused:
            read_annotations(data, (1000, 1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)
    assert peak < 150e6


def test_as_many_shapes_as_are_allowed_are_read():
    assert len(read_annotations(many(MAX_SHAPES)).shapes) == MAX_SHAPES
    assert len(read_annotations(round_one(MAX_OF_ONE - 1)).shapes) == 1


def test_a_crossing_among_many_corners_is_found():
    rng = np.random.default_rng(0)
    ring = rng.integers(0, 10_000, (10_000, 2)).tolist()
    with pytest.raises(QueryError, match="crosses or touches itself"):
        read_annotations(encoded(polygon([*ring, ring[0]])))


@settings(max_examples=300)
@given(values)
def test_any_json_is_read_or_refused(held):
    try:
        read = read_annotations(encoded(held), (100, 100))
    except QueryError:
        return
    assert all(part.is_valid and part.area > 0 for one in read.shapes for part in one.polygons)


@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(QueryError):
        read_annotations(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (many(100_000), "holds 100,000 shapes"),
        (b" " * (MAX_BYTES + 1), "at most 20 MB"),
        (b"[" + b"0.5," * (4 * MAX_VERTICES + 1) + b"1]", "holds too much"),
        (encoded(polygon(SQUARE, shift=1e300)), "Shape 1 of .* reaches 1e"),
    ],
)
def test_a_region_file_has_the_same_limits(tmp_path, data, words):
    (tmp_path / "r.geojson").write_bytes(data)
    with pytest.raises(QueryError, match=words):
        Region.from_geojson(tmp_path / "r.geojson", "A")
