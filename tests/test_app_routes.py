"""Routes: tiles, spots, layers, patches and genes; tokens, and everything that is refused."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.app_world import Client
from tests.support import toy_slide, toy_store

from app import settings as served  # isort: skip
from app.api import images, tokens  # isort: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("routes"), n_slides=2, n_spots=30)


@pytest.fixture
def client(store):
    client = Client(store)
    yield client
    served.configure(served.Settings())


def picture(answer) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    return Image.open(io.BytesIO(answer.content))


def test_places_are_the_centres_in_the_order_of_the_rows(client, store):
    answer = client.get("slides/1/spots")
    told = np.frombuffer(answer.content, "<f4").reshape(-1, 2)
    slide_id = store.slides()["slide_id"][1]
    spots = store.spots()
    expected = spots.loc[spots["slide_id"] == slide_id, ["x_px", "y_px"]].to_numpy(np.float32)
    np.testing.assert_array_equal(told, expected)


def test_codes_of_a_gene_mean_its_measured_expression(client, store):
    answer = client.get("slides/0/layer", gene="CD8A")
    meaning = json.loads(answer.headers["x-meaning"])
    codes = np.frombuffer(answer.content, "<u2").astype(np.float64)
    values = meaning["low"] + (codes - 1) / 65534 * (meaning["high"] - meaning["low"])
    np.testing.assert_allclose(values, store.expression(["CD8A"])[:30, 0], atol=1e-4)
    assert (meaning["kind"], meaning["unit"], meaning["note"]) == ("continuous", "log1p CP10K", "")


def test_codes_of_a_label_are_its_categories(client, store):
    name = store.label_names[0]
    answer = client.get("slides/0/layer", label=name)
    meaning = json.loads(answer.headers["x-meaning"])
    codes = np.frombuffer(answer.content, "<u2")
    assert meaning["kind"] == "categories"
    told = [meaning["categories"][code - 1] if code else None for code in codes]
    assert told == [None if value is None else str(value) for value in store.label(name)[:30]]


def test_smallest_level_is_the_whole_slide_in_one_pixel(client):
    assert picture(client.get("slides/0/tiles/0/0_0.jpg")).size == (1, 1)


def test_tiles_of_the_last_level_are_the_image_put_together(client, store):
    zoom = images.geometry(client.opened, store.slides()["slide_id"][0])
    whole = images.image_of(client.opened, store.slides()["slide_id"][0])
    left, top, right, bottom = zoom.box(zoom.max_level, 0, 0)
    told = np.asarray(picture(client.get(f"slides/0/tiles/{zoom.max_level}/0_0.jpg")), np.int16)
    expected = whole.read_box(left, top, (right - left, bottom - top), (right - left, bottom - top))
    assert np.abs(told - expected).mean() < 3  # JPEG


@pytest.mark.parametrize(
    "path",
    [
        "slides/0/tiles/40/0_0.jpg",
        "slides/0/tiles/3/9999_0.jpg",
        "slides/2/spots",
        "slides/0/spots/30",
        "patches/60.jpg",
        "patches/999999999999.jpg",
        f"patches/{'9' * 5000}.jpg",
        f"slides/{'9' * 5000}/spots",
        "patches/9223372036854775808.jpg",
        "slides/0/layer?gene=NOSUCHGENE",
        "slides/0/layer",
        "slides/x/spots",
        "slides/-1/spots",
        "slides/0/tiles/../../spots",
        "slides/%2e%2e%2f%2e%2e%2fetc/passwd",
        "nothing",
    ],
)
def test_what_is_not_there_is_a_404_in_plain_text(client, path):
    path, _, query = path.partition("?")
    answer = client.get(path, **dict([query.split("=")] if query else []))
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert "Traceback" not in answer.text
    assert len(answer.text) < 400


@pytest.mark.parametrize(
    "path",
    [
        "slides/0/spots",
        "slides/0/tiles/0/0_0.jpg",
        "slides/0/layer",
        "patches/0.jpg",
        "genes",
        "slides/0/spots/0",
    ],
)
@pytest.mark.parametrize("token", ["", "nonsense", "WyIiLDldLg.AAAA"])
def test_no_route_of_a_store_answers_without_a_token(client, path, token):
    answer = client.get(path, token=token)
    assert answer.status_code == 401
    assert "Reload the page" in answer.text


def test_token_of_another_server_is_refused(client, store):
    stolen = tokens.mint("someone")
    served.configure(served.Settings(store_path=str(store.path)))  # another secret
    assert client.get("slides/0/spots", token=stolen).status_code == 401


def test_token_holds_for_six_to_twelve_hours_and_stays_the_same_meanwhile():
    start = 1_800_000_000.0
    token = tokens.mint("ann", now_s=start)
    assert tokens.check(token, now_s=start + 6 * 3600) == "ann"
    with pytest.raises(tokens.TokenError, match="run out"):
        tokens.check(token, now_s=start + 12 * 3600 + 1)
    assert tokens.mint("ann", now_s=start + 1) == token
    assert tokens.mint("bob", now_s=start) != token


def test_another_store_under_the_same_path_is_gone_and_not_shown(tmp_path):
    store = toy_store(tmp_path / "a", n_slides=1, n_spots=5)
    client = Client(store)
    assert client.get("slides/0/spots").status_code == 200
    other = toy_store(tmp_path / "b", n_slides=1, n_spots=7)
    shutil.rmtree(store.path)
    shutil.copytree(other.path, store.path)
    from app import stores

    stores._opened.clear()  # as after a start of the server
    answer = client.get("slides/0/spots")
    assert answer.status_code == 410
    assert "Reload" in answer.text


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "deleted"])
def test_store_that_goes_away_under_a_server_that_has_it_open_is_a_sentence(tmp_path, replaced):
    store = toy_store(tmp_path / "a", n_slides=1, n_spots=40)
    client = Client(store)
    assert client.get("slides/0/spots").status_code == 200
    shutil.rmtree(store.path)
    if replaced:
        shutil.copytree(toy_store(tmp_path / "b", n_slides=1, n_spots=40).path, store.path)
    for path, query in {
        "slides/0/layer": {"gene": "EPCAM"},
        "slides/0/spots/3": {},
        "patches/3.jpg": {},
    }.items():
        answer = client.get(path, **query)
        assert answer.status_code == 410, path
        assert "Reload the page" in answer.text
        assert str(tmp_path).strip("/") not in answer.text


def test_deleted_store_is_a_sentence(tmp_path):
    store = toy_store(tmp_path, n_slides=1, n_spots=5)
    client = Client(store)
    shutil.rmtree(store.path)
    from app import stores

    stores._opened.clear()
    assert client.get("slides/0/spots").status_code == 410


def test_slide_whose_file_is_gone_is_shown_by_its_overview(client, store):
    slide_id = store.slides()["slide_id"][0]
    assert not images.is_whole(client.opened, slide_id)  # a toy slide lives in memory only
    zoom = images.geometry(client.opened, slide_id)
    assert picture(client.get(f"slides/0/tiles/{zoom.max_level}/0_0.jpg")).size[0] > 100


def test_slide_without_image_has_spots_but_no_tiles(tmp_path):
    store = toy_store(tmp_path, slides=[toy_slide("S1", 10, 0, image=False)])
    client = Client(store)
    assert client.get("slides/0/spots").status_code == 200
    assert client.get("slides/0/tiles/0/0_0.jpg").status_code == 404
    assert client.get("patches/0.jpg").status_code == 404


def test_base_path_stands_before_every_address(store):
    client = Client(store, base_path="/stamp")
    assert client.get("slides/0/spots").status_code == 200
    assert client.http.get("/api/x/1/slides/0/spots").status_code == 404


def test_genes_are_offered_as_they_are_typed(client):
    told = client.get("genes", q="cd8").json()
    assert told[0]["symbol"] == "CD8A"
    assert told[0]["measured"] is True
    assert client.get("genes", q="").json() == []


def test_assets_are_kept_for_good_and_only_of_this_release(client):
    from app.api.routes import asset_address

    answer = client.http.get(asset_address("viewer/streamlit.js"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    assert client.http.get("/assets/0000/viewer/streamlit.js").status_code == 404
    for name in ("../server.py", "package.json", "viewer/../../server.py", "node_modules/x.js"):
        assert client.http.get(asset_address(name)).status_code == 404
