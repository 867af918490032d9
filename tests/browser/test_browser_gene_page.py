"""The gene query bar on its page: typing, pasting, correcting, marker sets, files, keys and the browser's own buttons."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.driving import chips, gene_input, viewer, wait_chips

HITS = ".grid[data-ready] .tile"
PASTE = """text => {
  const data = new DataTransfer();
  data.setData("text", text);
  let at = document.activeElement;
  while (at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
  at.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""
FOCUSED = """() => {
  let at = document.activeElement;
  while (at && at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
  return at ? at.className : "";
}"""


def query(page, name: str = "q") -> str:
    """What the address carries."""
    return parse_qs(urlsplit(page.url).query).get(name, [""])[0]


def wait_query(page, wanted: str, name: str = "q") -> None:
    """Wait until the address carries a query."""
    page.wait_for_function(
        "([name, wanted]) => new URLSearchParams(location.search).get(name) === wanted",
        arg=[name, wanted],
    )


def hits(page, server, text: str):
    """Open a query and wait for its hits."""
    page.goto(server.url("genes", q=text))
    page.locator(HITS).first.wait_for()
    return page


def upload(page, name: str, content: str) -> None:
    page.get_by_role("button", name="Marker sets").click()
    page.get_by_role("tab", name="Your own list or file").click()
    page.locator('input[type="file"]').set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": content.encode()}
    )


def test_typed_gene_is_suggested_taken_and_searched(page, server):
    hits(page, server, "CD8A high")
    gene_input(page)
    page.keyboard.type("epc")
    page.get_by_role("option", name="EPCAM").wait_for()
    page.keyboard.press("Enter")
    wait_chips(page, ["+CD8A", "+EPCAM"])
    wait_query(page, "CD8A high, EPCAM high")
    page.locator(".tile").filter(has_text="EPCAM").first.wait_for()
    assert page.evaluate(FOCUSED) == "gq-input"  # to type the next one


def test_query_that_comes_while_the_bar_is_loading_is_the_one_shown(page, server):
    held = []
    page.route("**/query_bar/streamlit.js", lambda route: held.append(route))
    hits(page, server, "CD8A high")
    page.get_by_role("button", name="COL1A1 high, DCN high").click()
    wait_query(page, "COL1A1 high, DCN high")
    page.locator(".tile").filter(has_text="COL1A1").first.wait_for()
    for route in held:
        route.continue_()
    page.locator(".gq-chip").first.wait_for()
    wait_chips(page, ["+COL1A1", "+DCN"])


def test_flip_and_backspace_change_the_query(page, server):
    hits(page, server, "CD8A high, EPCAM high")
    page.get_by_role("button", name="EPCAM high. Make it low").click()
    wait_query(page, "CD8A high, EPCAM low")
    wait_chips(page, ["+CD8A", "-EPCAM"])
    gene_input(page)
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    wait_query(page, "CD8A high")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.get_by_text("The query names no gene").wait_for()
    page.locator(".tile").first.wait_for(state="detached")


def test_weight_is_typed_after_the_gene(page, server):
    hits(page, server, "CD8A high")
    gene_input(page)
    page.keyboard.type("CD3E 2.5")
    page.keyboard.press("Enter")
    wait_query(page, "CD8A high, CD3E 2.5")
    assert page.locator(".gq-weight").inner_text() == "×2.5"


def test_fast_edits_lose_nothing(page, server):
    hits(page, server, "CD8A high")
    gene_input(page)
    page.keyboard.type("EPCAM low,CD3E,MS4A1 2,CD4,")
    wait_query(page, "CD8A high, EPCAM low, CD3E high, MS4A1 2, CD4 high")
    wait_chips(page, ["+CD8A", "-EPCAM", "+CD3E", "+MS4A1", "+CD4"])


def test_pasted_list_is_merged_and_what_was_not_read_is_said(page, server):
    hits(page, server, "CD8A high")
    gene_input(page)
    page.evaluate(PASTE, "MS4A1 high, KRT8 low\nHER2 up\n<img>")
    wait_chips(page, ["+CD8A", "+MS4A1", "-KRT8", "+ERBB2"])
    page.get_by_text("cannot be read as a gene").wait_for()
    page.get_by_text("HER2 is ERBB2 here").wait_for()
    page.get_by_role("button", name="Dismiss").click()
    page.get_by_text("cannot be read as a gene").wait_for(state="detached")
    wait_chips(page, ["+CD8A", "+MS4A1", "-KRT8", "+ERBB2"])


def test_unknown_gene_stops_the_search_until_it_is_resolved(page, server):
    hits(page, server, "EPCAM low")
    gene_input(page)
    page.keyboard.type("CD8,")
    page.get_by_text("CD8 is unknown here").wait_for()
    page.locator(".tile").first.wait_for(state="detached")
    page.get_by_role("button", name="Leave CD8 out").click()
    page.locator(HITS).first.wait_for()
    wait_chips(page, ["-EPCAM"])


def test_ensembl_id_and_alias_of_a_link_are_shown_by_symbol(page, server):
    hits(page, server, "ENSG00000153563 high, her2 low")
    wait_chips(page, ["+CD8A", "-ERBB2"])
    page.get_by_text("her2 is ERBB2 here").wait_for()


@pytest.mark.parametrize(
    ("text", "sentence", "kept", "field"),
    [
        ("EPCAM high, EPCAM low", "both high and low", ["+EPCAM"], "EPCAM low"),
        ("CD8A hihg, EPCAM low", "Cannot read", ["-EPCAM"], "CD8A hihg"),
    ],
    ids=["both", "unreadable"],
)
def test_link_that_is_no_query_can_be_edited(page, server, text, sentence, kept, field):
    page.goto(server.url("genes", q=text))
    page.get_by_text(sentence).wait_for()
    wait_chips(page, kept)
    typed = gene_input(page)
    assert typed.input_value() == field
    typed.fill("CD8A high")
    page.keyboard.press("Enter")
    wait_chips(page, [*kept, "+CD8A"])
    page.locator(HITS).first.wait_for()


def test_marker_set_becomes_the_query(page, server):
    hits(page, server, "EPCAM high")
    page.get_by_role("button", name="Marker sets").click()
    chosen = page.get_by_role("button", name="T cell, CD8", exact=True)
    chosen.hover()
    source = page.get_by_text("doi:10.1186/s40425-017-0215-8")
    source.wait_for()
    assert source.locator("a").count() == 0
    chosen.click()
    wait_query(page, "CD8A high, CD3D high, CD3E high")
    wait_chips(page, ["+CD8A", "+CD3D", "+CD3E"])
    page.locator(HITS).first.wait_for()


def test_set_of_a_gmt_file_becomes_the_query(page, server):
    hits(page, server, "EPCAM high")
    upload(page, "mine.gmt", "B CELLS\tx\tMS4A1\tCD79A\tNOSUCH\n<b>x</b>\tx\tEPCAM\n")
    page.get_by_role("button", name="Use this set").click()
    wait_chips(page, ["+MS4A1", "+CD79A"])
    page.get_by_text("left out: NOSUCH").first.wait_for()


def test_file_that_is_no_gmt_is_a_sentence(page, server):
    hits(page, server, "EPCAM high")
    upload(page, "mine.gmt", "%PDF-1.7 not a list")
    page.get_by_text("looks like a PDF").wait_for()
    assert chips(page) == ["+EPCAM"]


def test_g_over_a_viewer_goes_to_the_genes_and_ctrl_enter_searches(page, server):
    hits(page, server, "EPCAM high")
    viewer(page).hover()
    page.keyboard.press("g")
    page.wait_for_function(f"() => ({FOCUSED})() === 'gq-input'")
    page.keyboard.type("CD8A low")
    page.keyboard.press("Control+Enter")
    wait_query(page, "EPCAM high, CD8A low")
    wait_chips(page, ["+EPCAM", "-CD8A"])


def test_back_and_forward_are_earlier_and_later_queries(page, server):
    hits(page, server, "EPCAM high")
    page.get_by_role("button", name="EPCAM high. Make it low").click()
    wait_query(page, "EPCAM low")
    page.locator(HITS).first.wait_for()
    page.get_by_role("button", name="COL1A1 high, DCN high").click()
    wait_chips(page, ["+COL1A1", "+DCN"])
    page.go_back()
    wait_chips(page, ["-EPCAM"])
    page.go_back()
    wait_chips(page, ["+EPCAM"])
    assert query(page) == "EPCAM high"
    page.go_forward()
    wait_chips(page, ["-EPCAM"])
    page.locator(HITS).first.wait_for()


def test_gene_box_of_the_slides_page_changes_what_colours_the_spots(page, server):
    page.goto(server.url("", s="S1", gene="EPCAM"))
    viewer(page)
    page.locator(".gq-gene").filter(has_text="EPCAM").wait_for()
    viewer(page).hover()
    page.keyboard.press("g")
    page.keyboard.type("her2")
    page.get_by_role("option", name="ERBB2").click()
    wait_query(page, "ERBB2", "gene")
    page.locator(".si-host").get_by_text("ERBB2").first.wait_for()
    page.keyboard.type("CD8X")
    page.keyboard.press("Enter")
    page.get_by_text("Did you mean CD8A").wait_for()


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)], ids=lambda size: f"{size[0]}")
def test_top_of_the_page_leaves_room_for_the_hits(page, server, screenshots, size):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    hits(page, server, "CD8A high, CD3E 2, EPCAM low")
    assert page.locator(".tile").first.bounding_box()["y"] < 400
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0
    gene_input(page)
    page.keyboard.type("KRT")
    page.locator(".gq-option").first.wait_for()
    page.screenshot(path=screenshots / f"gene_query_{size[0]}.png")
