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

from PIL import Image
from playwright.sync_api import sync_playwright

from stamp_index.addresses import encode_polygon
from stamp_index.app_launcher import Served, app_command, app_environment, wait_until_ready
from stamp_index.slides import open_image
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
FILES: dict[str, Path] = {}  # that are uploaded; made when the pictures are taken


@contextmanager
def serving(store: Path, auth: str = "none", allow: tuple[str, ...] = ()) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        served = Served(port=probe.getsockname()[1], auth=auth, allow=allow)
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


def probing(page: Page) -> None:
    """Start a probe and look while it runs."""
    page.get_by_role("button", name="Run").first.click()
    page.get_by_role("button", name="Cancel").wait_for()
    page.wait_for_timeout(1500)


def cancelled(page: Page) -> None:
    """Start a probe and stop it."""
    probing(page)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("was cancelled after").wait_for()
    page.wait_for_timeout(800)


def marked(page: Page) -> None:
    """Put three hits on the shortlist and go there."""
    hits(page)
    for rank in (1, 2, 5):
        page.locator(f'.tile[data-rank="{rank}"]').focus()
        page.keyboard.press("m")
        page.wait_for_timeout(700)
    page.get_by_text("Compare two").click()
    page.locator(".st-key-shortlist .si-host").nth(1).wait_for()
    page.wait_for_timeout(2500)
    page.locator(".st-key-shortlist").scroll_into_view_if_needed()


def uploaded(page: Page) -> None:
    """Search with a picture."""
    page.locator('input[type="file"]').set_input_files(FILES["crop"])
    hits(page)


def refused(page: Page) -> None:
    """Upload what is no picture."""
    words = {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture at all"}
    page.locator('input[type="file"]').set_input_files(words)
    page.get_by_text("was not read").wait_for()
    page.wait_for_timeout(800)


def crop(store: Store, folder: Path) -> Path:
    """Write a picture of 700 px of a slide, as a user has one."""
    uri = str(store.slides()["image_uri"].iloc[0])
    pixels = open_image(uri).read(2600, 3000, 700, 700)
    path = folder / "crop.png"
    Image.fromarray(pixels).save(path)
    return path


SHOTS: tuple[tuple[str, str, dict[str, str], Callable[[Page], None]], ...] = (
    ("slides", "", {"s": "P1_A", "gene": "EPCAM"}, drawn),
    ("slides_lasso", "", {"s": "P1_A", "gene": "EPCAM", "poly": LASSO}, drawn),
    ("slides_label", "", {"s": "P2_A", "by": "Label", "label": "domain"}, drawn),
    ("genes", "genes", {"q": QUERY}, hits),
    ("genes_shortlist", "genes", {"q": QUERY}, marked),
    ("genes_unknown", "genes", {"q": "CD8 high, EPCAM low"}, still),
    ("genes_no_hits", "genes", {"q": "EPCAM high, EPCAM low"}, still),
    ("image", "image", {"spot": "FIRST"}, hits),
    ("image_upload", "image", {}, still),
    ("image_uploaded", "image", {"mpp": "MPP"}, uploaded),
    ("image_refused", "image", {}, refused),
    ("regions", "regions", {"s": "P1_A", "poly": LASSO}, lambda page: drawn(page, 2)),
    ("regions_empty", "regions", {"s": "P1_A"}, drawn),
    ("probe_running", "probe", {"label": "domain"}, probing),
    ("probe_cancelled", "probe", {"label": "domain"}, cancelled),
    ("probe", "probe", {"label": "domain"}, probed),
    ("evaluation", "evaluation", {}, still),
    ("help", "help", {}, still),
)


def take(page: Page, served: Served, known: dict[str, str]) -> None:
    """Take every picture of a store at every size; `known` stands for words of the queries."""
    for name, where, query, ready in SHOTS:
        asked = {key: known.get(value, value) for key, value in query.items()}
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
    for name, store, allow in (
        ("empty", empty, ()),
        ("newer", broken, ()),
        ("not_allowed", demo / "store", ("*@hospital.example",)),
    ):
        with serving(store, "proxy", allow) as served:  # names the store without its folder
            page.set_viewport_size({"width": 1280, "height": 720})
            page.goto(served.url())
            still(page)
            page.screenshot(path=OUT / f"store_{name}_1280.jpg", type="jpeg", quality=QUALITY)


def main() -> None:
    demo = Path(sys.argv[1])
    OUT.mkdir(parents=True, exist_ok=True)
    store = Store.open(demo / "store")
    known = {
        "FIRST": str(store.spots(["spot_id"], [700]).iloc[0, 0]),
        "MPP": f"{store.slides()['mpp'].iloc[0]:g}",
    }
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = chromium.new_page()
        page.set_default_timeout(60_000)
        FILES["crop"] = crop(store, Path(folder))
        with serving(demo / "store") as served:
            take(page, served, known)
        take_refused(page, demo, Path(folder))
        chromium.close()


if __name__ == "__main__":
    main()
