"""Takes the pictures of the app that README and docs show, from the demo's synthetic tissue.

    make demo ARGS=--no-serve
    .venv/bin/python docs/pictures.py stamp-demo

Every page at 1280 x 720 and 1920 x 1080, and the states that a user may meet, as JPEG in docs/app.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import sync_playwright

from stamp_index.addresses import encode_polygon
from stamp_index.app_launcher import Served, app_command, app_environment, wait_until_ready
from stamp_index.store import Store
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.driving import viewer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

OUT = ROOT / "docs" / "app"
SIZES = ((1280, 720), (1920, 1080))
QUALITY = 82
LASSO = encode_polygon([(2600, 3000), (4400, 2700), (5200, 3900), (4300, 5000), (2700, 4600)])
QUERY = "CD8A high, EPCAM low"


@contextmanager
def serving(store: Path, auth: str = "none") -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        served = Served(port=probe.getsockname()[1], auth=auth)
    process = subprocess.Popen(
        app_command(store, served), env=app_environment(), stdout=subprocess.DEVNULL
    )
    try:
        wait_until_ready(process, url=served.url())
        yield served
    finally:
        process.terminate()
        process.wait(20)


def drawn(page: Page, viewers: int = 1) -> None:
    """Wait until viewers and patches are drawn."""
    for nth in range(viewers):
        viewer(page, nth)
    page.wait_for_timeout(2500)


def probed(page: Page) -> None:
    """Run a probe and wait for its result."""
    page.get_by_role("button", name="Run").first.click()
    page.get_by_text("What was taken for what").wait_for(timeout=120_000)
    page.get_by_text("What was taken for what").scroll_into_view_if_needed()
    drawn(page)


def hits(page: Page) -> None:
    """Wait for hits."""
    page.locator(".grid[data-ready] .tile").first.wait_for()
    drawn(page)


def still(page: Page) -> None:
    """Wait for a page without a viewer."""
    page.wait_for_timeout(3000)


SHOTS: tuple[tuple[str, str, dict[str, str], Callable[[Page], None]], ...] = (
    ("slides", "", {"s": "P1_A", "gene": "EPCAM"}, drawn),
    ("slides_lasso", "", {"s": "P1_A", "gene": "EPCAM", "poly": LASSO}, drawn),
    ("slides_label", "", {"s": "P2_A", "by": "Label", "label": "domain"}, drawn),
    ("genes", "genes", {"q": QUERY}, hits),
    ("genes_unknown", "genes", {"q": "CD8 high, EPCAM low"}, still),
    ("genes_no_hits", "genes", {"q": "EPCAM high, EPCAM low"}, still),
    ("image", "image", {"spot": "FIRST"}, hits),
    ("image_upload", "image", {}, still),
    ("regions", "regions", {"s": "P1_A", "poly": LASSO}, lambda page: drawn(page, 2)),
    ("regions_empty", "regions", {"s": "P1_A"}, drawn),
    ("probe", "probe", {"label": "domain"}, probed),
    ("evaluation", "evaluation", {}, still),
    ("help", "help", {}, still),
)


def take(page: Page, served: Served, first_spot: str) -> None:
    """Take every picture of a store at every size."""
    for name, where, query, ready in SHOTS:
        asked = {key: first_spot if value == "FIRST" else value for key, value in query.items()}
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            page.goto(f"{served.url()}{where}?" + urlencode({"drawer": "canvas", **asked}))
            ready(page)
            page.screenshot(path=OUT / f"{name}_{width}.jpg", type="jpeg", quality=QUALITY)


def take_refused(page: Page, demo: Path, folder: Path) -> None:
    """Take the pages of a store that has no slides, and of one that is damaged."""
    card = Store.open(demo / "store").card
    empty = Store.create(folder / "empty", card).path
    broken = folder / "broken"
    shutil.copytree(empty, broken)
    sorted((broken / "versions").glob("*.json"))[-1].write_text(json.dumps({"format_version": 99}))
    page.set_extra_http_headers({"X-Forwarded-User": "reader"})
    for name, store in (("empty", empty), ("newer", broken)):
        with serving(store, "proxy") as served:  # names the store without its folder
            page.set_viewport_size({"width": 1280, "height": 720})
            page.goto(served.url())
            still(page)
            page.screenshot(path=OUT / f"store_{name}_1280.jpg", type="jpeg", quality=QUALITY)


def main() -> None:
    demo = Path(sys.argv[1])
    OUT.mkdir(parents=True, exist_ok=True)
    first = str(Store.open(demo / "store").spots(["spot_id"], [700]).iloc[0, 0])
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = chromium.new_page()
        page.set_default_timeout(60_000)
        with serving(demo / "store") as served:
            take(page, served, first)
        take_refused(page, demo, Path(folder))
        chromium.close()


if __name__ == "__main__":
    main()
