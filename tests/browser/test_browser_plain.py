"""Slides without counts in a real browser: what is predicted looks like it, and maps are drawn."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import serving
from tests.browser.test_browser_app import READY, detail, open_page, spot_of
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


@pytest.mark.parametrize("size", [(1440, 900), (1024, 768)], ids=lambda size: f"{size[0]}")
def test_predicted_map_is_drawn_when_it_is_switched_on(page, mixed_server, screenshots, size):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    open_page(page, mixed_server.url("image", spot="W:B0003-1", mapgene="CD8A"))
    page.get_by_text("Slide W is H&E only: nothing was measured").wait_for()
    assert page.get_by_alt_text("Map of").count() == 0
    page.get_by_text("Predicted map of gene").click()
    picture = page.get_by_alt_text("Map of CD8A on slide W, predicted, not measured")
    picture.wait_for()
    source = picture.get_attribute("src").removeprefix("data:image/jpeg;base64,")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB")).astype(int)
    for name, colour in {"yellow": (253, 231, 37), "violet": (68, 1, 84)}.items():  # of viridis
        assert (np.abs(pixels - colour).max(axis=2) < 40).mean() > 0.03, name
    assert "map=true" in page.url  # the address brings the map back
    fits(page)
    page.screenshot(path=screenshots / f"image_to_gene_map_{size[0]}.png")


def test_another_slide_has_its_own_map(page, mixed_server):
    open_page(page, mixed_server.url("image", spot="M0:B0003-1", map="true", mapgene="CD8A"))
    page.get_by_alt_text("Map of CD8A on slide M0, measured").wait_for()
    page.get_by_text("Measured map of gene").wait_for()
    key = page.locator(READY).get_attribute("data-ready")
    entry = page.get_by_label("Spot id")
    entry.fill("W:B0003-1")
    entry.press("Enter")
    page.wait_for_selector(f'.grid[data-ready]:not([data-ready="{key}"])')
    page.get_by_alt_text("Map of CD8A on slide W, predicted, not measured").wait_for()
    page.get_by_text("Predicted map of gene").wait_for()
