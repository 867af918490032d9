"""Image to gene in a browser: uploads, the square, stored spots, and what is refused."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.driving import (
    GRID,
    open_page,
    png,
    spot_of,
    upload,
)
from tests.support import toy_slides


def test_uploaded_patch_finds_its_own_spot_first(page, server):
    slide = toy_slides(3, 40)[1]
    x, y = slide.spots[["x_px", "y_px"]].to_numpy()[13]
    page.goto(server.url("image", match="images", mpp="2.0"))
    page.locator('input[type="file"]').wait_for(state="attached")
    upload(page, png(slide.image.read(x - 84, y - 84, 168, 168)))
    page.wait_for_selector(f"{GRID} .tile")
    assert spot_of(page.locator('.tile[data-rank="1"]')) == "S2:B0013-1"
    page.get_by_role("heading", name="Predicted expression").wait_for()


def test_square_is_moved_by_mouse_and_by_keys(page, server):
    slide = toy_slides(3, 40)[1]
    whole = slide.image.overview(max(slide.image.size_px))
    page.goto(server.url("image", match="images", mpp="2.0"))
    page.locator('input[type="file"]').wait_for(state="attached")
    upload(page, png(whole))
    page.wait_for_selector(f"{GRID} .tile")
    key = page.locator(GRID).get_attribute("data-ready")
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
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.locator(".tile")).to_have_count(0)
    assert server.memory_mb() - before < 150


def test_file_above_the_limit_is_not_sent(page, server, tmp_path):
    huge = tmp_path / "huge.png"
    huge.write_bytes(bytes(21 * 1024 * 1024))
    page.goto(server.url("image"))
    page.get_by_text("20MB per file").wait_for()
    page.locator('input[type="file"]').set_input_files(huge)
    page.get_by_text("huge.png").hover()
    page.get_by_text(re.compile("20(.0)? ?MB or smaller")).first.wait_for()
    expect(page.locator(".tile")).to_have_count(0)


def test_blank_picture_is_doubted(page, server):
    page.goto(server.url("image", mpp="2.0"))
    page.locator('input[type="file"]').wait_for(state="attached")
    upload(page, png(np.full((200, 200, 3), 244, np.uint8)))
    page.get_by_text("looks blank").wait_for()


def test_picture_without_a_pixel_size_is_not_searched_with_a_guess(page, server, store):
    page.goto(server.url("image"))
    page.locator('input[type="file"]').wait_for(state="attached")
    upload(page, png(np.full((300, 300, 3), 120, np.uint8)))
    page.get_by_text("Give the pixel size of your picture").wait_for()
    expect(page.locator(".tile")).to_have_count(0)
