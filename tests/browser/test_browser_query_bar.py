"""The gene query bar in a real browser: its chips, what they say, and what changes them."""

from __future__ import annotations

import pytest

from tests.browser.query_bar_page import (
    MARKUP,
    chips,
    log,
    opened,
    query_bar_server,
    typed,
    wait_change,
    wait_chips,
)


@pytest.fixture(scope="module")
def address(browser):
    with query_bar_server() as url:
        yield url


@pytest.fixture
def bar(page, address):
    return opened(page, address)


def test_the_arrow_of_a_chip_flips_it_by_mouse_and_by_keyboard(bar):
    bar.keyboard.type("CD8A,EPCAM,")
    wait_chips(bar, ["+CD8A", "+EPCAM"])
    bar.get_by_role("button", name="EPCAM high").click()
    wait_chips(bar, ["+CD8A", "-EPCAM"])
    wait_change(bar, "CD8A high, EPCAM low")
    bar.get_by_role("combobox").focus()
    bar.keyboard.press("ArrowLeft")
    bar.keyboard.press("ArrowLeft")
    bar.keyboard.press("Enter")
    wait_chips(bar, ["-CD8A", "-EPCAM"])
    wait_change(bar, "CD8A low, EPCAM low")
    bar.wait_for_timeout(150)  # the answer draws the chips anew, and the focus stays
    bar.keyboard.press("Delete")
    wait_chips(bar, ["-EPCAM"])
    wait_change(bar, "EPCAM low")


def test_backspace_marks_the_last_chip_and_then_removes_it(bar):
    bar.keyboard.type("CD8A,EPCAM,")
    wait_chips(bar, ["+CD8A", "+EPCAM"])
    bar.keyboard.press("Backspace")
    assert bar.locator(".gq-chip.armed").inner_text().strip() == "EPCAM"
    bar.keyboard.type("V")
    assert bar.locator(".gq-chip.armed").count() == 0
    for _ in range(3):
        bar.keyboard.press("Backspace")
    wait_chips(bar, ["+CD8A"])
    bar.get_by_role("button", name="Remove CD8A").click()
    wait_chips(bar, [])
    wait_change(bar, "")


def test_an_unknown_gene_says_so_and_offers_others(bar, screenshots):
    bar.keyboard.type("CD8X low,CD8A,")
    wait_chips(bar, ["-CD8X unknown", "+CD8A"])
    row = bar.locator(".gq-offer")
    assert row.inner_text().startswith("CD8X is unknown here. Did you mean")
    bar.keyboard.press("Control+Enter")
    bar.get_by_role("status").get_by_text("CD8X is unknown: choose a gene for it").wait_for()
    assert log(bar, "submit") == []
    bar.screenshot(path=screenshots / "query_bar_unknown.png")
    row.get_by_role("button", name="CD8B").click()
    wait_chips(bar, ["-CD8B", "+CD8A"])
    bar.keyboard.press("Control+Enter")
    bar.wait_for_function("log.submit.length")
    assert log(bar, "submit") == ["CD8B low, CD8A high"]


def test_an_ambiguous_and_an_unmeasured_gene_are_told_in_words(bar):
    typed(bar, "CD85")
    bar.keyboard.press("Enter")  # of two genes that have the name none is taken unasked
    bar.keyboard.type("KRT8,")
    wait_chips(bar, ["+CD85 ambiguous", "+KRT8 not measured"])
    row = bar.locator(".gq-offer")
    assert row.inner_text().startswith("CD85 means several genes. Did you mean")
    row.get_by_role("button", name="LILRB1").click()
    wait_chips(bar, ["+LILRB1", "+KRT8 not measured"])


def test_of_many_unknown_genes_the_first_three_have_rows(bar):
    bar.keyboard.type("QXA1,QXA2,QXA3,QXA4,QXA5,")
    wait_chips(bar, [f"+QXA{n} unknown" for n in range(1, 6)])
    assert bar.locator(".gq-offer").count() == 4
    assert bar.locator(".gq-offer").last.inner_text() == "Then 2 more: QXA4, QXA5."


def test_a_gene_that_is_there_is_changed_rather_than_doubled(bar):
    bar.keyboard.type("CD8A,cd8a low,")
    wait_chips(bar, ["-CD8A"])
    wait_change(bar, "CD8A low")


def test_at_most_fifty_genes_are_taken(bar):
    terms = [{"gene": f"KRT{at}", "weight": 1} for at in range(1, 51)]
    bar.evaluate("terms => bar.update({terms, stamp: 'fifty'})", terms)
    bar.keyboard.type("EPCAM")
    bar.keyboard.press("Enter")
    bar.get_by_role("status").get_by_text("At most 50 genes").wait_for()
    assert len(chips(bar)) == 50


def test_a_marker_set_adds_its_genes_and_takes_them_back(bar):
    chosen = bar.get_by_role("button", name="T cell, CD4")
    chosen.click()
    wanted = ["+CD4", "+CD3D", "+CD3E", "+CD3G", "-CD8A", "-CD8B"]
    wait_chips(bar, wanted)
    assert chosen.get_attribute("aria-pressed") == "true"
    chosen.click()
    wait_chips(bar, [])


def test_the_keyboard_alone_reaches_everything(bar):
    bar.keyboard.type("CD8A,EPCAM,")
    wait_chips(bar, ["+CD8A", "+EPCAM"])
    bar.keyboard.press("Tab")
    bar.evaluate("bar.update({terms: [{gene: 'CD8A'}, {gene: 'EPCAM'}], stamp: 'again'})")
    assert bar.evaluate("document.activeElement.className") == "gq-set"  # drawing takes no focus
    bar.keyboard.press("Shift+Tab")
    assert bar.evaluate("document.activeElement.className") == "gq-input"
    bar.keyboard.press("Shift+Tab")  # one stop for all chips
    assert bar.evaluate("document.activeElement.className") == "gq-level"
    bar.keyboard.press("Shift+Tab")
    assert bar.evaluate("document.activeElement.className.startsWith('gq')") is False


def test_names_are_text_and_never_markup(bar):
    assert bar.get_by_role("button", name=MARKUP).count() == 1
    terms = [{"gene": MARKUP, "weight": 1, "state": "unknown", "offers": [MARKUP]}]
    bar.evaluate("terms => bar.update({terms, stamp: 'markup'})", terms)
    assert bar.locator(".gq-gene").inner_text() == MARKUP
    assert bar.locator("img").count() == 0
    assert bar.title() == "bar"


def test_a_bar_that_is_taken_down_leaves_nothing(bar):
    bar.keyboard.type("CD8")
    bar.evaluate("bar.destroy()")
    bar.wait_for_timeout(200)
    assert bar.locator("#bar *").count() == 0


def test_the_bar_fits_a_narrow_page_and_is_pictured(bar, screenshots):
    bar.keyboard.type("CD8A,CD3E 2,EPCAM low,KRT8 low,CD8X,")
    wait_chips(bar, ["+CD8A", "+CD3E ×2", "-EPCAM", "-KRT8 not measured", "+CD8X unknown"])
    typed(bar, "HER")
    bar.keyboard.press("ArrowDown")
    bar.screenshot(path=screenshots / "query_bar_wide.png")
    bar.set_viewport_size({"width": 480, "height": 700})
    assert bar.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    bar.screenshot(path=screenshots / "query_bar_narrow.png")
