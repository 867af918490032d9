"""What the pages hand on: requests, addresses that open the same hits, files of a slide."""

from __future__ import annotations

import importlib
import io
import json
import math
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import shapely
from PIL import Image

from stamp_index.addresses import encode_polygon
from stamp_index.export import read_annotations, selection_geojson
from stamp_index.search import Searcher
from stamp_index.search.sharing import (
    GeneRequest,
    RegionRequest,
    SpotRequest,
    record_json,
    request_url,
    rings_of,
    run_record,
)
from tests.browser.app_pages import (
    GENE_PAGE,
    IMAGE_PAGE,
    PAGES,
    component,
    errors,
    markdown,
    run,
    slides_page,
    start,
    tiles,
)
from tests.plain_world import mixed_store
from tests.support import ToyEncoder

pytest.importorskip("streamlit")

asking = importlib.import_module("app.asking")
downloads = importlib.import_module("app.downloads")
components = importlib.import_module("app.components")
files = importlib.import_module("app.slide_files")
selections = importlib.import_module("app.selections")
stores = importlib.import_module("app.stores")

SQUARE = shapely.box(90, 90, 290, 290)
SQUARE_TEXT = encode_polygon(shapely.get_coordinates(SQUARE)[:-1])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return mixed_store(tmp_path_factory.mktemp("app"))[0]


@pytest.fixture(scope="module")
def searcher(store):
    return Searcher.open(store.path, encoder=ToyEncoder())


@pytest.fixture
def opened(store):
    stores.use_encoder(ToyEncoder())
    return stores.open_store(str(store.path))


def page_of(request) -> tuple[str, dict[str, list[str]]]:
    """Page and parameters of a request's address."""
    parts = urlsplit(request_url(request))
    page = {"genes": GENE_PAGE, "image": IMAGE_PAGE, "regions": PAGES["regions"]}
    return page[parts.path.strip("/")], parse_qs(parts.query)


def spots_of(at) -> list[str]:
    return [tile["spot"] for tile in tiles(at)]


# ---- addresses -------------------------------------------------------------------------------


SPOT_REQUESTS = [
    GeneRequest(signature="CD8A high, EPCAM low", k=9),
    GeneRequest(
        signature="CD8A 2, EPCAM low",
        against="gene",
        k=5,
        filters='slide in ("M0", "M1") and patient != "P1" and n_counts > 5',
    ),
    GeneRequest(signature="CD8A high", k=6, one_per=500.0),
    GeneRequest(signature="CD8A high", k=3, one_per="slide", filters='organ == "breast"'),
    SpotRequest(spot_id="M0:B0003-1", k=7, exclude_own="slide", against="gene"),
    SpotRequest(spot_id="W:B0013-1", k=4, exclude_own="patient", one_per="patient"),
]


@pytest.mark.parametrize("request_", SPOT_REQUESTS, ids=range(len(SPOT_REQUESTS)))
def test_the_address_of_a_search_opens_the_page_with_the_same_hits(store, searcher, request_):
    page, asked = page_of(request_)
    at = start(store, page, **asked)
    assert not at.error
    assert spots_of(at) == list(request_.run(searcher).spot_ids)


def test_the_address_of_a_region_opens_the_page_with_the_same_regions(store, searcher):
    request = RegionRequest(
        slide_id="W", outlines=rings_of(SQUARE), k=2, filters='slide != "M1"', exclude_own="patient"
    )
    page, asked = page_of(request)
    at = start(store, page, **asked)
    assert not errors(at)
    expected = request.run(searcher).to_pandas()
    shown = at.dataframe[0].value
    assert shown["slide_id"].tolist() == expected["slide_id"].tolist()
    np.testing.assert_allclose(shown["score"], expected["score"])


def test_an_answer_knows_what_it_was_asked_with(opened, searcher):
    question = asking.Question("gene", 5, slides=("M0",), where="n_counts > 1", one_per="slide")
    for answer in (
        asking.ask_genes(opened, "CD8A high", question),
        asking.ask_spot(opened, "W:B0003-1", "slide", question),
    ):
        again = answer.request.run(searcher)
        assert list(again.spot_ids) == answer.table["spot_id"].tolist()
        record = json.loads(record_json(run_record(asking.hits_of(opened, answer), answer.request)))
        assert record["request"]["arguments"]["one_per"] == "slide"
        assert [hit["spot_id"] for hit in record["hits"]] == list(again.spot_ids)


def test_genes_with_a_look_have_no_request(opened):
    answer = asking.ask_both(
        opened, "CD8A high", asking.Look("M0:B0003-1", 0.5), asking.Question("image", 5)
    )
    assert answer.request is None


@pytest.mark.parametrize("page", [GENE_PAGE, IMAGE_PAGE])
def test_pages_offer_every_file_and_the_python_of_the_search(store, page):
    at = start(store, page, **({"spot": "M0:B0003-1"} if page == IMAGE_PAGE else {"q": "CD8A"}))
    labels = {element.proto.label for element in at.get("download_button")}
    assert {"CSV", "h5ad", "Contact sheet", "Record", "Download GeoJSON"} <= labels
    assert "searcher.search_" in "".join(block.value for block in at.code)


def test_the_link_of_a_query_is_made_when_its_popover_opens(store):
    at = start(store, q="CD8A high", k="9")
    assert not any("/genes?" in block.value for block in at.code)
    at.session_state["copylink"] = True
    run(at)
    link = next(block.value for block in at.code if "/genes?" in block.value)
    assert parse_qs(urlsplit(link).query)["q"] == ["CD8A high"]


def test_a_query_that_is_no_request_has_the_address_of_its_page(store):
    at = start(store, q="CD8A high", like="M0:B0003-1")
    at.session_state["copylink"] = True
    run(at)
    assert component(at, "here")["shown"] is True


# ---- files of a slide ------------------------------------------------------------------------


def test_a_figure_shows_layer_and_selection(opened):
    chosen = files.shapes_of("W", selections.select(opened, "W", SQUARE))
    pictures = [
        files.figure(opened, "W", layer, (one, box)).png()
        for layer in ({"gene": "CD8A"}, {"gene": "EPCAM"}, None)
        for one in (chosen, ())
        for box in (None, (100.0, 100.0, 300.0, 250.0))
    ]
    assert len(set(pictures)) == len(pictures)  # each says something else
    assert Image.open(io.BytesIO(pictures[0])).size[0] == 1400


def test_a_figure_of_a_label_has_its_colours_and_calls_nothing_measured(opened):
    figure = files.figure(opened, "M0", {"label": "domain"}, ((), None))
    assert set(figure.spots.categories) == {"fat", "lymphoid", "stroma", "tumour"}
    assert figure.svg().startswith(b"<?xml")
    assert files.why_bare(opened, "M0", {"label": "domain"}) == ""
    assert "No spot of slide 'W' has" in files.why_bare(opened, "W", {"label": "domain"})


def test_loaded_annotations_are_on_the_figure_that_another_thread_makes(store, monkeypatch):
    """Streamlit makes a deferred file outside of the session that asked for it."""
    made = {}
    monkeypatch.setattr(
        files.downloads, "button", lambda label, make, *_, **__: made.update({label: make})
    )
    drawn = []
    monkeypatch.setattr(
        files.SlideFigure, "png", lambda figure: drawn.append(figure.outlines) or b""
    )
    at = slides_page(store, s="M0")
    shapes = selection_geojson([SQUARE], ["nest"])
    at.file_uploader(key="geojson-M0").set_value(
        ("q.geojson", json.dumps(shapes).encode(), "application/json")
    )
    run(at)
    at.session_state["figure"] = True
    run(at)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(made["Download figure"]).result()
    assert [one.equals(SQUARE) for one in drawn[0]] == [True]


def test_the_popover_of_the_figure_offers_png_and_svg(store):
    for slide_id, said in (("M0", False), ("W", True)):
        at = slides_page(store, s=slide_id, by="Label", label="domain")
        at.session_state["figure"] = True
        run(at)
        assert not at.exception
        labels = {element.proto.label for element in at.get("download_button")}
        assert {"Download figure", "Download SVG"} <= labels
        captions = " ".join(caption.value for caption in at.caption)
        assert ("tissue and outlines" in captions) == said


def test_the_selection_and_its_spots_are_read_again(opened, store):
    chosen = selections.select(opened, "M0", SQUARE, 'tumour "1"')
    data = files.shapes_bytes(opened, "M0", chosen, (chosen.rows, ("CD8A",)))
    first, *others = read_annotations(data).shapes
    assert first.name == 'tumour "1"'
    assert first.shape().equals(SQUARE)
    assert len(others) == len(chosen.rows) > 5
    kinds = [f["properties"]["objectType"] for f in json.loads(data)["features"]]
    assert kinds == ["annotation"] + ["detection"] * len(others)


def test_what_is_seen_is_taken_from_the_viewer():
    assert components.seen_box([0, -140, 2000.5, 1140]) == (0.0, -140.0, 2000.5, 1140.0)
    for said in (
        None,
        "",
        [],
        [1, 2, 3],
        [1, 2, 1, 4],
        [1, 2, 3, math.inf],
        ["a", 2, 3, 4],
        {"x": 1},
    ):
        assert components.seen_box(said) is None


def lasso_page(store, **query: str):
    return slides_page(store, s="M0", poly=SQUARE_TEXT, gene="CD8A", **query)


def test_a_lasso_has_its_card_and_its_files(store):
    at = lasso_page(store)
    rows = store.spots(["slide_id", "x_px", "y_px"])
    inside = (
        (rows["slide_id"] == "M0") & rows["x_px"].between(90, 290) & rows["y_px"].between(90, 290)
    )
    assert f"Lasso: {inside.sum()} spots" in markdown(at)
    labels = [element.proto.label for element in at.get("download_button")]
    assert {"Spots CSV", "h5ad", "Download GeoJSON"} <= set(labels)


@pytest.mark.parametrize("text", ["1.2.3", "nonsense", "1.2.3.4.5.x", "9" * 4000, "1.2.1.1.1.1e9"])
def test_nonsense_in_the_place_of_a_lasso_is_no_lasso(store, text):
    at = slides_page(store, s="M0", poly=text)
    assert "Lasso" not in markdown(at)
    assert component(at, "viewer")["lasso"] is None


@pytest.mark.parametrize("installed", [True, False])
def test_a_viewer_that_cannot_be_drawn_says_what_to_run(store, monkeypatch, installed):
    monkeypatch.setattr("app.api.frontend.is_installed", lambda: installed)
    said = component(slides_page(store, s="M0"), "viewer")["missing"]
    assert ("npm ci --prefix app/frontend" in said) == (not installed)


def test_a_lasso_asks_for_similar_regions(store):
    at = slides_page(store, s="M1", gene="CD8A", poly=SQUARE_TEXT)
    at.button(key="find-regions").click().run()
    assert not at.exception
    assert at.query_params["poly"] == SQUARE_TEXT
    assert at.selectbox(key="s").value == "M1"
    assert len(at.dataframe[0].value) > 0


def test_loaded_annotations_are_drawn_and_a_click_selects_one(store):
    at = slides_page(store, s="M0")
    shapes = selection_geojson([SQUARE, shapely.box(300, 90, 420, 290)], ["<b>a</b>", "b"])
    at.file_uploader(key="geojson-M0").set_value(
        ("q.geojson", json.dumps(shapes).encode(), "application/json")
    )
    run(at)
    viewer = component(at, "viewer")
    assert [region["name"] for region in viewer["regions"]] == ["<b>a</b>", "b"]
    at.session_state["slide"] = {"outline": {"key": viewer["key"], "value": "annotation-1"}}
    run(at)
    assert "b: " in markdown(at)
    at.session_state["slide"] = {"outline": {"key": viewer["key"], "value": "annotation-9"}}
    run(at)
    assert "b: " not in markdown(at)


def test_a_file_that_is_no_geojson_is_a_sentence(store):
    at = slides_page(store, s="M0")
    at.file_uploader(key="geojson-M0").set_value(("<x>.json", b"{", "application/json"))
    run(at)
    assert "cannot be read" in errors(at)


def test_files_of_hits_are_made_of_the_hits(opened, searcher):
    answer = asking.ask_genes(opened, "CD8A high", asking.Question("image", 6))
    hits = asking.hits_of(opened, answer)
    slide_id = answer.table["slide_id"][0]
    n = int((answer.table["slide_id"] == slide_id).sum())
    assert len(json.loads(downloads._geojson(hits, slide_id))["features"]) == n
    assert downloads._h5ad(hits, "image")[:4] == b"\x89HDF"
