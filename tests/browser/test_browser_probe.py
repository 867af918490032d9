"""Linear probe in a real browser: a run that goes on through a reload, is cancelled, and is drawn."""

from __future__ import annotations

import math
import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.support import toy_slide, toy_store

PROGRESS = ".st-key-probeprogress"
RESULT = ".st-key-proberesult"
DRAWING = ".st-key-probedrawing"
LONG_MS = 240_000  # a loaded machine


@pytest.fixture(scope="module")
def probe_server(tmp_path_factory, browser):
    """A store that is large enough for a probe to take a while."""
    path = toy_store(tmp_path_factory.mktemp("probe"), n_slides=4, n_spots=1500).path
    with serving(path) as running:
        yield running


@pytest.fixture(scope="module")
def long_server(tmp_path_factory, browser):
    """A store on which a probe by slides takes long enough to be looked at, however quick the machine; its slides have no pictures."""
    slides = [
        toy_slide(f"S{number}", 2400, number, patient_id=f"P{number}", image=False)
        for number in range(1, 11)
    ]
    path = toy_store(tmp_path_factory.mktemp("long"), slides=slides).path
    with serving(path) as running:
        yield running


def start(page) -> None:
    page.get_by_role("button", name="Run").wait_for()
    page.keyboard.press("Control+Enter")
    page.locator(PROGRESS).wait_for()


def await_share(page, above: float) -> float:
    """Wait until the run is further than that, percent, or over (100)."""
    held = page.wait_for_function(
        """above => {
            const place = document.querySelector(".st-key-probeprogress");
            if (!place) return 100;
            const bar = place.querySelector("[role=progressbar]");
            const now = bar ? Number(bar.getAttribute("aria-valuenow")) : 0;
            return now > above ? now : null;
        }""",
        arg=above,
        timeout=LONG_MS,
    )
    return float(held.json_value())


AT_REST = """host => {
    const stamp = host.__stamp || host.firstElementChild?.__stamp;
    try { return Boolean(stamp && stamp.settled() && stamp.counts().spots > 0); }
    catch { return false; }  // no slide is open yet
}"""


def ready(page, place: str):
    """Wait until the viewer in a container shows its spots and its layer; returns its element."""
    host = page.locator(f"{place} .si-host")
    host.wait_for()
    for _ in range(300):
        if host.evaluate(AT_REST):
            return host
        page.wait_for_timeout(100)
    pytest.fail("the viewer does not come to rest")


def test_run_moves_on_survives_a_reload_and_ends_in_a_result(page, long_server):
    page.goto(long_server.url("probe", features="gene", most="24000", split="slide", folds="10"))
    start(page)
    first = await_share(page, 0)
    assert 0 < first < 100, "the run was over before anybody could look"
    words = page.locator(PROGRESS).get_by_text(" embeddings, by slide")
    name = words.inner_text().split(" · ")[0]
    page.reload()
    assert words.inner_text().split(" · ")[0] == name
    assert await_share(page, first) > first
    page.locator(RESULT).wait_for(timeout=LONG_MS)
    page.get_by_role("heading", name=name).wait_for()
    page.get_by_text("Balanced accuracy").first.wait_for()
    layer = ready(page, RESULT).evaluate(
        "host => (host.__stamp || host.firstElementChild.__stamp).layer()"
    )
    assert layer == "Right or wrong"


def test_cancel_ends_the_run_and_leaves_the_page_ready_for_another(page, long_server):
    page.goto(long_server.url("probe", features="gene", most="24000", split="slide", folds="10"))
    start(page)
    assert await_share(page, 0) < 100
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("was cancelled after").wait_for()
    expect(page.locator(PROGRESS)).to_have_count(0)
    page.get_by_role("button", name="Run").wait_for()


def lasso(page, spots: list[int]) -> None:
    """Draw a circle around spots of the slide, given by their numbers."""
    host = page.locator(f"{DRAWING} .si-host")
    expect(host).to_have_count(1)  # an earlier one may still be on its way out
    host.scroll_into_view_if_needed()
    at = host.evaluate(
        "(host, spots) => { const s = host.__stamp || host.firstElementChild.__stamp; return spots.map((i) => s.spotAt(i)); }",
        spots,
    )
    x, y = (sum(one[name] for one in at) / len(at) for name in ("x", "y"))
    radius = 1.3 * max(math.hypot(one["x"] - x, one["y"] - y) for one in at)
    page.locator(DRAWING).get_by_role("button", name="Lasso (L)").click()
    page.mouse.move(x + radius, y)
    page.mouse.down()
    for step in range(1, 25):
        angle = step / 24 * 2 * math.pi
        page.mouse.move(x + radius * math.cos(angle), y + radius * math.sin(angle))
    page.mouse.up()


def add(page, listed: str) -> None:
    """Make the lasso a region of a class; `listed` is how it stands in the list."""
    name = listed.split(" · ")[0]
    page.get_by_text(re.compile(r"^\d+ spots? inside")).wait_for()
    box = page.get_by_label("Class", exact=True)
    box.fill(name)
    box.press("Enter")
    page.get_by_role("button", name="Add region").click()
    page.locator(".st-key-drawnlist").get_by_text(listed).wait_for()


def test_regions_that_are_drawn_here_are_probed(page, server):
    page.goto(server.url("probe", of="Drawn here", split="slide", c="1"))
    assert page.get_by_role("button", name="Run").is_disabled()
    for slide_id in ("S1", "S3"):
        page.get_by_role("combobox", name="Draw on slide").click()
        page.get_by_role("option", name=slide_id).click()
        page.get_by_label(f"Slide {slide_id}", exact=True).wait_for()
        ready(page, DRAWING)
        lasso(page, [0, 1, 10, 11, 20, 21])
        add(page, f"left · {slide_id}")
        lasso(page, [6, 7, 16, 17, 26, 27])
        add(page, f"right · {slide_id}")
    page.locator(".st-key-run button:not([disabled])").click()
    page.locator(RESULT).wait_for(timeout=LONG_MS)
    page.get_by_role("heading", name="drawn here from image embeddings").wait_for()
    matrix = page.locator(".sp-confusion")
    assert matrix.locator("th[scope=row]").all_inner_texts() == ["left", "right"]


def test_downloads_hold_every_spot_and_its_fold(page, server):
    page.goto(server.url("probe", split="slide", c="1", folds="2"))
    start(page)
    page.locator(RESULT).wait_for(timeout=LONG_MS)
    with page.expect_download() as held:
        page.get_by_role("button", name="Spots (CSV)").click()
    lines = held.value.path().read_text("utf-8").splitlines()
    assert lines[0].startswith("row,spot_id,slide_id,fold,truth,predicted,right")
    assert len(lines) == 1 + 120
