"""Slides without counts in the app: what is predicted is never shown as measured."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest

from stamp_index.embed import ingest
from stamp_index.search import Searcher, predict_map
from stamp_index.store import EncoderCard, Store
from tests.browser.app_pages import (
    IMAGE_PAGE,
    chips,
    component,
    crop,
    errors,
    html,
    png,
    slides_page,
    start,
    tiles,
    upload,
)
from tests.plain_world import mixed_store, plain
from tests.support import TOY_GENES, ToyEncoder, toy_slide

pytest.importorskip("streamlit")

slide_files = importlib.import_module("app.slide_files")
stores = importlib.import_module("app.stores")


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
    assert chips(at) == ["CD8A high", "EPCAM low"]
    assert len(tiles(at)) == 48
    assert "measured on no slide of this store" in captions(at)
    for tile in tiles(at):
        assert {gene["value"] for gene in tile["genes"]} == {"not measured on any slide"}
        assert tile["mark"] == "H&E only"


@pytest.mark.parametrize("text", ["ZZZ9 high", "CD8 high, EPCAM low"])
def test_gene_that_even_the_encoder_does_not_know_is_not_asked_for(bare, text):
    at = start(bare, q=text)
    first = component(at, "query_bar")["terms"][0]
    assert (first["gene"], first["state"]) == (text.split()[0], "unknown")
    assert [c.proto.component_name for c in at.get("bidi_component")] == ["stamp_query_bar"]


def test_close_names_are_offered_from_what_the_encoder_knows(bare):
    at = start(bare, q="CD8 high, EPCAM low")
    states = [(term["state"], term["offers"][:1]) for term in component(at, "query_bar")["terms"]]
    assert states == [("unknown", ["CD8A"]), ("unmeasured", [])]


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


def test_a_gene_of_the_table_is_mapped_on_the_page_of_slides(mixed):
    at = start(mixed, IMAGE_PAGE, spot="W:B0003-1")
    first = html(at).split("si-pred")[1].split("<b>")[1].split("</b>")[0]
    assert at.selectbox(key="nextgene").value == first
    at.selectbox(key="nextgene").set_value(at.selectbox(key="nextgene").options[1]).run()
    gene = at.selectbox(key="nextgene").value
    at.button(key="map-gene").click().run()
    assert not at.exception
    assert component(at, "viewer")["layer"]["name"] == gene
    assert f"{gene}: predicted, not measured" in html(at)
    assert "on 3 slides that measured it" in captions(at) or gene == "CD8A"


def test_a_gene_of_the_table_is_searched_on_the_page_of_genes(mixed):
    at = start(mixed, IMAGE_PAGE, spot="W:B0003-1")
    gene = at.selectbox(key="nextgene").value
    at.button(key="search-gene").click().run()
    assert chips(at) == [f"{gene} high"]


@pytest.mark.parametrize(
    ("slide_id", "gene", "is_predicted"),
    [("W", "CD8A", True), ("M0", "CD8A", False), ("N", "CD8A", True), ("N", "CD3E", False)],
)
def test_a_layer_is_called_predicted_where_the_slide_did_not_measure_it(
    mixed, slide_id, gene, is_predicted
):
    at = slides_page(mixed, s=slide_id, gene=gene)
    assert component(at, "viewer")["layer"]["name"] == gene
    assert ("predicted, not measured" in html(at)) == is_predicted
    stores.use_encoder(ToyEncoder())
    values = slide_files.values_of(stores.open_store(str(mixed.path)), slide_id, {"gene": gene})
    assert values.origin == ("predicted" if is_predicted else "measured")


def test_a_gene_that_cannot_be_predicted_is_a_sentence(tmp_path):
    encoder = ToyEncoder()
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    fewer = tuple(gene for gene in TOY_GENES if gene != "CD8A")
    ingest(store, encoder, toy_slide("M0", 40))
    ingest(store, encoder, replace(toy_slide("B", 40, seed=3, genes=fewer), image=None, mpp=None))
    at = slides_page(store, s="B", gene="CD8A")
    assert "no image embeddings" in at.info[0].value
    assert component(at, "viewer")["layer"] is None


def test_spot_of_a_slide_without_pictures_is_refused_in_a_sentence(tmp_path):
    encoder = ToyEncoder()
    fewer = tuple(gene for gene in TOY_GENES if gene != "CD8A")
    store = Store.create(tmp_path / "s", EncoderCard.of(encoder))
    ingest(store, encoder, toy_slide("M0", 40))
    blind = replace(toy_slide("B", 40, seed=3, genes=fewer), image=None, mpp=None)
    ingest(store, encoder, blind)
    at = start(store, IMAGE_PAGE, spot="B:B0003-1")
    assert "no image embedding" in errors(at)
