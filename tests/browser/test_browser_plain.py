"""Slides without counts in a real browser: what is predicted looks like it, and maps are drawn."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.browser.driving import detail, open_page, spot_of
from tests.plain_world import mixed_store


@pytest.fixture(scope="module")
def mixed_server(tmp_path_factory, browser):
    store, _, _ = mixed_store(tmp_path_factory.mktemp("mixed"))
    with serving(store.path) as running:
        yield running


def style(locator, name: str) -> str:
    return locator.evaluate(f"node => getComputedStyle(node)['{name}']")


def fits(page) -> None:
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0, f"the page is {wider} px wider than its window"


def test_predicted_values_look_different_from_measured_ones(page, mixed_server, screenshots):
    open_page(page, mixed_server.url("genes", q="CD8A high, EPCAM low"))
    guessed = page.locator(".tile:has(.mark)").first
    measured = page.locator(".tile:not(:has(.mark))").first
    assert guessed.locator(".mark").inner_text() == "H&E only"
    assert guessed.get_by_text("predicted, not measured").count() == 1
    assert measured.get_by_text("predicted").count() == 0
    assert style(guessed.locator(".val").first, "fontStyle") == "italic"
    assert style(measured.locator(".val").first, "fontStyle") == "normal"
    assert "repeating-linear-gradient" in style(guessed.locator(".fill").first, "backgroundImage")
    assert style(measured.locator(".fill").first, "backgroundImage") == "none"
    guessed.click()
    detail(page, int(guessed.get_attribute("data-rank")), spot_of(guessed))
    mark = page.locator(".si-table .si-guess").first
    mark.wait_for()
    assert mark.inner_text() == "predicted, not measured"
    table = page.locator(".si-table").bounding_box()
    inside = mark.bounding_box()
    assert inside["x"] + inside["width"] <= table["x"] + table["width"]
    page.get_by_text("H&E only, nothing measured").wait_for()
    fits(page)
    page.screenshot(path=screenshots / "gene_to_image_plain.png")


def test_a_gene_of_a_plain_slide_opens_in_the_viewer_and_is_called_predicted(
    page, mixed_server, screenshots
):
    open_page(page, mixed_server.url("image", spot="W:B0003-1"))
    page.get_by_text("Slide W is H&E only: nothing was measured").wait_for()
    button = page.get_by_role("button", name=re.compile("Map of .* on this slide"))
    gene = button.inner_text().split()[2]
    button.click()
    page.get_by_text(f"{gene}: predicted, not measured").wait_for()
    host = page.locator(".st-key-slide .si-host")
    host.get_by_text("predicted, not measured").wait_for()  # in the viewer's legend too
    assert host.evaluate("host => host.__stamp.layer()") == gene
    assert gene in page.get_by_role("group", name="Gene", exact=True).inner_text()
    assert "s=W" in page.url
    fits(page)
    page.screenshot(path=screenshots / "slide_predicted.png")


def test_a_measured_slide_shows_the_same_gene_as_measured(page, mixed_server):
    page.goto(mixed_server.url("", s="M0", gene="CD8A"))
    host = page.locator(".st-key-slide .si-host")
    host.get_by_text("CD8A").first.wait_for()
    expect(page.get_by_text("predicted, not measured")).to_have_count(0)
