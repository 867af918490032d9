"""The notebook viewer: what it answers, what it hears, what it refuses."""

from __future__ import annotations

import gc
import json
import re
import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

pytest.importorskip("anywidget")

from hypothesis import given, settings
from hypothesis import strategies as some

import stamp_index as si
from stamp_index.errors import QueryError, StampIndexError
from stamp_index.search import Searcher
from stamp_index.slides import open_image
from stamp_index.slides.deep_zoom import DeepZoom
from stamp_index.view import gene_layer, label_layer, notebook_module, predicted_layer, spot_places
from stamp_index.view.pictures import slide_picture
from tests.support import TOY_GENES, ToyEncoder, toy_slide, toy_store
from tests.widget_world import FrontEnd, use_kept_comms

SQUARE = [(80.0, 30.0), (320.0, 30.0), (320.0, 170.0), (80.0, 170.0)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """S1's picture is a file, S2's only an overview, S3 has none; S3 lacks ten genes."""
    folder = tmp_path_factory.mktemp("widget")
    slides = [
        toy_slide("S1", 40, 0),
        toy_slide("S2", 40, 1),
        toy_slide("S3", 40, 2, image=False, genes=TOY_GENES[10:]),
    ]
    slides[0] = with_file(slides[0], folder / "S1.png")
    return toy_store(folder, slides=slides)


def with_file(slide, path):
    Image.fromarray(slide.image.overview(10_000)).save(path)
    return replace(slide, image=open_image(path))


@pytest.fixture
def make(monkeypatch):
    """Makes viewers and the browsers that show them; all are closed at the end."""
    use_kept_comms(monkeypatch)
    made = []

    def viewer(*args, **rules):
        made.append(si.SlideViewer(*args, **rules))
        return made[-1], FrontEnd(made[-1])

    yield viewer
    for one in made:
        one.close()


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


# ---- own values ------------------------------------------------------------------------------


def decoded(front) -> np.ndarray:
    told, (codes,) = front.ask(ask="bytes", path=front.shown["layer"]["path"])
    meta, held = told["meta"], np.frombuffer(codes, "<u2").astype(float)
    if meta["kind"] == "categories":
        return np.array([meta["categories"][int(c) - 1] if c else None for c in held], object)
    values = meta["low"] + (held - 1) / 65534 * (meta["high"] - meta["low"])
    return np.where(held == 0, np.nan, values)


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


# ---- what the user does ----------------------------------------------------------------------


def test_lasso_of_the_browser_selects_what_shapely_finds(make, store):
    viewer, front = make(store, "S2")
    front.said("lasso", [list(corner) for corner in SQUARE])
    xy = store.spots(["x_px", "y_px"], spot_places(store, "S2").rows).to_numpy()
    inside = shapely.contains_xy(shapely.Polygon(SQUARE), xy[:, 0], xy[:, 1])
    rows = spot_places(store, "S2").rows[inside]
    assert 5 < len(rows) < 40
    np.testing.assert_array_equal(viewer.rows, rows)
    assert viewer.spot_ids == list(store.spots(["spot_id"], rows)["spot_id"])
    assert viewer.lasso == tuple(SQUARE)
    front.said("lasso", None)
    assert (viewer.lasso, len(viewer.rows), viewer.spot_ids) == (None, 0, [])


def test_selection_holds_the_spots_with_their_counts(make, store):
    viewer, _ = make(store, "S2")
    with pytest.raises(QueryError, match="No lasso"):
        viewer.selection()
    viewer.lasso = SQUARE
    chosen = viewer.selection()
    assert list(chosen.obs_names) == viewer.spot_ids
    np.testing.assert_array_equal(
        chosen[:, "EPCAM"].X.toarray()[:, 0], store.counts(["EPCAM"], viewer.rows)[:, 0]
    )


def test_lasso_that_crosses_itself_is_filled_by_the_even_odd_rule(make, store):
    viewer, _ = make(store, "S1")
    viewer.lasso = [(0, 0), (600, 300), (600, 0), (0, 300)]
    xy = spot_places(store, "S1").xy_px
    shape = shapely.make_valid(shapely.Polygon(viewer.lasso))
    np.testing.assert_array_equal(
        np.isin(spot_places(store, "S1").rows, viewer.rows), shapely.contains_xy(shape, xy)
    )


def test_what_python_sets_reaches_the_browser_with_a_new_stamp(make, store):
    viewer, front = make(store, "S1")
    before = front.shown["lassoStamp"], front.shown["boxStamp"]
    viewer.lasso = shapely.box(10, 20, 30, 40)
    viewer.selected_spot = viewer.all_spot_ids[7]
    viewer.view = (10, 20, 110, 70)
    shown = front.shown
    assert shapely.Polygon(shown["lasso"]).equals(shapely.box(10, 20, 30, 40))
    assert (shown["selected"], shown["box"]) == (7, (10.0, 20.0, 110.0, 70.0))
    assert shown["lassoStamp"] != before[0]
    assert shown["boxStamp"] != before[1]


def test_what_the_browser_says_does_not_move_it(make, store):
    viewer, front = make(store, "S1")
    before = front.shown
    front.said("view", [1.5, 2, 33, 44], by="ab:1")
    assert viewer.view == (1.5, 2.0, 33.0, 44.0)
    assert (front.shown["box"], front.shown["boxStamp"]) == (None, before["boxStamp"])
    front.said("lasso", [list(corner) for corner in SQUARE], by="ab:2")
    assert front.shown["lassoStamp"] == "ab:2"  # by which its sender knows it


def test_clicked_spot_and_outline_are_traits_that_can_be_observed(make, store):
    viewer, front = make(store, "S1")
    heard = []
    viewer.observe(
        lambda change: heard.append(change["new"]), ["selected_spot", "selected_outline"]
    )
    front.said("spot", 5)
    viewer.add_outline(SQUARE, "nest")
    front.said("outline", front.shown["regions"][0]["id"])
    front.said("spot", None)
    assert heard == [viewer.all_spot_ids[5], "nest", None]


def test_another_slide_starts_anew_and_old_questions_are_refused(make, store):
    viewer, front = make(store, "S1", gene="CD8A")
    viewer.lasso = SQUARE
    viewer.selected_spot = viewer.all_spot_ids[0]
    old = front.shown["key"]
    viewer.slide_id = "S2"
    shown = front.shown
    assert (shown["label"], shown["lasso"], shown["selected"]) == ("S2", None, None)
    assert (viewer.lasso, viewer.selected_spot, viewer.gene) == (None, None, "CD8A")
    front.tell({"id": "x", "ask": "bytes", "path": "spots", "key": old})
    assert "Another slide" in front.messages[-1][0]["error"]
    front.tell({"said": "lasso", "value": SQUARE, "by": "b", "key": old})
    assert viewer.lasso is None


def test_gene_that_the_next_slide_cannot_show_is_said_there(make, tmp_path):
    store = toy_store(
        tmp_path,
        slides=[toy_slide("A", 20, 0), toy_slide("B", 20, 1, image=False, genes=TOY_GENES[1:])],
    )
    viewer, front = make(store, "A", gene=TOY_GENES[0])
    viewer.slide_id = "B"
    told, buffers = front.ask(ask="bytes", path=front.shown["layer"]["path"])
    assert "image" in told["error"]  # B has no pictures to predict it from
    assert buffers == []


# ---- marks -----------------------------------------------------------------------------------


def test_hits_are_rings_on_the_slide_where_they_lie(make, store):
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    hits = searcher.search_genes("CD8A high", k=30)
    viewer, front = make(searcher, "S1")
    viewer.show_hits(hits)
    for slide_id in ("S1", "S2"):
        viewer.slide_id = slide_id
        here = hits.table[hits.table["slide_id"] == slide_id]
        marks = front.shown["marks"]
        assert [one["label"] for one in marks] == [f"#{rank}" for rank in here["rank"]]
        np.testing.assert_allclose([[one["x"], one["y"]] for one in marks], here[["x_px", "y_px"]])
        assert len(marks)
    viewer.show_hits(None)
    assert front.shown["marks"] == []


def test_regions_are_outlined_on_their_slide_and_own_outlines_stay(make, store):
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    found = searcher.search_region(si.Region("S1", SQUARE, "px"), k=3)
    viewer, front = make(searcher, str(found.table["slide_id"].iloc[0]))
    viewer.add_outline(shapely.box(0, 0, 50, 50).difference(shapely.box(10, 10, 20, 20)), "nest")
    viewer.show_regions(found)
    names = [one["name"] for one in front.shown["regions"]]
    n_here = int((found.table["slide_id"] == viewer.slide_id).sum())
    assert names[0] == "nest"
    assert len(names) == 1 + n_here > 1
    assert len(front.shown["regions"][0]["polygons"]) == 2  # the hole is a ring of its own
    viewer.show_regions(None)
    assert [one["name"] for one in front.shown["regions"]] == ["nest"]
    viewer.clear_outlines()
    assert front.shown["regions"] == []


# ---- figures ---------------------------------------------------------------------------------


def test_figure_shows_layer_view_and_lasso(make, store):
    viewer, front = make(store, "S1", gene="EPCAM")
    viewer.lasso = SQUARE
    front.said("view", [50, 50, 350, 250])
    figure = viewer.figure()
    assert figure.box_px == (50.0, 50.0, 350.0, 250.0)
    assert figure.image is not None  # the file, and not the overview
    np.testing.assert_allclose(figure.spots.values, store.expression(["EPCAM"])[:40, 0], atol=1e-4)
    assert figure.spots.origin == "measured"
    assert figure.outlines[0].equals(shapely.Polygon(SQUARE))
    assert figure.png().startswith(b"\x89PNG")


def test_figure_of_own_values_says_what_they_are(make, store):
    viewer, _ = make(store, "S2", values=np.arange(40.0))
    with pytest.raises(QueryError, match="values_are"):
        viewer.figure()
    assert viewer.figure(values_are="predicted").spots.origin == "predicted"
    assert viewer.figure(values_are="measured").image is None  # only an overview is left


def test_figure_of_a_label_has_its_categories_and_says_nothing_of_measuring(make, store):
    viewer, _ = make(store, "S1", label="domain")
    spots = viewer.figure().spots
    assert spots.origin == "label"
    named = [spots.categories[int(code)] for code in spots.values]
    assert named == store.label("domain", np.arange(40)).tolist()
    viewer.values = ["a", None] * 20  # names of one's own need no more said
    spots = viewer.figure().spots
    assert (spots.origin, spots.categories) == ("label", ("a",))
    np.testing.assert_array_equal(spots.values, [0.0, np.nan] * 20)
    assert viewer.figure(values_are="predicted").spots.origin == "predicted"
    with pytest.raises(QueryError, match="values_are"):
        viewer.figure(values_are="guessed")


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


def test_selection_of_a_slide_without_a_store(make):
    slide = toy_slide("S1", 40, 0)
    viewer, _ = make(slide)
    viewer.lasso = SQUARE
    chosen = viewer.selection()
    assert list(chosen.obs_names) == viewer.spot_ids == [slide.spot_ids[i] for i in viewer.rows]
    np.testing.assert_array_equal(chosen.X.toarray(), slide.counts[viewer.rows].toarray())
    np.testing.assert_array_equal(chosen.obsm["spatial"], slide.xy_px[viewer.rows])
    with pytest.raises(QueryError, match="in no store"):
        viewer.figure()


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "error", "words"),
    [
        ({"slide_id": "S9"}, QueryError, "S9"),
        ({"gene": "NOSUCHGENE"}, StampIndexError, "NOSUCHGENE"),
        ({"label": "nolabel"}, QueryError, "nolabel"),
    ],
)
def test_what_is_not_there_is_refused_and_leaves_no_widget(make, store, rules, error, words):
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    with pytest.raises(error, match=words):
        make(store, **rules)
    assert not [
        one for name, one in _instances.items() if name not in before and "Slide" in repr(one)
    ]


def test_wrong_values_of_traits_are_refused_and_change_nothing(make, store):
    viewer, front = make(store, "S1", gene="CD8A")
    before = front.shown
    for name, value in [
        ("gene", "NOSUCH"),
        ("slide_id", "S9"),
        ("lasso", [(0, 0), (1, 1)]),
        ("lasso", [(0, 0), (1, 1), (2, 2)]),
        ("lasso", "a square"),
        ("lasso", [(0, 0), (1, np.nan), (2, 0)]),
        ("selected_spot", "S2:" + viewer.all_spot_ids[0].removeprefix("S1:")),
        ("view", (5, 5, 5, 9)),
        ("view", (0, 0, np.inf, 9)),
    ]:
        with pytest.raises((StampIndexError, ValueError)):
            setattr(viewer, name, value)
    assert front.shown == before


def test_what_is_no_store_is_a_type_error(make):
    with pytest.raises(TypeError, match="dict was given"):
        make({})


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


def test_slide_without_a_picture_has_spots_and_no_tiles(make, store):
    _, front = make(store, "S3")
    assert front.shown["image"] is None
    assert "no picture" in front.ask(ask="tile", level=0, column=0, row=0)[0]["error"]
    assert len(front.ask(ask="bytes", path="spots")[1][0]) == 40 * 8


# ---- the end ---------------------------------------------------------------------------------


def test_closing_frees_the_picture_and_the_viewer(make, store):
    viewer = si.SlideViewer(store, "S1")
    FrontEnd(viewer).ask(ask="tile", level=5, column=0, row=0)
    picture, whole = weakref.ref(viewer._desk.source.picture), weakref.ref(viewer)
    viewer.close()
    viewer.close()  # again does no harm
    gc.collect()
    assert picture() is None
    del viewer
    gc.collect()
    assert whole() is None


def test_another_slide_frees_the_picture_of_the_last(make, store):
    viewer, _ = make(store, "S1")
    picture = weakref.ref(viewer._desk.source.picture)
    viewer.slide_id = "S2"
    gc.collect()
    assert picture() is None


# ---- the module ------------------------------------------------------------------------------


def test_module_holds_every_file_and_no_import_by_path():
    files = notebook_module._in_order(notebook_module.frontend_folder())
    assert list(files)[-1] == "viewer/notebook.js"
    assert {"openseadragon.js", "viewer/index.js", "viewer/viewer.js"} <= set(files)
    seen = set()
    for name, text in files.items():
        for wanted in re.findall(r'"@([^"@]+)@"', text):
            assert wanted in seen, f"{name} needs {wanted}, which comes later"
        if name != "openseadragon.js":
            assert not re.search(r"from\s+[\"']\.", text), name
            original = (notebook_module.frontend_folder() / name).read_text("utf-8")
            assert len(re.findall(r"(?m)^import\b", original)) == text.count('"@')
        seen.add(name)


def test_missing_openseadragon_says_what_to_run(tmp_path):
    folder = tmp_path / "frontend"
    (folder / "viewer").mkdir(parents=True)
    for path in (notebook_module.frontend_folder() / "viewer").iterdir():
        (folder / "viewer" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(StampIndexError, match=r"make demo.*npm ci"):
        notebook_module.notebook_module(folder)


def test_files_that_import_in_a_circle_are_refused(tmp_path):
    (tmp_path / "viewer").mkdir()
    (tmp_path / "viewer" / "notebook.js").write_text('import { a } from "./a.js";\n')
    (tmp_path / "viewer" / "a.js").write_text('export { b } from "./notebook.js";\n')
    with pytest.raises(StampIndexError, match=r"circle: viewer/notebook.js > viewer/a.js"):
        notebook_module.notebook_module(tmp_path)


def test_without_anywidget_the_name_is_there_and_says_what_to_install():
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import stamp_index as si\n"
        "for make in (si.SlideViewer, si.SlideViewer.from_slide):\n"
        "    try: make('store')\n"
        "    except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'stamp-index[notebooks]'") == 2
