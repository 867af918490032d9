"""The app in a real browser: picking, correcting, uploading, refusing, and how it looks."""

from __future__ import annotations

import base64
import csv
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import toy_slides

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "app"))

READY = ".grid[data-ready]"
BLUE = np.array([0, 122, 255])  # of the ring


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


def blue_near(page, server, spot_id: str) -> float:
    """Share of ring-blue pixels on a circle around a spot, on the overview that is shown."""
    from app import slide_views, stores
    from stamp_index.store import Store

    store = Store.open(server.store)
    slides = store.slides().set_index("slide_id", drop=False)
    opened = stores.Opened(str(server.store), store, None, slides)
    slide_id = spot_id.split(":")[0]
    view = slide_views.slide_view(opened, slide_id)
    source = page.get_by_alt_text(f"Slide {slide_id} with a ring").get_attribute("src")
    jpeg = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"), validate=True)
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    x, y = view.share(*store.spots(["x_px", "y_px"], rows=[store.row_of(spot_id)]).iloc[0])
    angle = np.linspace(0, 2 * np.pi, 60)
    radius = max(9.0, width / 40) - 2
    at_x = (x * width + radius * np.cos(angle)).round().astype(int).clip(0, width - 1)
    at_y = (y * height + radius * np.sin(angle)).round().astype(int).clip(0, height - 1)
    return float((np.abs(pixels[at_y, at_x] - BLUE).max(axis=1) < 70).mean())


# ---- gene to image ---------------------------------------------------------------------------


def test_gene_page_shows_results_at_once(page, server):
    open_page(page, server.url("genes", q="CD8A high, EPCAM low"))
    assert page.locator(".tile").count() == 48
    assert page.locator(".tile img").first.evaluate("img => img.naturalWidth") > 0
    assert page.locator(".tile").first.get_by_text("cosine").count() == 1
    page.get_by_text("Research use only").wait_for()


def test_click_on_a_hit_shows_it_and_moves_the_ring(page, server):
    open_page(page, server.url("genes", q="CD8A high", slide="S1"))
    first, fourth = (spot_of(page.locator(f'.tile[data-rank="{rank}"]')) for rank in (1, 4))
    detail(page, 1, first)
    assert blue_near(page, server, first) > 0.8
    assert blue_near(page, server, fourth) < 0.5
    page.locator('.tile[data-rank="4"]').click()
    detail(page, 4, fourth)
    page.get_by_alt_text("with a ring at hit 4").wait_for()
    assert blue_near(page, server, fourth) > 0.8
    assert blue_near(page, server, first) < 0.5


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
    open_page(page, server.url("genes"))
    key = page.locator(READY).get_attribute("data-ready")
    page.get_by_label("Genes", exact=True).fill("ADIPOQ high, CD8A low")
    page.keyboard.press("Enter")
    page.wait_for_selector(f'.grid[data-ready]:not([data-ready="{key}"])')
    assert "q=ADIPOQ" in page.url
    open_page(page, page.url)  # the address alone brings the same back
    assert page.get_by_label("Genes", exact=True).input_value() == "ADIPOQ high, CD8A low"


def test_unknown_gene_is_repaired_by_one_click(page, server):
    page.goto(server.url("genes", q="CD8 high, EPCAM low"))
    page.get_by_text("not known here").wait_for()
    page.get_by_role("button", name="CD8A", exact=True).click()
    page.wait_for_selector(f"{READY} .tile")
    assert page.get_by_label("Genes", exact=True).input_value() == "CD8A high, EPCAM low"


def test_gene_both_high_and_low_is_refused(page, server):
    page.goto(server.url("genes", q="EPCAM high, EPCAM low"))
    page.get_by_text("both high and low").wait_for()
    assert page.locator(".tile").count() == 0


def test_link_with_a_foreign_picture_fetches_nothing(page, server):
    page.goto(
        server.url("genes", q="![x](http://192.0.2.1/x.png) <img src=http://192.0.2.1/y.png>")
    )
    page.get_by_text("Cannot read").wait_for()  # the page fixture refuses foreign requests


def test_hits_download_as_csv(page, server):
    open_page(page, server.url("genes", q="CD8A high", k="9"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download hits").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 10)]
    assert {row["query"] for row in rows} == {"CD8A high"}
    assert {"spot_id", "barcode", "x_px", "y_px", "score", "CD8A", "store_version"} <= set(rows[0])


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
        assert other.get_by_label("Genes", exact=True).input_value() == "ADIPOQ high"
    page.locator('.tile[data-rank="2"]').click()
    detail(page, 2, spot_of(page.locator('.tile[data-rank="2"]')))
    assert page.get_by_label("Genes", exact=True).input_value() == "CD8A high"


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
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
    upload(page, content, name)
    message = page.locator(
        '[data-testid="stAlert"], [data-testid="stFileUploaderFileErrorMessage"]'
    )
    message.filter(has_text=sentence).first.wait_for()
    assert page.get_by_text("Traceback").count() == 0
    assert page.locator(".tile").count() == 0
    assert server.memory_mb() - before < 150


def test_file_above_the_limit_is_not_sent(page, server):
    page.goto(server.url("image"))
    page.get_by_text("20MB per file").wait_for()
    upload(page, bytes(21 * 1024 * 1024), "huge.png")
    page.get_by_text("huge.png").hover()
    page.get_by_text(re.compile("20(.0)? ?MB or smaller")).first.wait_for()
    assert page.locator(".tile").count() == 0


def test_blank_picture_is_doubted(page, server):
    page.goto(server.url("image", mpp="2.0"))
    page.locator('input[type="file"]').wait_for(state="attached")
    upload(page, png(np.full((200, 200, 3), 244, np.uint8)))
    page.get_by_text("looks blank").wait_for()


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
    page.get_by_alt_text("with a ring").first.wait_for()
    page.wait_for_timeout(500)
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0, f"the page is {wider} px wider than its window"
    page.screenshot(path=screenshots / f"{name}_{size[0]}.png")
