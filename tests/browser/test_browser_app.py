"""The app in a real browser: picking, correcting, uploading, refusing, and how it looks."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser.driving import gene_input, viewer, wait_chips
from tests.support import toy_slides

READY = ".grid[data-ready]"


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def open_page(page, url: str) -> None:
    """Open an address and wait until its hits are there."""
    page.goto(url)
    page.wait_for_selector(f"{READY} .tile")


def spot_of(tile) -> str:
    return tile.get_attribute("aria-label").split("spot ")[1].split(",")[0]


def detail(page, rank: int, spot_id: str):
    """Wait until the detail shows this hit."""
    page.get_by_text(f"#{rank} · {spot_id}").wait_for()


def upload(page, data: bytes, name: str = "query.png") -> None:
    kind = "image/jpeg" if name.endswith("jpg") else "image/png"
    page.locator('input[type="file"]').set_input_files(
        {"name": name, "mimeType": kind, "buffer": data}
    )


def looks_at(page, store, spot_id: str) -> None:
    """Wait until the viewer of hits has a spot in its middle."""
    row = store.row_of(spot_id)
    x, y = store.spots(["x_px", "y_px"], rows=[row]).iloc[0].tolist()
    page.wait_for_function(
        """([x, y]) => {
            const held = document.querySelector(".st-key-hitview .stBidiComponent *");
            const host = [...document.querySelectorAll(".st-key-hitview *")]
                .flatMap(node => node.shadowRoot ? [...node.shadowRoot.querySelectorAll(".si-host")] : [])[0]
                ?? document.querySelector(".st-key-hitview .si-host");
            if (!held || !host?.__stamp?.ready) return false;
            const view = host.__stamp.view();
            return Math.abs(view.x - x) < 2 && Math.abs(view.y - y) < 2;
        }""",
        arg=[x, y],
    )


def downloaded(page, name: str) -> bytes:
    """What a button of this name hands over."""
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()).read_bytes()


# ---- gene to image ---------------------------------------------------------------------------


def test_gene_page_shows_results_at_once(page, server):
    open_page(page, server.url("genes", q="CD8A high, EPCAM low"))
    assert page.locator(".tile").count() == 48
    picture = page.locator(".tile img").first
    assert picture.evaluate("img => img.decode().then(() => img.naturalWidth)") > 0
    assert page.locator(".tile").first.get_by_text("cosine").count() == 1
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
    assert "k=20" in page.url
    assert "notpatient=P2" in page.url
    assert page.locator(".tile").count() == 20


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


def test_picture_without_a_pixel_size_is_not_searched_with_a_guess(page, server, store):
    page.goto(server.url("image"))
    page.locator('input[type="file"]').wait_for(state="attached")
    upload(page, png(np.full((300, 300, 3), 120, np.uint8)))
    page.get_by_text("Give the pixel size of your picture").wait_for()
    assert page.locator(".tile").count() == 0


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
    key = page.locator(READY).get_attribute("data-ready")
    page.get_by_role("button", name="COL1A1 high, DCN high").click()
    page.wait_for_selector(f'.grid[data-ready]:not([data-ready="{key}"])')
    detail(page, 1, spot_of(page.locator('.tile[data-rank="1"]')))
    assert "COL1A1" in page.url


def test_typed_query_is_answered_and_kept_in_the_address(page, server):
    open_page(page, server.url("genes", q="EPCAM high"))
    key = page.locator(READY).get_attribute("data-ready")
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
    assert page.locator(".tile").count() == 0
    page.get_by_role("button", name="CD8A", exact=True).click()
    page.wait_for_selector(f"{READY} .tile")
    wait_chips(page, ["+CD8A", "-EPCAM"])


def test_gene_both_high_and_low_is_refused(page, server):
    page.goto(server.url("genes", q="EPCAM high, EPCAM low"))
    page.get_by_text("both high and low").wait_for()
    assert page.locator(".tile").count() == 0


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
    assert page.get_by_label("Spot id").input_value() == spot_id
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


# ---- image to gene ---------------------------------------------------------------------------


def test_uploaded_patch_finds_its_own_spot_first(page, server):
    slide = toy_slides(3, 40)[1]
    x, y = slide.spots[["x_px", "y_px"]].to_numpy()[13]
    page.goto(server.url("image", match="images", mpp="2.0"))
    page.locator('input[type="file"]').wait_for(state="attached")
    upload(page, png(slide.image.read(x - 84, y - 84, 168, 168)))
    page.wait_for_selector(f"{READY} .tile")
    assert spot_of(page.locator('.tile[data-rank="1"]')) == "S2:B0013-1"
    page.get_by_role("heading", name="Predicted expression").wait_for()


def test_square_is_moved_by_mouse_and_by_keys(page, server):
    slide = toy_slides(3, 40)[1]
    whole = slide.image.overview(max(slide.image.size_px))
    page.goto(server.url("image", match="images", mpp="2.0"))
    page.locator('input[type="file"]').wait_for(state="attached")
    upload(page, png(whole))
    page.wait_for_selector(f"{READY} .tile")
    key = page.locator(READY).get_attribute("data-ready")
    box = page.locator(".box")
    area = box.bounding_box()
    x, y = slide.spots[["x_px", "y_px"]].to_numpy()[25] / slide.image.size_px
    page.mouse.click(area["x"] + x * area["width"], area["y"] + y * area["height"])
    page.wait_for_selector(f'.grid[data-ready]:not([data-ready="{key}"])')
    place = page.get_by_text("centred at").inner_text()
    assert np.allclose(
        [int(n) for n in re.findall(r"(\d+), (\d+) px", place)[0]], (300, 150), atol=3
    )
    domains = dict(zip(slide.spots.index, slide.spots["domain"], strict=True))
    assert domains[spot_of(page.locator('.tile[data-rank="1"]')).split(":")[1]] == "stroma"
    left = page.locator(".mark").evaluate("mark => mark.style.left")
    box.press("ArrowRight")
    page.wait_for_timeout(400)  # the keys are sent a quarter of a second after the last one
    assert page.locator(".mark").evaluate("mark => mark.style.left") != left


def test_click_on_the_overview_makes_another_spot_the_query(page, server):
    open_page(page, server.url("image", spot="S1:B0003-1"))
    area = page.locator(".box").bounding_box()
    page.mouse.click(area["x"] + area["width"] * 0.9, area["y"] + area["height"] * 0.9)
    page.wait_for_function("() => !location.search.includes('B0003')")
    page.locator('input[aria-label="Spot id"][value="S1:B0039-1"]').wait_for()


def bomb() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (13_000, 13_000)).save(file, "PNG")
    return file.getvalue()


REFUSED = [
    pytest.param(lambda: b"just words", "words.png", "was not read", id="text"),
    pytest.param(bomb, "bomb.png", "was not read", id="bomb"),
    pytest.param(
        lambda: png(np.full((600, 600, 3), 90, np.uint8), "JPEG")[:-1500],
        "cut.jpg",
        "was not read",
        id="truncated",
    ),
    pytest.param(lambda: b"x", "<img src=x onerror=alert(1)>.png", "was not read", id="name"),
]


@pytest.mark.parametrize(("data", "name", "sentence"), REFUSED)
def test_upload_that_cannot_be_used_is_a_sentence(page, server, data, name, sentence):
    content = data()
    page.goto(server.url("image"))
    page.get_by_text("at least 112 µm wide").wait_for()
    before = server.memory_mb()
    upload(page, content, name)
    message = page.locator(
        '[data-testid="stAlert"], [data-testid="stFileUploaderFileErrorMessage"]'
    )
    message.filter(has_text=sentence).first.wait_for()
    assert page.get_by_text("Traceback").count() == 0
    assert page.locator(".tile").count() == 0
    assert server.memory_mb() - before < 150


def test_file_above_the_limit_is_not_sent(page, server, tmp_path):
    huge = tmp_path / "huge.png"
    huge.write_bytes(bytes(21 * 1024 * 1024))
    page.goto(server.url("image"))
    page.get_by_text("20MB per file").wait_for()
    page.locator('input[type="file"]').set_input_files(huge)
    page.get_by_text("huge.png").hover()
    page.get_by_text(re.compile("20(.0)? ?MB or smaller")).first.wait_for()
    assert page.locator(".tile").count() == 0


def test_blank_picture_is_doubted(page, server):
    page.goto(server.url("image", mpp="2.0"))
    page.locator('input[type="file"]').wait_for(state="attached")
    upload(page, png(np.full((200, 200, 3), 244, np.uint8)))
    page.get_by_text("looks blank").wait_for()


# ---- slides ----------------------------------------------------------------------------------

LASSO = "90.90.200.0.0.60.-200.0"


def test_a_region_is_taken_along_as_files(page, server):
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
    assert downloaded(page, "Download figure") != whole
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
    page.goto(server.url("", s="S1", gene="CD8A"))
    page.get_by_role("button", name="Load GeoJSON").click()
    page.locator('input[type="file"]').set_input_files(
        {"name": "q.geojson", "mimeType": "application/geo+json", "buffer": shapes}
    )
    page.get_by_text("1 annotation on this slide").wait_for()
    page.keyboard.press("Escape")
    host = page.locator(".st-key-slide .si-host")
    host.get_by_text("log1p CP10K").wait_for()  # its legend comes last
    x, y = host.evaluate(
        """host => {
            const {scale, left, top} = host.__stamp.screen();
            const area = host.querySelector(".si-canvas").getBoundingClientRect();
            return [area.left + (95 - left) * scale, area.top + (90 - top) * scale];
        }"""
    )
    page.mouse.click(x, y)
    page.get_by_text(f"Lasso: {said}").wait_for()


# ---- stores that cannot be shown -------------------------------------------------------------


@pytest.mark.parametrize("where", ["", "image"])
def test_empty_store_says_what_to_run(page, empty_server, where):
    page.goto(empty_server.url(where))
    page.get_by_text("This store has no slides yet").wait_for()
    assert page.get_by_text("Traceback").count() == 0


def test_damaged_store_is_a_sentence(page, broken_server):
    page.goto(broken_server.url())
    page.get_by_text("This store cannot be opened").wait_for()
    assert page.get_by_text("Traceback").count() == 0


# ---- for the eye -----------------------------------------------------------------------------


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
