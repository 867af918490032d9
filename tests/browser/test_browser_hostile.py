"""Files and stores that an open page did not expect: one sentence, and everybody else goes on."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from stamp_index.store import Store
from tests.browser.app_pages import png
from tests.browser.conftest import serving
from tests.browser.driving import viewer
from tests.support import toy_rows, toy_slides, toy_store

TILES = ".grid[data-ready] .tile"
MARKUP = "<img src=x onerror=alert(1)>"


# ---- pictures that are something else besides ------------------------------------------------


def with_a_zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.html", f"<script>{MARKUP}</script>")
    return png(np.full((300, 300, 3), 120, np.uint8)) + archive.getvalue()


def gif_of_html() -> bytes:
    return b"GIF89a/*" + MARKUP.encode() + b"*/=1;alert(1)" + bytes(200)


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(np.full((300, 300, 3), grey, np.uint8)) for grey in (60, 200)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


def svg() -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg">{MARKUP}</svg>'.encode()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        pytest.param(gif_of_html, "a.gif.png", id="html in a GIF"),
        pytest.param(svg, "a.svg.png", id="SVG"),
        pytest.param(lambda: b"%PDF-1.7\n" + bytes(500), "a.pdf.png", id="PDF"),
        pytest.param(lambda: animated("GIF"), "moving.png", id="a GIF that moves"),
        pytest.param(lambda: png(np.zeros((1, 1, 3), np.uint8)), "one.png", id="one pixel"),
    ],
)
def test_what_is_no_picture_of_tissue_is_refused_in_a_sentence(page, server, data, name):
    page.goto(server.url("image", mpp="0.5"))
    page.locator('input[type="file"]').wait_for(state="attached")
    page.locator('input[type="file"]').set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": data()}
    )
    page.locator('[data-testid="stAlert"]').filter(has_text=re.compile(r"\.$")).first.wait_for()
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.locator(".tile")).to_have_count(0)


def test_of_a_picture_with_an_archive_behind_it_only_the_picture_is_read(page, server):
    page.goto(server.url("image", mpp="2.0"))
    page.locator('input[type="file"]').wait_for(state="attached")
    page.locator('input[type="file"]').set_input_files(
        {"name": f"{MARKUP}.png", "mimeType": "image/png", "buffer": with_a_zip()}
    )
    page.locator(TILES).first.wait_for()
    expect(page.locator("img[src='x']")).to_have_count(0)


# ---- GeoJSON ---------------------------------------------------------------------------------


def squares(n: int, name: str = "") -> bytes:
    """As many squares of 40 px within a slide of 550 x 250."""
    left, top = np.arange(n) * 7 % 500, np.arange(n) * 11 % 200
    shapes = [
        f'{{"type":"Feature","properties":{{"name":{json.dumps(name)}}},"geometry":{{"type":"Polygon","coordinates":'
        f"[[[{x},{y}],[{x + 40},{y}],[{x + 40},{y + 40}],[{x},{y}]]]}}}}"
        for x, y in zip(left.tolist(), top.tolist(), strict=True)
    ]
    return f'{{"type":"FeatureCollection","features":[{",".join(shapes)}]}}'.encode()


def load_geojson(page, data, name: str = "q.geojson") -> None:
    page.get_by_role("button", name="Load GeoJSON").click()
    page.locator('input[type="file"]').set_input_files(
        {"name": name, "mimeType": "application/geo+json", "buffer": data}
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(lambda: squares(100_000), "at most 10,000", id="100,000 shapes"),
        pytest.param(lambda: b"[" * 200_000, "GeoJSON|holds too much|JSON", id="deep"),
        pytest.param(lambda: b"{}", "GeoJSON", id="empty object"),
        pytest.param(
            lambda: squares(1).replace(b"[0,0]", b"[NaN,0]"), "Shape 1 of the file", id="NaN"
        ),
    ],
)
def test_geojson_that_cannot_be_read_is_a_sentence_within_memory(page, server, data, sentence):
    page.goto(server.url("", s="S1"))
    viewer(page)
    content, before = data(), server.memory_mb()
    load_geojson(page, content)
    page.locator('[data-testid="stAlert"]').filter(has_text=re.compile(sentence)).first.wait_for()
    expect(page.get_by_text("Traceback")).to_have_count(0)
    assert server.memory_mb() - before < 100


def test_geojson_above_the_limit_is_not_sent(page, server, tmp_path):
    huge = tmp_path / "huge.geojson"
    huge.write_bytes(b" " * (21 * 1024 * 1024))
    page.goto(server.url("", s="S1"))
    viewer(page)
    page.get_by_role("button", name="Load GeoJSON").click()
    page.locator('input[type="file"]').set_input_files(huge)
    page.get_by_text("huge.geojson").hover()
    page.get_by_text(re.compile("20(.0)? ?MB or smaller")).first.wait_for()


def test_ten_thousand_shapes_with_markup_for_names_are_loaded_and_shown_as_text(page, server):
    page.goto(server.url("", s="S1"))
    viewer(page)
    load_geojson(page, squares(10_000, MARKUP))
    page.get_by_text("10,000 annotations on this slide").wait_for()
    page.get_by_text("the first 500 are drawn").wait_for()
    expect(page.locator("img[src='x']")).to_have_count(0)


@pytest.mark.parametrize(
    "said",
    [
        "https://evil.example/x",
        "www.evil.example",
        "a@evil.example",
        ":material/home: :+1:",
        "&lt",
    ],
)
def test_words_of_an_address_become_neither_links_nor_icons_nor_tags(page, server, said):
    page.goto(server.url("genes", q=f"see {said}"))
    message = page.locator('[data-testid="stAlert"]').first
    message.wait_for()
    assert f"'see {said}'" in message.inner_text().replace("\u2060", "")
    assert message.locator("a, b").count() == 0


@pytest.mark.parametrize("where", ["genes", "probe"])
def test_number_that_no_float_holds_is_taken_out_of_the_address(page, server, where):
    page.goto(server.url(where, q="CD8A high", k="1e999", folds="9" * 400))
    page.get_by_text("Research use only").wait_for()
    page.wait_for_function("() => !/(k|folds)=/.test(location.search)")
    expect(page.get_by_text("Something went wrong")).to_have_count(0)


# ---- a store that goes away or changes -------------------------------------------------------


@pytest.fixture
def own(tmp_path, browser):
    """A store of its own with its server, and a page whose console may name the tiles that are gone."""
    store = toy_store(tmp_path, n_slides=2, n_spots=40)
    with browser.new_context() as context, serving(store.path) as running:
        yield store, running, context.new_page()


def test_store_that_is_deleted_under_an_open_page_is_a_sentence(own):
    store, server, page = own
    page.goto(server.url("", s="S1", gene="CD8A"))
    viewer(page)
    store.path.rename(store.path.with_name("elsewhere"))
    page.locator(".st-key-s input").click()
    page.get_by_role("option", name="S2").click()
    page.get_by_text("This store cannot be opened").wait_for()
    expect(page.get_by_text("Traceback")).to_have_count(0)
    store.path.with_name("elsewhere").rename(store.path)
    page.reload()
    viewer(page)


def test_another_store_in_its_place_is_shown_and_nothing_of_the_first(own, tmp_path):
    store, server, page = own
    page.goto(server.url("genes", q="CD8A high"))
    page.locator(TILES).first.wait_for()
    other = toy_store(tmp_path / "other", slides=toy_slides(3, 30)[2:])
    shutil.rmtree(store.path)
    other.path.rename(store.path)
    page.get_by_role("button", name="COL1A1 high, DCN high").click()
    page.locator(f"{TILES}[aria-label*='S3']").first.wait_for()
    expect(page.locator(f"{TILES}[aria-label*='S1']")).to_have_count(0)


def test_slide_that_is_added_and_one_that_is_deleted_are_seen_by_the_next_query(own):
    store, server, page = own
    page.goto(server.url("genes", q="CD8A high"))
    page.locator(TILES).first.wait_for()
    store.add(toy_rows(toy_slides(3, 40)[2]))
    store.delete("S1")
    page.get_by_role("button", name="COL1A1 high, DCN high").click()
    page.locator(f"{TILES}[aria-label*='S3']").first.wait_for()
    expect(page.locator(f"{TILES}[aria-label*='S1']")).to_have_count(0)


def test_page_that_nobody_touches_says_that_a_newer_version_is_ready(own):
    store, server, page = own
    page.goto(server.url("genes", q="CD8A high"))
    page.locator(TILES).first.wait_for()
    store.delete("S1")
    version = Store.open(store.path).version
    page.get_by_role("button", name=f"v{version} is ready · Reload").click()
    page.get_by_role("button", name=f"store · v{version}").wait_for()
    page.locator(f"{TILES}[aria-label*='S2']").first.wait_for()
    expect(page.locator(f"{TILES}[aria-label*='S1']")).to_have_count(0)
    expect(page.get_by_text("is ready")).to_have_count(0)
