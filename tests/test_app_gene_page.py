"""Gene to image without a browser: what it shows, and how it refuses."""

from __future__ import annotations

import pytest

from tests.browser.app_pages import component, errors, markdown, start, tiles
from tests.support import TOY_GENES, toy_slide, toy_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("app"), n_slides=3, n_spots=40)


def test_gene_page_opens_on_results_of_an_example_in_the_store(store):
    at = start(store)
    assert at.text_input(key="genes").value == "CD8A high, EPCAM low"
    shown = tiles(at)
    assert [tile["rank"] for tile in shown] == list(range(1, 49))
    scores = [float(tile["score"]) for tile in shown]
    assert scores == sorted(scores, reverse=True)
    assert all(store.thumbnails([tile["row"]])[0] for tile in shown)


def test_query_in_the_address_is_answered(store):
    at = start(store, q="ADIPOQ high")
    assert at.text_input(key="genes").value == "ADIPOQ high"
    assert {gene["gene"] for tile in tiles(at) for gene in tile["genes"]} == {"ADIPOQ"}


def test_hits_show_what_the_store_measured_there_with_its_percentile(store):
    at = start(store, q="CD8A high", k="5")
    values = store.expression(["CD8A"])[:, 0]
    for tile in tiles(at):
        spot_id = tile["alt"].split("spot ")[1].split(",")[0]
        value = values[store.row_of(spot_id)]
        below = 100 * sum(other < value for other in values) / len(values)  # slow and obvious
        assert tile["genes"][0]["value"] == f"{value:.1f}"
        assert tile["genes"][0]["percentile"] == f"p{below:.0f}"


def test_address_carries_k_and_filters(store):
    at = start(store, q="CD8A high", k="7", slide="S2")
    assert len(tiles(at)) == 7
    assert {tile["slide"] for tile in tiles(at)} == {"S2"}


def test_every_score_is_called_cosine_and_the_encoder_is_named(store):
    at = start(store)
    captions = " ".join(caption.value for caption in at.caption)
    assert "48 hits by cosine among the images of 120 spots" in captions
    assert f"encoder toy {store.card.fingerprint[:8]}" in captions
    assert "cosine" in markdown(at)


def test_example_button_becomes_the_query(store):
    at = start(store)
    at.button(key="try-COL1A1 high, DCN high").click().run()
    assert at.text_input(key="genes").value == "COL1A1 high, DCN high"
    assert [gene["gene"] for gene in tiles(at)[0]["genes"]] == ["COL1A1", "DCN"]


def test_unknown_gene_offers_close_names_and_one_click_repairs_the_query(store):
    at = start(store, q="CD8 high, EPCAM low")
    assert "CD8" in errors(at)
    at.button(key="fix-CD8-CD8A").click().run()
    assert at.text_input(key="genes").value == "CD8A high, EPCAM low"
    assert not at.error
    assert len(tiles(at)) == 48


def test_unknown_gene_can_be_left_out(store):
    at = start(store, q="NOSUCHGENE high, EPCAM high")
    at.button(key="drop-NOSUCHGENE").click().run()
    assert at.text_input(key="genes").value == "EPCAM high"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("CD8A high, cd8a low", "CD8A", id="high and low"),
        pytest.param("", "names no gene", id="empty"),
        pytest.param("CD8A very high", "Cannot read 'CD8A very high'", id="unreadable"),
    ],
)
def test_query_that_cannot_be_answered_says_why(store, text, message):
    at = start(store, q=text)
    assert message.casefold() in errors(at).casefold()
    assert not at.get("bidi_component")


def test_message_that_quotes_a_link_is_shown_letter_by_letter(store):
    at = start(store, q="![x](http://elsewhere.example/x.png)")
    assert "\\!\\[x\\]" in at.error[0].value


def test_picked_hit_is_the_one_in_the_detail(store):
    at = start(store, q="CD8A high")
    key = component(at, "gallery")["key"]
    at.session_state["gallery"] = {"picked": {"key": key, "rank": 3}}
    at.run()
    third = tiles(at)[2]["alt"].split("spot ")[1].split(",")[0]
    assert f"#3 · {third}" in markdown(at)


def test_pick_of_an_earlier_query_does_not_outlive_it(store):
    at = start(store, q="CD8A high")
    at.session_state["gallery"] = {"picked": {"key": "of-another-query", "rank": 3}}
    at.run()
    assert "#1 · " in markdown(at)


def test_slides_without_images_are_listed_without_pictures(tmp_path):
    mixed = [toy_slide("S1", 20, 0), toy_slide("S2", 20, 1, image=False)]
    store = toy_store(tmp_path, slides=mixed)
    at = start(store, q="CD8A high", slide="S2", **{"in": "gene profiles"})
    assert {tile["row"] for tile in tiles(at)} == {None}


def test_gene_that_one_slide_did_not_measure_is_predicted_there_and_said_to_be(tmp_path):
    fewer = tuple(gene for gene in TOY_GENES if gene != "CD8A")
    slides = [toy_slide("S1", 20, 0), toy_slide("S2", 20, 1, genes=fewer)]
    at = start(toy_store(tmp_path, slides=slides), q="CD8A high, CD3E high", slide="S2")
    for tile in tiles(at):
        assert [gene["kind"] for gene in tile["genes"]] == ["predicted", "measured"]
        assert tile["note"] == "italic: predicted, not measured"
        assert tile["mark"] == ""  # the slide has counts, of other genes
    assert "predicted, not measured" in tiles(at)[0]["genes"][0]["title"]


def test_gene_at_spots_with_nothing_to_predict_it_from_is_said_in_words(tmp_path):
    fewer = tuple(gene for gene in TOY_GENES if gene != "CD8A")
    slides = [toy_slide("S1", 20, 0), toy_slide("S2", 20, 1, genes=fewer, image=False)]
    store = toy_store(tmp_path, slides=slides)
    at = start(store, q="CD8A high", slide="S2", **{"in": "gene profiles"})
    assert {tile["genes"][0]["value"] for tile in tiles(at)} == {"not measured here"}
    assert "has no picture" in tiles(at)[0]["genes"][0]["title"]
