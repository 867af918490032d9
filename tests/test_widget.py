"""The notebook viewer: what Python and its user set, what they see of it, what is refused."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import shapely

pytest.importorskip("anywidget")

import stamp_index as si
from stamp_index.errors import QueryError, StampIndexError
from stamp_index.search import Searcher
from stamp_index.view import spot_places
from tests.support import TOY_GENES, ToyEncoder, toy_slide, toy_store
from tests.widget_world import SQUARE, FrontEnd, viewers, widget_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return widget_store(tmp_path_factory.mktemp("widget"))


@pytest.fixture
def make(monkeypatch):
    with viewers(monkeypatch) as viewer:
        yield viewer


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
