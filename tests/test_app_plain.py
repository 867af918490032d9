"""Slides without counts in the app: what is predicted is never shown as measured."""

from __future__ import annotations

import importlib
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stamp_index.embed import ingest
from stamp_index.search import Searcher, predict_map
from stamp_index.store import EncoderCard, Store
from tests.browser.app_pages import (
    IMAGE_PAGE,
    crop,
    errors,
    html,
    png,
    start,
    tiles,
    upload,
)
from tests.plain_world import mixed_store, plain
from tests.support import TOY_GENES, ToyEncoder, jpeg, toy_slide

pytest.importorskip("streamlit")

map_picture = importlib.import_module("app.map_picture")
maps = importlib.import_module("app.gene_maps")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Slides M0 and M1 with counts, plain W, and N, which measured all genes but CD8A."""
    store, encoder, _ = mixed_store(tmp_path_factory.mktemp("mixed"))
    fewer = tuple(gene for gene in TOY_GENES if gene != "CD8A")
    ingest(store, encoder, toy_slide("N", 40, seed=5, patient_id="P5", genes=fewer))
    return store


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A store of plain H&E alone."""
    encoder = ToyEncoder()
    store = Store.create(tmp_path_factory.mktemp("bare") / "s", EncoderCard.of(encoder))
    for seed in (1, 2):
        slide = toy_slide(f"W{seed}", 60, seed=seed, patient_id=f"P{seed}")
        ingest(store, encoder, plain(slide))
    return store


def captions(at) -> str:
    return " ".join(caption.value.replace("\\", "") for caption in at.caption)


def map_captions(at) -> str:
    """Captions and alternative texts of the pictures on the page."""
    return " ".join(str(element.proto) for element in at.get("image")).replace("\\", "")


# ---- gene to image ---------------------------------------------------------------------------


def test_tiles_of_plain_slides_are_marked_and_their_values_said_to_be_predicted(mixed):
    at = start(mixed, q="CD8A high, EPCAM low")
    of_plain = [tile for tile in tiles(at) if tile["slide"] == "W"]
    measured = [tile for tile in tiles(at) if tile["slide"] in ("M0", "M1")]
    assert of_plain
    assert measured
    for tile in of_plain:
        assert tile["mark"] == "H&E only"
        assert tile["note"] == "predicted, not measured"
        assert {gene["kind"] for gene in tile["genes"]} == {"predicted"}
        assert all("from the 50 measured spots on" in gene["title"] for gene in tile["genes"])
    for tile in measured:
        assert (tile["mark"], tile["note"]) == ("", "")
        assert {gene["kind"] for gene in tile["genes"]} == {"measured"}


def test_predicted_value_of_a_tile_is_that_of_the_map(mixed):
    at = start(mixed, q="CD8A high", slide="W", k="80")
    found = predict_map(Searcher(Store.open(mixed.path), ToyEncoder()), "W", ["CD8A"])
    value = dict(zip(found.table["spot_id"], found.values("CD8A"), strict=True))
    assert len(tiles(at)) == 80
    for tile in tiles(at):
        spot_id = tile["alt"].split("spot ")[1].split(",")[0]
        assert tile["genes"][0]["value"] == f"{value[spot_id]:.1f}"


def test_spread_of_a_prediction_is_that_of_its_neighbours(mixed):
    at = start(mixed, q="CD8A high", slide="W", k="3")
    spot_id = tiles(at)[0]["alt"].split("spot ")[1].split(",")[0]
    store = Store.open(mixed.path)
    hits = Searcher(store, ToyEncoder()).search_spot(
        spot_id, query="image", against="gene", k=50, filters='slide in ("M0", "M1")'
    )
    weight = np.exp(hits.scores.astype(float) / 0.05)
    values = store.expression(["CD8A"], hits.rows)[:, 0].astype(float)
    mean = (weight * values).sum() / weight.sum()
    sd = np.sqrt((weight * (values - mean) ** 2).sum() / weight.sum())  # slow and obvious
    assert f"{mean:.2f} ± {sd:.2f} log1p" in tiles(at)[0]["genes"][0]["title"]


def test_picked_hit_of_a_plain_slide_says_that_its_value_is_predicted(mixed):
    at = start(mixed, q="CD8A high", slide="W")
    body = html(at)
    assert "predicted, not measured" in body
    assert "±" in body
    assert "<th>Measured</th>" not in body
    assert "H&amp;E only, nothing measured" in body
    assert "predicted, not measured" in captions(at)


def test_picked_hit_of_a_measured_slide_is_called_measured_alone(mixed):
    at = start(mixed, q="CD8A high", slide="M0")
    assert "<th>Measured</th>" in html(at)
    assert 'class="si-guess"' not in html(at)


def test_facts_of_a_picked_hit_name_platform_and_quality(mixed):
    body = html(start(mixed, q="CD8A high", slide="W"))
    assert "<dt>Platform</dt><dd>H&amp;E</dd>" in body
    assert "% tissue, 0% blurred" in body
    assert "Mitochondrial" not in body
    body = html(start(mixed, q="CD8A high", slide="M1"))
    assert "60 genes on this slide" in body
    assert "<dt>Mitochondrial</dt>" in body


def test_footer_says_how_many_slides_are_plain(mixed, bare):
    assert "4 slides (1 H&amp;E only)" in html(start(mixed))
    assert "2 slides (2 H&amp;E only) · 120 spots · nothing measured" in html(start(bare))


# ---- a store where nothing was measured ------------------------------------------------------


def test_store_of_plain_slides_opens_on_an_example_that_the_encoder_knows(bare):
    at = start(bare)
    assert at.text_input(key="genes").value == "CD8A high, EPCAM low"
    assert len(tiles(at)) == 48
    assert "measured on no slide of this store" in captions(at)
    for tile in tiles(at):
        assert {gene["value"] for gene in tile["genes"]} == {"not measured on any slide"}
        assert tile["mark"] == "H&E only"


@pytest.mark.parametrize("text", ["ZZZ9 high", "CD8 high, EPCAM low"])
def test_gene_that_even_the_encoder_does_not_know_is_refused(bare, text):
    at = start(bare, q=text)
    assert text.split()[0] in errors(at)
    assert not at.get("bidi_component")


def test_close_names_are_offered_from_what_the_encoder_knows(bare):
    at = start(bare, q="CD8 high, EPCAM low")
    at.button(key="fix-CD8-CD8A").click().run()
    assert at.text_input(key="genes").value == "CD8A high, EPCAM low"
    assert not at.error


def test_store_of_plain_slides_offers_no_gene_profiles_to_search_in(bare):
    for page, query, key in (
        (None, {"in": "gene profiles"}, "in"),
        (IMAGE_PAGE, {"spot": "W1:B0003-1", "match": "gene profiles"}, "match"),
    ):
        at = start(bare, page, **query)
        assert at.button_group(key=key).options == ["images"]
        assert len(tiles(at)) == 48


def test_spot_of_a_store_where_nothing_was_measured_has_no_prediction_and_says_why(bare):
    at = start(bare, IMAGE_PAGE, spot="W1:B0003-1")
    assert "nothing can be predicted" in at.info[0].value
    assert "no gene can be mapped" in captions(at)
    assert {tuple(tile["genes"]) for tile in tiles(at)} == {()}


def test_upload_to_a_store_where_nothing_was_measured_finds_its_like(bare):
    at = start(bare, IMAGE_PAGE)
    upload(at, png(crop(toy_slide("W1", 60, seed=1, patient_id="P1"), 13, width_um=336.0)))
    assert float(tiles(at)[0]["score"]) > 0.9
    assert "nothing can be predicted" in at.info[0].value


def test_gene_that_only_the_encoder_knows_stands_beside_measured_ones(tmp_path):
    encoder = ToyEncoder()
    fewer = tuple(gene for gene in TOY_GENES if gene != "CD8A")
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    ingest(store, encoder, toy_slide("M0", 40, genes=fewer))
    ingest(store, encoder, plain(toy_slide("W", 40, seed=9, patient_id="P9")))
    at = start(store, q="CD8A high, CD3E high")
    assert not at.error
    for tile in tiles(at):
        known = "predicted" if tile["slide"] == "W" else "measured"
        assert [gene["kind"] for gene in tile["genes"]] == ["unknown", known]
    assert "not measured on any slide" in html(at)


# ---- image to gene ---------------------------------------------------------------------------


def test_spot_of_a_plain_slide_has_a_prediction_and_no_measurement(mixed):
    at = start(mixed, IMAGE_PAGE, spot="W:B0003-1")
    body = html(at)
    assert "predicted, not measured" in body
    assert "Measured here" not in body
    assert "Slide W is H&E only: nothing was measured at the query spot" in captions(at)
    assert "diamond" not in captions(at)
    assert "Measured here" in html(start(mixed, IMAGE_PAGE, spot="M0:B0003-1"))


def test_gene_that_the_query_slide_did_not_measure_is_no_dash(mixed):
    at = start(mixed, IMAGE_PAGE, spot="N:B0003-1")
    at.text_input(key="find").set_value("CD8A").run()
    table = html(at).split("si-pred")[1].split("</table>")[0]
    assert "not measured</span>" in table
    assert "–</td>" not in table.replace("0–", "")


def test_prediction_from_hits_of_which_some_are_plain_says_so(mixed):
    at = start(mixed, IMAGE_PAGE, spot="W:B0003-1", match="images")
    assert any(tile["slide"] == "W" for tile in tiles(at))
    assert "of the 48 hits (the others lie on slides that did not measure the gene)" in captions(at)


def test_hits_that_are_all_plain_predict_nothing_and_say_why(mixed):
    at = start(mixed, IMAGE_PAGE, spot="W:B0003-1", match="images")
    at.multiselect(key="slide").set_value(["W"]).run()
    assert "None of the 48 hits lies on a slide with counts" in at.info[0].value


def test_gene_profiles_that_are_searched_are_those_that_there_are(mixed):
    at = start(mixed, IMAGE_PAGE, spot="W:B0003-1")
    assert "among the gene profiles of 200 spots" in captions(at)


# ---- maps ------------------------------------------------------------------------------------


def test_map_is_drawn_only_when_it_is_asked_for_and_starts_with_the_first_gene(mixed):
    at = start(mixed, IMAGE_PAGE, spot="W:B0003-1")
    assert at.toggle(key="map").label == "Predicted map of gene"
    first = html(at).split("si-pred")[1].split("<b>")[1].split("</b>")[0]
    assert at.selectbox(key="mapgene").value == first
    assert "Map of" not in map_captions(at)
    at.toggle(key="map").set_value(True).run()
    assert not at.exception
    assert f"Map of {first} on slide W, predicted, not measured" in map_captions(at)


def test_map_of_a_plain_slide_is_called_predicted_and_of_a_measured_one_measured(mixed):
    at = start(mixed, IMAGE_PAGE, spot="W:B0003-1", map="true", mapgene="CD8A")
    assert "CD8A on slide W: predicted, not measured" in map_captions(at)
    assert "on 2 slides that measured the gene" in map_captions(at)
    at = start(mixed, IMAGE_PAGE, spot="M0:B0003-1", map="true", mapgene="CD8A")
    assert at.toggle(key="map").label == "Measured map of gene"
    assert "CD8A on slide M0: measured at its spots" in map_captions(at)


def test_gene_that_a_measured_slide_lacks_is_mapped_as_predicted(mixed):
    at = start(mixed, IMAGE_PAGE, spot="N:B0003-1", map="true", mapgene="CD8A")
    assert "CD8A on slide N: predicted, not measured" in map_captions(at)
    at.selectbox(key="mapgene").set_value("CD3E").run()
    assert at.toggle(key="map").label == "Measured map of gene"
    assert at.toggle(key="map").value is True
    assert "CD3E on slide N: measured" in map_captions(at)


def test_spot_of_a_slide_without_pictures_is_refused_in_a_sentence(tmp_path):
    encoder = ToyEncoder()
    fewer = tuple(gene for gene in TOY_GENES if gene != "CD8A")
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    ingest(store, encoder, toy_slide("M0", 40))
    blind = replace(toy_slide("B", 40, seed=3, genes=fewer), image=None, mpp=None)
    ingest(store, encoder, blind)
    at = start(store, IMAGE_PAGE, spot="B:B0003-1")
    assert "no image embedding" in errors(at)


XY = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=300)


@given(XY, st.integers(1, 50))
def test_thinned_places_are_at_most_so_many_and_all_of_them_where_they_fit(places, most):
    xy = np.array(places, float)
    kept = maps.thinned(xy, most)
    assert 1 <= len(kept) <= max(most, 1)
    assert len(set(kept.tolist())) == len(kept)
    if len(xy) <= most:
        assert kept.tolist() == list(range(len(xy)))


def test_thinned_places_cover_the_slide_evenly():
    x, y = np.meshgrid(np.arange(300.0), np.arange(300.0))
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    kept = xy[maps.thinned(xy, 20_000)]
    assert 10_000 <= len(kept) <= 20_000
    per_quarter = np.histogram2d(*kept.T, bins=2)[0]
    assert per_quarter.max() < 1.1 * per_quarter.min()


def test_caption_of_a_thinned_map_says_so():
    made = maps.GeneMap(b"", True, 19_900, 250_000, 3)
    assert "19,900 of 250,000 places, taken on a grid, are predicted" in made.caption("CD8A", "W")


def test_map_has_the_colour_of_each_value_at_its_place():
    slide = jpeg(np.full((300, 400, 3), 230, np.uint8))
    places = map_picture.Places(
        np.array([[0.25, 0.5], [0.75, 0.5]]), np.array([0.0, 5.0]), spacing=0.2
    )
    made = map_picture.map_picture(slide, places, title="CD8A, measured", bar=(0.2, "1 mm"))
    picture = np.asarray(Image.open(io.BytesIO(made)).convert("RGB")).astype(int)
    low, high = map_picture.colours(np.array([0.0, 5.0]), (0.0, 5.0)).astype(int)
    assert np.abs(picture[150, 100] - low).max() < 12
    assert np.abs(picture[150, 300] - high).max() < 12
    assert picture.shape[0] > 300  # title, colour bar and scale bar stand below


@pytest.mark.parametrize("values", [[2.0, 2.0], [np.nan, np.nan], [np.nan, 3.0]])
def test_map_of_one_value_or_none_can_be_drawn(values):
    places = map_picture.Places(np.array([[0.2, 0.5], [0.8, 0.5]]), np.array(values), 0.1)
    slide = jpeg(np.full((60, 80, 3), 230, np.uint8))
    low, high = map_picture.colour_range(places.values)
    assert low < high
    assert map_picture.map_picture(slide, places, title="x" * 200, bar=(0.2, "1 mm"))
