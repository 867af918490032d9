"""What the notebook viewer answers to its browser: tiles, places, layers, and a sentence to what is no question."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("anywidget")

from hypothesis import given, settings
from hypothesis import strategies as some

import stamp_index as si
from stamp_index.errors import QueryError
from stamp_index.search import Searcher
from stamp_index.slides.deep_zoom import DeepZoom
from stamp_index.view import gene_layer, label_layer, predicted_layer, spot_places
from stamp_index.view.pictures import slide_picture
from tests.support import TOY_GENES, ToyEncoder, toy_slide, toy_store
from tests.widget_world import FrontEnd, decoded, use_kept_comms, viewers, widget_store, with_file


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return widget_store(tmp_path_factory.mktemp("widget"))


@pytest.fixture
def make(monkeypatch):
    with viewers(monkeypatch) as viewer:
        yield viewer


# ---- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("slide_id", ["S1", "S2"])
def test_every_tile_is_the_one_that_deep_zoom_cuts(make, store, slide_id):
    _, front = make(store, slide_id)
    row = store.slides().set_index("slide_id", drop=False).loc[slide_id]
    picture, zoom = slide_picture(store, row), DeepZoom(int(row["width_px"]), int(row["height_px"]))
    assert (picture.uri == "") is (slide_id == "S2")
    for level in range(zoom.max_level + 1):
        told, (jpeg,) = front.ask(ask="tile", level=level, column=0, row=0)
        assert "error" not in told
        assert jpeg == zoom.tile(picture, level, 0, 0)


def test_places_are_those_of_the_slide(make, store):
    _, front = make(store, "S2")
    _, (told,) = front.ask(ask="bytes", path=front.shown["spots"]["path"])
    expected = spot_places(store, "S2")
    np.testing.assert_array_equal(np.frombuffer(told, "<f4").reshape(-1, 2), expected.xy_px)
    spots = front.shown["spots"]
    assert (spots["n"], spots["diameter"], spots["shape"]) == (40, expected.diameter_px, "circle")


def test_codes_of_a_gene_or_label_are_those_of_its_layer(make, store):
    viewer, front = make(store, "S1", gene="CD8A")
    told, (codes,) = front.ask(ask="bytes", path=front.shown["layer"]["path"])
    layer = gene_layer(store, "S1", "CD8A")
    assert codes == layer.codes.astype("<u2").tobytes()
    assert told["meta"] == layer.meaning.to_dict()
    viewer.label = store.label_names[0]
    assert viewer.gene is None
    told, (codes,) = front.ask(ask="bytes", path=front.shown["layer"]["path"])
    layer = label_layer(store, "S1", store.label_names[0])
    assert codes == layer.codes.astype("<u2").tobytes()
    assert told["meta"] == layer.meaning.to_dict()


def test_answers_are_those_of_the_apps_routes(make, store):
    world = pytest.importorskip("tests.app_world", reason="needs streamlit")
    from app import settings as served

    _, front = make(store, "S1", gene="EPCAM")
    client = world.Client(store)
    try:
        _, (tile,) = front.ask(ask="tile", level=8, column=0, row=0)
        assert tile == client.get("slides/0/tiles/8/0_0.jpg").content
        _, (places,) = front.ask(ask="bytes", path="spots")
        assert places == client.get("slides/0/spots").content
        told, (codes,) = front.ask(ask="bytes", path=front.shown["layer"]["path"])
        route = client.get("slides/0/layer", gene="EPCAM")
        assert (codes, told["meta"]) == (
            route.content,
            _plain(json.loads(route.headers["x-meaning"])),
        )
        told, _ = front.ask(ask="json", path="spots/7")
        assert told["json"] == client.get("slides/0/spots/7").json()
    finally:
        served.configure(served.Settings())


def _plain(meaning: dict) -> dict:
    return meaning | {"categories": tuple(meaning["categories"])}


def test_gene_is_found_as_the_store_calls_it(make, store):
    viewer, front = make(store, "S1", gene=TOY_GENES[0].lower())
    assert viewer.gene == TOY_GENES[0]
    told, _ = front.ask(ask="bytes", path=front.shown["layer"]["path"])
    assert told["meta"]["note"] == ""


def test_prediction_is_that_of_the_library(make, tmp_path):
    store = toy_store(
        tmp_path, slides=[toy_slide("A", 40, 0), toy_slide("B", 40, 1, genes=TOY_GENES[10:])]
    )
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    for given_one in (searcher, store):
        _, front = make(given_one, "B", gene=TOY_GENES[0])
        told, (codes,) = front.ask(ask="bytes", path=front.shown["layer"]["path"])
        layer = predicted_layer(searcher, "B", TOY_GENES[0])
        assert codes == layer.codes.astype("<u2").tobytes()
        assert told["meta"]["note"] == "predicted, not measured"


def test_slide_without_a_picture_has_spots_and_no_tiles(make, store):
    _, front = make(store, "S3")
    assert front.shown["image"] is None
    assert "no picture" in front.ask(ask="tile", level=0, column=0, row=0)[0]["error"]
    assert len(front.ask(ask="bytes", path="spots")[1][0]) == 40 * 8


# ---- own values ------------------------------------------------------------------------------


def test_own_numbers_are_drawn_in_the_order_of_the_spots(make, store):
    values = np.random.default_rng(0).normal(size=40)
    values[3] = np.nan
    _, front = make(store, "S1", values=values)
    np.testing.assert_allclose(decoded(front), values, atol=1e-4)


@pytest.mark.parametrize("index", ["spot ids", "barcodes"])
def test_series_is_put_into_the_order_of_the_spots(make, store, index):
    viewer, front = make(store, "S1")
    ids = viewer.all_spot_ids
    names = ids if index == "spot ids" else [one.removeprefix("S1:") for one in ids]
    values = pd.Series(np.arange(40.0), names, name="depth")
    viewer.values = values.sample(frac=1, random_state=0).iloc[:-5]
    last = values.sample(frac=1, random_state=0).index[-5:]
    expected = values.where(~values.index.isin(last)).to_numpy()
    np.testing.assert_allclose(decoded(front), expected, atol=1e-3)
    assert front.shown["layer"]["name"] == "depth"


def test_own_categories_are_names(make, store):
    names = np.array(["fat", "tumour"])[np.arange(40) % 2]
    viewer, front = make(store, "S1", values=pd.Categorical(names))
    assert list(decoded(front)) == list(names)
    before = front.shown["layer"]["path"]
    viewer.values = names == "fat"
    assert list(decoded(front)) == [str(name == "fat") for name in names]
    assert front.shown["layer"]["path"] != before  # else the browser would keep the old ones


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros(39), "expected \\(40,\\)"),
        (pd.Series(np.zeros(40), [f"X{i}" for i in range(40)]), "No index of the values"),
        (pd.Series([1.0, 2.0], ["S1:A", "S1:A"]), "twice"),
        ([f"name {i}" for i in range(40)] * 1, None),
    ],
)
def test_values_that_do_not_fit_are_refused(make, store, values, words):
    if words is None:
        make(store, "S1", values=values)  # 40 categories are fine
        return
    with pytest.raises(QueryError, match=words):
        make(store, "S1", values=values)


def test_only_one_thing_colours_the_spots(make, store):
    with pytest.raises(ValueError, match="one thing at a time"):
        make(store, gene="CD8A", label="domain")
    viewer, front = make(store, "S1", values=np.zeros(40))
    viewer.gene = "CD8A"
    assert viewer.values is None
    assert front.shown["layer"]["name"] == "CD8A"
    viewer.gene = None
    assert front.shown["layer"] is None


# ---- a slide without a store -----------------------------------------------------------------


def test_slide_without_a_store_shows_the_same_as_from_a_store(make, store, monkeypatch, tmp_path):
    slide = with_file(toy_slide("S1", 40, 0), tmp_path / "s1.png")
    _, stored = make(store, "S1", gene="CD8A")
    viewer = si.SlideViewer.from_slide(slide, gene="CD8A")
    front = FrontEnd(viewer)
    for question in (
        {"ask": "tile", "level": 9, "column": 0, "row": 0},
        {"ask": "bytes", "path": "spots"},
        {"ask": "bytes", "path": front.shown["layer"]["path"]},
        {"ask": "json", "path": "spots/11"},
    ):
        mine, theirs = front.ask(**question), stored.ask(**question)
        assert mine[0] | {"id": ""} == theirs[0] | {"id": ""}
        assert mine[1] == theirs[1]
    assert front.shown["spots"] == stored.shown["spots"]
    viewer.label = "domain" if "domain" in slide.spots else slide.spots.columns[-1]
    assert list(decoded(front)) == [str(one) for one in slide.spots[viewer.label]]
    viewer.close()


# ---- what is no question ----------------------------------------------------------------------


HOSTILE = [
    None,
    [],
    "tile",
    7,
    {},
    {"ask": "tile"},
    {"ask": "tile", "level": 99, "column": 0, "row": 0},
    {"ask": "tile", "level": 3, "column": -1, "row": 0},
    {"ask": "tile", "level": "3", "column": 0, "row": 0},
    {"ask": "tile", "level": 1e9, "column": 0, "row": 0},
    {"ask": "tile", "level": True, "column": 0, "row": 0},
    {"ask": "bytes", "path": "../../etc/passwd"},
    {"ask": "bytes", "path": ["spots"]},
    {"ask": "bytes", "path": {"a": 1}},
    {"ask": "json", "path": "spots/40"},
    {"ask": "json", "path": "spots/-1"},
    {"ask": "json", "path": "spots/" + "9" * 400},
    {"ask": "json", "path": "spots/\u0663"},
    {"ask": {"a": []}, "path": []},
    {"said": "lasso", "value": [[0, 0]]},
    {"said": "lasso", "value": [[0, 0], [1, 1], [2, 2]]},
    {"said": "lasso", "value": {"x": 1}},
    {"said": "lasso", "value": [["a", 0], ["b", 0], ["c", 0]]},
    {"said": "lasso", "value": [[i, i * i] for i in range(600)]},
    {"said": "spot", "value": 40},
    {"said": "spot", "value": -1},
    {"said": "spot", "value": "S1:B0"},
    {"said": "spot", "value": [1]},
    {"said": "view", "value": None},
    {"said": "view", "value": [0, 0, {}, 1]},
    {"said": ["lasso"], "value": None},
    {"said": None},
]


@pytest.mark.parametrize("message", HOSTILE, ids=lambda one: str(one)[:40])
def test_hostile_message_is_answered_with_a_sentence(make, store, message):
    viewer, front = make(store, "S1")
    if isinstance(message, dict):
        message = {"key": front.shown["key"], **message}
    before, n = front.shown, len(front.messages)
    front.tell(message)
    ((told, buffers),) = front.messages[n:]
    assert 5 < len(told["error"]) <= 300
    assert "Traceback" not in told["error"]
    assert buffers == []
    assert front.shown == before
    assert front.ask(ask="bytes", path="spots")[1]  # and it still answers


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=6), inner),
    max_leaves=8,
)
FIELDS = some.sampled_from(
    ["ask", "said", "key", "id", "path", "level", "column", "row", "value", "by"]
)
WORDS = some.sampled_from(
    ["tile", "bytes", "json", "lasso", "spot", "view", "outline", "0", "spots"]
)


@settings(max_examples=80)
@given(message=JSON | some.dictionaries(FIELDS, WORDS | JSON))
def test_no_message_raises(small, message):
    viewer, front = small
    n = len(front.messages)
    viewer._hear(viewer, message, [])  # the dispatcher would swallow what is raised
    front.listen()
    assert len(front.messages) - n <= 1
    json.dumps([told for told, _ in front.messages[n:]])


@pytest.fixture(scope="module")
def small(store):
    patch = pytest.MonkeyPatch()
    use_kept_comms(patch)
    viewer = si.SlideViewer(store, "S1")
    yield viewer, FrontEnd(viewer)
    viewer.close()
    patch.undo()
