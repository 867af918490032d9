"""Every page: it loads, it says what to do where there is nothing, everything on it has a name, and it fits."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.support import toy_store

PAGES = {
    "": "Slides",
    "genes": "Gene to image",
    "image": "Image to gene",
    "regions": "Similar regions",
    "probe": "Linear probe",
    "evaluation": "Evaluation",
    "help": "Help",
}
NAMELESS = """() => {
  const all = (root) => [...root.querySelectorAll('button, a[href], input, select, textarea, [role=button]'),
    ...[...root.querySelectorAll('*')].filter((n) => n.shadowRoot).flatMap((n) => all(n.shadowRoot))];
  const named = (n) => n.getAttribute('aria-label') || n.getAttribute('title') || n.innerText?.trim()
    || n.getAttribute('placeholder') || n.labels?.[0]?.innerText?.trim() || n.getAttribute('aria-labelledby') || n.alt;
  return all(document).filter((n) => n.getClientRects().length && n.type !== 'file' && !named(n)).map((n) => n.outerHTML.slice(0, 160));
}"""


def opened(page, url: str, title: str) -> None:
    page.goto(url)
    page.get_by_role("heading", name=title, exact=True).wait_for()
    page.get_by_text("Research use only").wait_for()


def too_wide(page) -> int:
    """Pixels that the page is wider than its window."""
    page.wait_for_timeout(700)
    return max(0, page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.mark.parametrize("where", PAGES)
def test_page_loads_has_names_for_everything_and_fits(page, server, screenshots, where):
    page.set_viewport_size({"width": 1280, "height": 720})
    opened(page, server.url(where), PAGES[where])
    page.wait_for_timeout(800)
    expect(page.locator('[data-testid="stException"]')).to_have_count(0)
    expect(page.get_by_text("Something went wrong")).to_have_count(0)
    assert page.evaluate(NAMELESS) == []
    name = where or "slides"
    assert too_wide(page) == 0
    page.screenshot(path=screenshots / f"page_{name}_1280.png")
    page.set_viewport_size({"width": 1920, "height": 1080})
    assert too_wide(page) == 0
    page.screenshot(path=screenshots / f"page_{name}_1920.png")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert too_wide(page) == 0


@pytest.mark.parametrize("where", [name for name in PAGES if name != "help"])
def test_page_of_an_empty_store_says_what_to_run(page, empty_server, where):
    page.goto(empty_server.url(where))
    page.get_by_text("This store has no slides yet").wait_for()
    page.get_by_text("stamp-index add").wait_for()


@pytest.fixture(scope="session")
def newer_server(tmp_path_factory, browser):
    path = toy_store(tmp_path_factory.mktemp("newer"), n_slides=1, n_spots=5).path
    with serving(path) as running:
        newest = sorted((path / "versions").glob("*.json"))[-1]
        newest.write_text(json.dumps({**json.loads(newest.read_text()), "format_version": 99}))
        yield running


@pytest.mark.parametrize("where", ["", "genes"])
def test_newer_store_says_what_to_run(page, newer_server, where):
    page.goto(newer_server.url(where))
    page.get_by_text("pip install --upgrade stamp-index").wait_for()
