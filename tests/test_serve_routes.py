"""Routes of the HTTP API: what they answer, and how they refuse."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from stamp_index.errors import StoreError
from stamp_index.search import Searcher
from stamp_index.serve.problems import Shown
from tests.serve_world import asked, problem
from tests.support import ToyEncoder, jpeg, toy_slide, toy_slides, toy_store

SQUARE = [[[[0, 0], [500, 0], [500, 500], [0, 500]]]]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    plain = toy_slide("P1", 40, 9, image=False, patient_id="P9")
    return toy_store(tmp_path_factory.mktemp("serve"), slides=[*toy_slides(3), plain])


@pytest.fixture(scope="module")
def client(store):
    with asked(store.path) as found:
        yield found


def post(client, path, **body):
    return client.post(f"/v1/{path}", json=body)


def test_a_signature_finds_what_the_searcher_finds(client, store):
    said = post(client, "search/genes", signature="CD8A high, EPCAM low", k=5).json()
    hits = Searcher.open(store.path, encoder=ToyEncoder()).search_genes("CD8A high, EPCAM low", k=5)
    assert [one["spot_id"] for one in said["hits"]] == list(hits.spot_ids)
    assert [one["row"] for one in said["hits"]] == hits.rows.tolist()
    assert said["hits"][0]["expression"].keys() == {"CD8A", "EPCAM"}
    assert said["store_version"] == store.version
    assert said["fingerprint"] == ToyEncoder().fingerprint


def test_every_answer_names_version_and_encoder(client):
    found = [
        client.get(f"/v1/{path}")
        for path in ("store", "slides", "genes", "spots/3", "slides/S1/genes")
    ]
    found += [
        post(client, "search/spots", spot_ids=["S1:B0001-1"]),
        post(client, "search/vector", vector=[1.0] * 32),
    ]
    found += [post(client, "search/region", slide_id="S1", polygons=SQUARE)]
    for answer in found:
        assert {"store_version", "fingerprint"} <= answer.json().keys()


def test_what_was_not_measured_is_null(client):
    columns = client.get("/v1/spots/150").json()["columns"]
    assert columns["slide_id"] == ["P1"]
    assert columns["x_um"] == [None]  # a slide without an image has no pixel size


def test_pictures_are_jpegs_and_a_slide_without_one_says_so(client):
    for path in ("thumbnails/3", "slides/S1/overview"):
        answer = client.get(f"/v1/{path}")
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content[:3] == b"\xff\xd8\xff"
    assert problem(client.get("/v1/slides/P1/overview")) == (404, "NoImageError")
    assert problem(client.get("/v1/thumbnails/150")) == (404, "NoImageError")


def test_a_picture_goes_as_a_file_or_in_base64(client):
    picture = jpeg(toy_slide().image.read(0, 0, 200, 200))
    said = {"mpp": 2.0, "k": 3, "filters": 'organ == "skin"', "one_per": 300.0}
    text = base64.b64encode(picture).decode()
    one = client.post("/v1/search/image", json={**said, "image_base64": text})
    two = client.post(
        "/v1/search/picture", params=said, content=picture, headers={"content-type": "image/jpeg"}
    )
    assert one.status_code == 200
    assert one.json() == two.json()


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("search/genes", {"signature": "CD8Q"}, (400, "MissingGenesError")),
        ("search/genes", {"signature": ""}, (400, "EmptyQueryError")),
        ("search/genes", {"signature": "CD8A", "filters": "organ = 1"}, (400, "QueryError")),
        ("search/genes", {"signature": "CD8A", "k": 161}, (400, "QueryError")),
        ("search/genes", {"signature": "CD8A", "k": 1_001}, (400, "QueryError")),
        ("search/genes", {"signature": "CD8A", "k": 0}, (400, "ValueError")),
        ("search/genes", {"signature": "CD8A", "recall": 0.5}, (400, "ValueError")),
        ("search/genes", {"signature": "CD8A", "k": "5"}, (422, "ValueError")),
        ("search/genes", {"signature": "CD8A", "color": "red"}, (422, "ValueError")),
        ("search/genes", {}, (422, "ValueError")),
        ("search/genes", {"signature": ", ".join(f"G{i}" for i in range(51))}, (400, "QueryError")),
        ("search/genes", {"signature": "CD8A", "filters": "x" * 10_001}, (400, "QueryError")),
        ("search/vector", {"vector": [1.0] * 31}, (400, "ValueError")),
        ("search/vector", {"vector": [0.0] * 32}, (400, "ValueError")),
        ("search/spots", {"spot_ids": ["S1:none"]}, (400, "QueryError")),
        ("search/spots", {"spot_ids": ["S1:B0001-1"] * 257}, (400, "QueryError")),
        ("search/profile", {"counts": {"CD8A": -1}}, (400, "ValueError")),
        ("search/profile", {"counts": {}}, (400, "EmptyQueryError")),
        ("search/region", {"slide_id": "S9", "polygons": SQUARE}, (400, "QueryError")),
        ("search/region", {"polygons": SQUARE}, (400, "QueryError")),
        ("search/region", {"slide_id": "S1", "polygons": SQUARE * 51}, (400, "QueryError")),
        ("search/region", {"slide_id": "S1", "polygons": [[[[i, i * i] for i in range(501)]]]}, (400, "QueryError")),
        ("search/region", {"slide_id": "S1", "polygons": [[[[0, 0], [9, 9], [0, 9], [9, 0]]]]}, (400, "QueryError")),
        ("search/region", {"slide_id": "S1", "polygons": [[]]}, (400, "QueryError")),
        ("search/region", {"slide_id": "S1", "polygons": [[[[0], [1], [2]]]]}, (400, "QueryError")),
        ("search/region", {"rows": [2**70, 1, 2, 3, 4]}, (400, "QueryError")),
        ("search/image", {"image_base64": "!!", "mpp": 1.0}, (400, "ImageFormatError")),
        ("search/image", {"image_base64": "AAAA", "mpp": 1.0}, (400, "ImageFormatError")),
        ("spots", {"rows": [2**70]}, (400, "ValueError")),
        ("spots", {"rows": [1], "columns": ["image_toy"]}, (400, "ValueError")),
        ("spots", {}, (400, "QueryError")),
        ("expression", {"rows": [1], "genes": ["CD8Q"]}, (400, "MissingGenesError")),
        ("expression", {"rows": [1] * 10_001, "genes": ["CD8A"]}, (400, "QueryError")),
        ("labels", {"rows": [1], "names": ["none"]}, (400, "QueryError")),
    ],
)  # fmt: skip
def test_each_refusal_has_its_type_and_status(client, path, body, expected):
    assert problem(post(client, path, **body)) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/slides/S9", (404, "QueryError")),
        ("GET", "/v1/slides/..%2f..%2fetc", (404, "NotFoundError")),
        ("GET", "/v1/spots/9999", (404, "QueryError")),
        ("GET", "/v1/spots/one", (422, "ValueError")),
        ("GET", "/v1/thumbnails/-1", (404, "QueryError")),
        ("GET", "/nothing", (404, "NotFoundError")),
        ("GET", "/docs", (404, "NotFoundError")),
        ("PUT", "/v1/store", (405, "MethodError")),
        ("DELETE", "/v1/slides/S1", (405, "MethodError")),
    ],
)
def test_unknown_addresses_are_refused_as_json(client, method, path, expected):
    assert problem(client.request(method, path)) == expected


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"{", "application/json", (400, "ValueError")),
        (b"", "application/json", (422, "ValueError")),
        (b"[" * 100_000, "application/json", (400, "ValueError")),
        (b'{"signature": 1' + b"0" * 5_000 + b"}", "application/json", (400, "ValueError")),
        (b"\xff\xfe", "application/json", (400, "ValueError")),
        (b"[1, 2]", "application/json", (422, "ValueError")),
        (b"signature=CD8A", "application/x-www-form-urlencoded", (415, "MediaTypeError")),
        (b"--x", "multipart/form-data; boundary=x", (415, "MediaTypeError")),
    ],
)
def test_bodies_that_are_no_json_object_are_refused(client, content, kind, expected):
    answer = client.post("/v1/search/genes", content=content, headers={"content-type": kind})
    assert problem(answer) == expected


def test_a_refusal_never_repeats_values_of_a_wrong_type(client):
    for body in ({"signature": ["SECRET-8731"]}, {"signature": "CD8A", "k": "SECRET-8731"}):
        assert "SECRET" not in post(client, "search/genes", **body).text


def test_answers_tell_no_folder_of_the_machine(client, store):
    texts = [
        client.get("/v1/store").text,
        client.get("/v1/slides").text,
        post(client, "search/spots", spot_ids=["S7:none"]).text,
        post(client, "search/region", slide_id="S9", polygons=SQUARE).text,
    ]
    assert not any(str(store.path.parent) in text for text in texts)


def test_paths_in_messages_lose_their_folders():
    shown = Shown("/srv/data/atlas")
    error = StoreError(
        "The store at /srv/data/atlas lacks /srv/data/atlas/spots.lance/x.json and /home/me/a/b.tif."
    )
    assert (
        shown.problem(error).message
        == "The store at atlas lacks atlas/spots.lance/x.json and b.tif."
    )
    assert shown.text("log1p and/or 5 um / px") == "log1p and/or 5 um / px"


def test_errors_of_others_are_not_told(store, caplog):
    problem = Shown(store.path).problem(OSError("/home/me/file is gone"))
    assert (problem.status, problem.kind) == (500, "InternalError")
    assert "file" not in problem.message


def test_the_interface_describes_itself(client):
    said = client.get("/openapi.json").json()
    for path, methods in said["paths"].items():
        for method in methods.values():
            assert method.get("description"), path
    for name, model in said["components"]["schemas"].items():
        if name.endswith("Ask"):
            assert model["additionalProperties"] is False
            assert model["description"]
    assert "CD8A" in json.dumps(said["components"]["schemas"]["GenesAsk"])


def test_metrics_count_answers_by_route_and_status(client):
    post(client, "search/genes", signature="CD8A")
    client.get("/v1/slides/S9")
    text = client.get("/metrics").text
    assert (
        'stamp_index_requests_total{endpoint="/v1/search/genes",method="POST",status="200"}' in text
    )
    assert 'endpoint="/v1/slides/{slide_id}",method="GET",status="404"' in text
    assert "S9" not in text
    assert "stamp_index_store_n_spots 160.0" in text
    assert "stamp_index_process_resident_memory_bytes" in text


def test_nearest_gives_rows_alone(client, store):
    vectors = np.eye(3, 32)
    said = post(client, "search/nearest", vectors=vectors.tolist(), k=4, recall=1.0).json()
    scores, rows = Searcher.open(store.path, encoder=ToyEncoder()).nearest(vectors, k=4, recall=1.0)
    assert said["rows"] == rows.tolist()
    assert np.array(said["scores"], np.float32).tolist() == scores.tolist()


def test_a_store_without_its_encoder_is_searched_by_what_it_stores(store):
    with asked(store.path, encoder=None) as client:
        assert post(client, "search/spots", spot_ids=["S1:B0001-1"]).status_code == 200
        assert problem(post(client, "search/genes", signature="CD8A")) == (503, "StoreError")
