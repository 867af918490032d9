"""A slide as files and regions, stores that cannot be shown, and pages in small windows."""

from __future__ import annotations

import csv
import importlib
import io
import json

import pytest
from PIL import Image
from playwright.sync_api import expect
from shapely import Polygon
from shapely.geometry import shape

from stamp_index.addresses import decode_polygon
from tests.browser.driving import downloaded, open_page

LASSO = "90.90.200.0.0.60.-200.0"


def test_a_region_is_taken_along_as_files(page, server, store):
    page.goto(server.url("", s="S1", gene="CD8A", poly=LASSO))
    page.get_by_text("Lasso: ").wait_for()
    rows = list(csv.DictReader(io.StringIO(downloaded(page, "Spots CSV").decode())))
    assert rows
    assert {row["slide_id"] for row in rows} == {"S1"}
    assert all(90 <= float(row["x_px"]) <= 290 for row in rows)
    assert downloaded(page, "h5ad")[:4] == b"\x89HDF"
    slide = page.locator(".st-key-slide .si-host")
    slide.get_by_text("log1p CP10K").wait_for()  # its legend comes last
    slide.hover()
    page.mouse.wheel(0, -600)
    page.wait_for_function("() => location.search.includes('view=')")
    page.get_by_role("button", name="Figure PNG").click()
    whole = downloaded(page, "Download figure")
    assert Image.open(io.BytesIO(whole)).width == 1400
    assert b"<svg" in downloaded(page, "Download SVG")
    page.get_by_text("What is seen now").click()
    page.wait_for_timeout(1000)  # the page runs once more
    part = downloaded(page, "Download figure")
    assert part != whole
    screen = slide.evaluate("host => host.__stamp.screen()")
    size = {side: screen[side] / screen["scale"] for side in ("width", "height")}
    ends = (
        screen["left"],
        screen["top"],
        screen["left"] + size["width"],
        screen["top"] + size["height"],
    )
    slide_files = importlib.import_module("app.slide_files")
    opened = importlib.import_module("app.stores").open_store(str(store.path))
    outline = [Polygon(decode_polygon(LASSO))]
    box = tuple(float(round(end)) for end in ends)
    assert part == slide_files.figure(opened, "S1", {"gene": "CD8A"}, (outline, box)).png()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Copy link").click()
    link = page.locator(".here code").filter(has_text="view=").inner_text()
    assert f"poly={LASSO}" in link
    assert "drawer" not in link


def test_a_lasso_asks_for_similar_regions(page, server):
    page.goto(server.url("", s="S2", gene="CD8A", poly=LASSO))
    page.get_by_text("Lasso: ").wait_for()
    page.get_by_role("button", name="Find similar regions").click()
    page.get_by_text("spots asked").wait_for()
    assert "/regions?" in page.url
    assert f"poly={LASSO}" in page.url
    page.get_by_text("#1 on slide").wait_for()
    assert page.locator(".st-key-s input").input_value() == "S2"
    page.get_by_role("button", name="Copy link").click()
    assert "s=S2" in page.get_by_text("/regions?s=").inner_text()


def test_annotations_come_back_as_regions_that_can_be_clicked(page, server):
    page.goto(server.url("", s="S1", gene="CD8A", poly=LASSO))
    page.get_by_text("Lasso: ").wait_for()
    said = page.get_by_text("Lasso: ").inner_text().removeprefix("Lasso: ")
    page.get_by_role("button", name="GeoJSON", exact=True).click()
    shapes = downloaded(page, "Download GeoJSON")
    drawn = Polygon(decode_polygon(LASSO))
    taken = [shape(one["geometry"]) for one in json.loads(shapes)["features"]]
    assert any(one.equals(drawn) for one in taken)
    page.goto(server.url("", s="S1", gene="CD8A"))
    page.get_by_role("button", name="Load GeoJSON").click()
    page.locator('input[type="file"]').set_input_files(
        {"name": "q.geojson", "mimeType": "application/geo+json", "buffer": shapes}
    )
    page.get_by_text("1 annotation on this slide").wait_for()
    page.keyboard.press("Escape")
    host = page.locator(".st-key-slide .si-host")
    host.get_by_text("log1p CP10K").wait_for()  # its legend comes last
    page.wait_for_function(
        "host => host.__stamp.ready && host.__stamp.counts().regions", arg=host.element_handle()
    )
    x, y = host.evaluate(
        """host => {
            const {scale, left, top} = host.__stamp.screen();
            const area = host.querySelector(".si-canvas").getBoundingClientRect();
            return [area.left + (95 - left) * scale, area.top + (90 - top) * scale];
        }"""
    )
    page.mouse.click(x, y)
    page.get_by_text(f"Lasso: {said}").wait_for()


@pytest.mark.parametrize("where", ["", "image"])
def test_empty_store_says_what_to_run(page, empty_server, where):
    page.goto(empty_server.url(where))
    page.get_by_text("This store has no slides yet").wait_for()
    expect(page.get_by_text("Traceback")).to_have_count(0)


def test_damaged_store_is_a_sentence(page, broken_server):
    page.goto(broken_server.url())
    page.get_by_text("This store cannot be opened").wait_for()
    expect(page.get_by_text("Traceback")).to_have_count(0)


@pytest.mark.parametrize("size", [(1440, 900), (1024, 768)], ids=lambda size: f"{size[0]}")
@pytest.mark.parametrize(
    ("name", "where", "query"),
    [("gene_to_image", "genes", {}), ("image_to_gene", "image", {"spot": "S1:B0013-1"})],
    ids=["gene", "image"],
)
def test_page_fits_its_window(page, server, screenshots, size, name, where, query):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    open_page(page, server.url(where, **query))
    page.wait_for_timeout(500)
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0, f"the page is {wider} px wider than its window"
    page.screenshot(path=screenshots / f"{name}_{size[0]}.png")
