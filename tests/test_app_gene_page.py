"""Gene to image without a browser: what it shows, and how it refuses."""

from __future__ import annotations

import pytest

from tests.browser.app_pages import (
    chips,
    component,
    edit,
    errors,
    infos,
    markdown,
    paste,
    start,
    tiles,
)
from tests.support import TOY_GENES, toy_slide, toy_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("app"), n_slides=3, n_spots=40)


def test_gene_page_opens_on_results_of_an_example_in_the_store(store):
    at = start(store)
    assert chips(at) == ["CD8A high", "EPCAM low"]
    shown = tiles(at)
    assert [tile["rank"] for tile in shown] == list(range(1, 49))
    scores = [float(tile["score"]) for tile in shown]
    assert scores == sorted(scores, reverse=True)
    assert all(store.thumbnails([tile["row"]])[0] for tile in shown)


def names_of_components(at) -> list[str]:
    return [c.proto.component_name.removeprefix("stamp_") for c in at.get("bidi_component")]


def captions(at) -> str:
    return " ".join(caption.value.replace("\\", "") for caption in at.caption)


def test_query_in_the_address_is_answered(store):
    at = start(store, q="ADIPOQ high")
    assert chips(at) == ["ADIPOQ high"]
    assert {gene["gene"] for tile in tiles(at) for gene in tile["genes"]} == {"ADIPOQ"}


def test_hits_show_what_the_store_measured_there_with_its_percentile(store):
    at = start(store, q="CD8A high", k="5")
    values = store.expression(["CD8A"])[:, 0]
    for tile in tiles(at):
        spot_id = tile["alt"].split("spot ")[1].split(",")[0]
        value = values[store.row_of(spot_id)]
        below = 100 * sum(other < value for other in values) / len(values)  # slow and obvious
        assert tile["genes"][0]["value"] == f"{value:.1f}"
        assert tile["genes"][0]["percentile"] == f"p{int(below)}"


def test_address_carries_k_and_filters(store):
    at = start(store, q="CD8A high", k="7", slide="S2")
    assert len(tiles(at)) == 7
    assert {tile["slide"] for tile in tiles(at)} == {"S2"}


def test_every_score_is_called_cosine_and_the_encoder_is_named(store):
    at = start(store)
    told = captions(at)
    assert "48 hits by cosine among the images of 120 spots" in told
    assert f"encoder toy {store.card.fingerprint[:8]}" in told
    assert "cosine" in markdown(at)


def test_example_button_becomes_the_query(store):
    at = start(store)
    at.button(key="try-COL1A1 high, DCN high").click().run()
    assert chips(at) == ["COL1A1 high", "DCN high"]
    assert [gene["gene"] for gene in tiles(at)[0]["genes"]] == ["COL1A1", "DCN"]


def test_unknown_gene_is_searched_only_when_it_is_resolved(store):
    at = start(store, q="CD8 high, EPCAM low")
    first = component(at, "query_bar")["terms"][0]
    assert first["state"] == "unknown"
    assert first["offers"][0] == "CD8A"
    assert "Still open: **CD8**" in markdown(at)
    assert "gallery" not in names_of_components(at)
    edit(at, "CD8A high, EPCAM low")  # as a click on an offer does
    assert at.query_params["q"] == "CD8A high, EPCAM low"
    assert len(tiles(at)) == 48


def test_unknown_genes_can_be_left_out(store):
    at = start(store, q="NOSUCHGENE high, EPCAM high, NORTHIS low")
    at.button(key="leave-out").click().run()
    assert chips(at) == ["EPCAM high"]
    assert len(tiles(at)) == 48


def test_edit_becomes_the_address_once_and_going_back_is_not_undone(store):
    at = start(store, q="CD8A high")
    edit(at, "EPCAM high, CD8A low")
    assert at.query_params["q"] == "EPCAM high, CD8A low"
    at.query_params["q"] = (
        "CD8A high"  # the browser's back button; the element still holds the edit
    )
    at.run()
    assert chips(at) == ["CD8A high"]
    assert at.query_params["q"] in ("CD8A high", ["CD8A high"])


def test_pasted_list_joins_the_query_and_says_what_it_could_not_read(store):
    at = start(store, q="CD8A high")
    paste(at, "CD8A high", "gene\tlogFC\nEPCAM\t-2\nMS4A1\t1\n<b>x</b>\t1\nCD8A\t-1")
    assert chips(at) == ["CD8A low", "EPCAM -2", "MS4A1 high"]
    told = captions(at)
    assert "2 things of the list" in told
    assert "cannot be read as a gene" in told
    assert "CD8A was in the query already" in told
    at.button(key="dismiss").click().run()
    assert "of the list" not in captions(at)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("A" * 100_001, "at most 100000 are read", id="long"),
        pytest.param("CD8A\0EPCAM", "bytes that are no text", id="bytes"),
    ],
)
def test_paste_that_is_no_list_leaves_the_query_alone(store, text, message):
    at = start(store, q="CD8A high")
    paste(at, "CD8A high", text)
    assert chips(at) == ["CD8A high"]
    assert message in captions(at)


def test_other_name_of_a_gene_is_shown_by_its_symbol_and_said(store):
    at = start(store, q="HER2 high, ENSG00000153563 low")
    assert chips(at) == ["ERBB2 high", "CD8A low"]
    told = captions(at)
    assert "HER2 is ERBB2 here; ENSG00000153563 is CD8A here" in told
    assert {gene["gene"] for gene in tiles(at)[0]["genes"]} == {"ERBB2", "CD8A"}


def test_marker_set_becomes_the_query_and_names_its_source(store):
    at = start(store, q="EPCAM high")
    button = at.button(key="set-t_cell_cd8")
    assert "CD8A, CD8B" in button.help
    assert "left out: CD8B, CD3G" in button.help
    assert "doi:10.1186/s40425-017-0215-8" in button.help.replace("\\", "")
    assert "http" not in button.help
    button.click().run()
    assert chips(at) == ["CD8A high", "CD3D high", "CD3E high"]
    assert len(tiles(at)) == 48


def test_marker_set_can_be_added_to_the_query(store):
    at = start(store, q="EPCAM low")
    at.toggle(key="addset").set_value(True).run()
    at.button(key="set-t_cell_cd8").click().run()
    assert chips(at) == ["EPCAM low", "CD8A high", "CD3D high", "CD3E high"]


def test_gmt_file_offers_its_sets_and_cuts_what_a_query_cannot_hold(store):
    genes = "\t".join(TOY_GENES)
    gmt = f"T cells\tx\tCD8A\tCD3E\tNOSUCH\nall\tx\t{genes}\n" + "".join(
        f"other {at}\tx\tEPCAM\n" for at in range(100)
    )
    at = start(store, q="EPCAM high")
    at.file_uploader(key="genefile").set_value(("sets.gmt", gmt.encode(), "text/plain")).run()
    which = at.selectbox(key="which-set")
    assert which.label == "Set · 102 of 102 fit; the first 50 are listed"
    assert len(which.options) == 50
    at.button(key="use-set").click().run()
    assert chips(at) == ["CD8A high", "CD3E high"]
    assert "1 cannot be asked for, left out: NOSUCH" in captions(at)
    at.text_input(key="find-set").set_value("ALL").run()
    at.button(key="use-set").click().run()
    assert len(chips(at)) == 50
    assert f"The first 50 of the other {len(TOY_GENES)} are used" in captions(at)


def test_plain_list_in_a_file_becomes_the_query(store):
    at = start(store, q="EPCAM high")
    list_of_genes = b"\xef\xbb\xbfCD8A\nEPCAM low\n???\n"
    at.file_uploader(key="genefile").set_value(("genes.csv", list_of_genes, "text/csv")).run()
    at.button(key="use-list").click().run()
    assert chips(at) == ["CD8A high", "EPCAM low"]
    assert "Line 3" in captions(at)


@pytest.mark.parametrize("sign", [",", "\t"])
def test_table_of_sources_and_targets_offers_its_sets_with_their_weights(store, sign):
    lines = [
        ["source", "target", "weight"],
        ["T", "CD8A", "2"],
        ["T", "EPCAM", "-1"],
        ["B", "MS4A1", "1"],
    ]
    table = "\ufeff" + "\n".join(sign.join(line) for line in lines)
    at = start(store, q="CD3E high")
    at.file_uploader(key="genefile").set_value(("net.csv", table.encode(), "text/csv")).run()
    assert at.selectbox(key="which-set").label == "Set · 2 of 2 fit"
    at.button(key="use-set").click().run()
    assert chips(at) == ["CD8A 2", "EPCAM low"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("x.csv", b"source,target,weight\nT,CD8A,many\n", "A weight is", id="weight"),
        pytest.param("x.csv", b"source,target\n", "has no line", id="only a head"),
        pytest.param("x.csv", b'source,target\nT,"CD8A\n', "cannot be read", id="open quote"),
        pytest.param("x.gmt", b"PK\x03\x04zip", "not a GMT file; it looks like a zip", id="zip"),
        pytest.param("x.gmt", b"<html><script>", "a web page", id="html"),
        pytest.param("x.gmt", b"name only\n", "Line 1 of the GMT file", id="short line"),
        pytest.param("x.gmt", b"", "has no set", id="empty"),
        pytest.param("x.csv", b"\xff\xfe\x00C", "no text in UTF-8", id="bytes"),
    ],
)
def test_file_that_holds_no_genes_is_one_sentence(store, name, content, message):
    at = start(store, q="EPCAM high")
    at.file_uploader(key="genefile").set_value((name, content, "text/plain")).run()
    if at.error:
        assert message in errors(at)
    else:
        at.button(key="use-list").click().run()
        assert message in errors(at)
    assert chips(at) == ["EPCAM high"]
    assert not at.exception


@pytest.mark.parametrize(
    ("text", "message", "kept", "rest"),
    [
        pytest.param("CD8A high, cd8a low", "both high and low", ["CD8A high"], "cd8a low", id="high and low"),
        pytest.param("CD8A very high, EPCAM low", "Cannot read 'CD8A very high'", ["EPCAM low"], "CD8A very high", id="unreadable"),
        pytest.param("HER2 high, ERBB2 low", "both high and low", ["ERBB2 high"], "ERBB2 low", id="by two names"),
        pytest.param("", "names no gene", [], "", id="empty"),
    ],
)  # fmt: skip
def test_query_that_cannot_be_answered_says_why_and_can_be_edited(store, text, message, kept, rest):
    at = start(store, q=text)
    assert message in errors(at) + infos(at)
    assert names_of_components(at) == ["query_bar"]
    assert chips(at) == kept
    assert component(at, "query_bar")["rest"] == rest


def test_nonsense_query_is_said_to_stand_out_in_nothing(store):
    at = start(store, q=", ".join(f"{gene} high" for gene in TOY_GENES[48:60]))
    assert any("Nothing stands out" in warning.value for warning in at.warning)


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


@pytest.mark.parametrize("k", ["1e999", "9" * 400, "-1e999"])
def test_number_in_the_address_that_no_float_holds_is_dropped(store, k):
    at = start(store, q="CD8A high", k=k)
    assert len(tiles(at)) == 48
    assert "k" not in at.query_params


def test_scores_of_the_tiles_are_those_of_the_mixture_that_is_asked(store):
    asked = {"q": "CD8A high", "like": "S1:B0003-1", "k": "5"}
    shown = {}
    for mix in ("10", "90"):
        at = start(store, **asked, mix=mix)
        shown[mix] = [tile["score"] for tile in tiles(at)]
    assert shown["10"] != shown["90"]
    at = start(store, **asked, mix="10")
    assert [tile["score"] for tile in tiles(at)] == shown["10"]


def test_filter_that_names_nothing_of_the_store_is_said_and_not_counted(store):
    at = start(store, q="CD8A high", organ=["liver <b>", "breast"])
    assert "no organ 'liver <b>': not filtered by it" in "".join(
        one.value.replace("\\", "") for one in at.warning
    )
    assert {tile["organ"] for tile in tiles(at)} == {"breast"}
