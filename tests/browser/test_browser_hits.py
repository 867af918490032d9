"""Gene to image in a browser: hits, their keys, files and links, and what is refused."""

from __future__ import annotations

import csv
import io
import json

from PIL import Image
from playwright.sync_api import expect

from tests.browser.driving import (
    GRID,
    detail,
    downloaded,
    gene_input,
    looks_at,
    open_page,
    spot_of,
    viewer,
    wait_chips,
)


def test_gene_page_shows_results_at_once(page, server):
    open_page(page, server.url("genes", q="CD8A high, EPCAM low"))
    expect(page.locator(".tile")).to_have_count(48)
    picture = page.locator(".tile img").first
    assert picture.evaluate("img => img.decode().then(() => img.naturalWidth)") > 0
    expect(page.locator(".tile").first.get_by_text("cosine")).to_have_count(1)
    page.get_by_text("Research use only").wait_for()


def test_click_on_a_hit_shows_it_in_the_middle_of_its_slide(page, server, store):
    open_page(page, server.url("genes", q="CD8A high", slide="S1"))
    first, fourth = (spot_of(page.locator(f'.tile[data-rank="{rank}"]')) for rank in (1, 4))
    detail(page, 1, first)
    looks_at(page, store, first)
    page.locator('.tile[data-rank="4"]').click()
    detail(page, 4, fourth)
    looks_at(page, store, fourth)


def test_look_of_a_hit_joins_the_query_and_its_filters_stay(page, server):
    open_page(page, server.url("genes", q="CD8A high", k="20", notpatient="P2"))
    page.get_by_role("button", name="Add its look").click()
    page.get_by_text("and the look of").wait_for()
    page.locator(f"{GRID} .tile").nth(19).wait_for()
    assert "k=20" in page.url
    assert "notpatient=P2" in page.url
    expect(page.locator(".tile")).to_have_count(20)


def test_keys_of_hits_work_after_a_tile_was_clicked(page, server):
    open_page(page, server.url("genes", q="CD8A high", slide="S1"))
    page.locator('.tile[data-rank="4"]').click()
    detail(page, 4, spot_of(page.locator('.tile[data-rank="4"]')))
    page.locator(".st-key-hitview .si-host").hover()
    page.keyboard.press("n")
    detail(page, 5, spot_of(page.locator('.tile[data-rank="5"]')))


def test_view_of_a_slide_is_not_written_into_the_next_pages_address(page, server):
    page.goto(server.url("", s="S1"))
    viewer(page)
    page.get_by_role("link", name="Similar regions").click()
    page.get_by_role("heading", name="Similar regions").wait_for()
    viewer(page)
    page.wait_for_timeout(1500)
    assert "view=" not in page.url


def test_arrow_keys_move_and_enter_picks(page, server):
    open_page(page, server.url("genes", q="CD8A high"))
    tops = page.locator(".tile").evaluate_all("all => all.map(tile => tile.offsetTop)")
    per_row = tops.count(tops[0])
    page.locator('.tile[data-rank="1"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    rank = 2 + per_row
    detail(page, rank, spot_of(page.locator(f'.tile[data-rank="{rank}"]')))
    picked = page.locator('.tile[aria-selected="true"]')
    assert picked.get_attribute("data-rank") == str(rank)


def test_new_query_starts_at_its_first_hit(page, server):
    open_page(page, server.url("genes", q="CD8A high"))
    page.locator('.tile[data-rank="3"]').click()
    detail(page, 3, spot_of(page.locator('.tile[data-rank="3"]')))
    key = page.locator(GRID).get_attribute("data-ready")
    page.get_by_role("button", name="COL1A1 high, DCN high").click()
    page.wait_for_selector(f'.grid[data-ready]:not([data-ready="{key}"])')
    detail(page, 1, spot_of(page.locator('.tile[data-rank="1"]')))
    assert "COL1A1" in page.url


def test_typed_query_is_answered_and_kept_in_the_address(page, server):
    open_page(page, server.url("genes", q="EPCAM high"))
    key = page.locator(GRID).get_attribute("data-ready")
    gene_input(page)
    page.keyboard.type("ADIPOQ low")
    page.keyboard.press("Enter")
    page.wait_for_selector(f'.grid[data-ready]:not([data-ready="{key}"])')
    assert "q=EPCAM+high%2C+ADIPOQ+low" in page.url
    open_page(page, page.url)  # the address alone brings the same back
    wait_chips(page, ["+EPCAM", "-ADIPOQ"])


def test_unknown_gene_is_repaired_by_one_click(page, server):
    page.goto(server.url("genes", q="CD8 high, EPCAM low"))
    page.get_by_text("CD8 is unknown here").wait_for()
    expect(page.locator(".tile")).to_have_count(0)
    page.get_by_role("button", name="CD8A", exact=True).click()
    page.wait_for_selector(f"{GRID} .tile")
    wait_chips(page, ["+CD8A", "-EPCAM"])


def test_gene_both_high_and_low_is_refused(page, server):
    page.goto(server.url("genes", q="EPCAM high, EPCAM low"))
    page.get_by_text("both high and low").wait_for()
    expect(page.locator(".tile")).to_have_count(0)


def test_link_with_a_foreign_picture_fetches_nothing(page, server):
    page.goto(
        server.url("genes", q="![x](http://192.0.2.1/x.png) <img src=http://192.0.2.1/y.png>")
    )
    page.get_by_text("Cannot read").wait_for()  # the page fixture refuses foreign requests


def test_hits_are_taken_along_as_files(page, server):
    open_page(page, server.url("genes", q="CD8A high", k="9"))
    rows = list(csv.DictReader(io.StringIO(downloaded(page, "CSV").decode())))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 10)]
    assert {row["query"] for row in rows} == {"CD8A high"}
    assert {"spot_id", "barcode", "x_px", "y_px", "score", "CD8A", "store_version"} <= set(rows[0])
    assert Image.open(io.BytesIO(downloaded(page, "Contact sheet"))).width > 1000
    assert downloaded(page, "h5ad")[:4] == b"\x89HDF"
    record = json.loads(downloaded(page, "Record"))
    assert [hit["spot_id"] for hit in record["hits"]] == [row["spot_id"] for row in rows]
    page.get_by_role("button", name="GeoJSON").click()
    shapes = json.loads(downloaded(page, "Download GeoJSON"))["features"]
    assert len(shapes) == sum(row["slide_id"] == rows[0]["slide_id"] for row in rows)


def test_a_copied_link_opens_the_same_hits(page, server, browser):
    asked = {"q": "CD8A high", "k": "7", "one": "neighbourhood", "notpatient": "P2"}
    open_page(page, server.url("genes", **asked, where="n_counts > 10"))
    spots = [spot_of(tile) for tile in page.locator(".tile").all()]
    page.get_by_role("button", name="Copy link").click()
    link = page.get_by_text("/genes?q=CD8A").inner_text()
    assert link.startswith(server.served.url())
    with browser.new_context() as context:
        other = context.new_page()
        open_page(other, link)
        assert [spot_of(tile) for tile in other.locator(".tile").all()] == spots


def test_hits_as_python_can_be_copied(page, server):
    open_page(page, server.url("genes", q="CD8A high"))
    page.get_by_role("button", name="Copy as Python").click()
    page.get_by_text("searcher.search_genes(").first.wait_for()


def test_hit_becomes_the_query_of_the_other_page(page, server):
    open_page(page, server.url("genes", q="CD8A high"))
    spot_id = spot_of(page.locator('.tile[data-rank="1"]'))
    page.get_by_role("button", name="Use as query").click()
    page.get_by_role("heading", name="Predicted expression").wait_for()
    expect(page.get_by_label("Spot id")).to_have_value(spot_id)
    assert "/image?" in page.url


def test_two_people_do_not_see_each_other(page, server, browser):
    open_page(page, server.url("genes", q="CD8A high"))
    with browser.new_context() as context:
        other = context.new_page()
        open_page(other, server.url("genes", q="ADIPOQ high"))
        wait_chips(other, ["+ADIPOQ"])
    page.locator('.tile[data-rank="2"]').click()
    detail(page, 2, spot_of(page.locator('.tile[data-rank="2"]')))
    wait_chips(page, ["+CD8A"])


def test_everything_that_can_be_pressed_has_a_name(page, server):
    open_page(page, server.url("genes"))
    nameless = page.locator("button").evaluate_all(
        "all => all.filter(b => !(b.innerText.trim() || b.ariaLabel || b.title)"
        " && b.offsetParent).map(b => b.outerHTML.slice(0, 200))"
    )
    assert nameless == []
