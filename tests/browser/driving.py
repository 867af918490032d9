"""Driving viewers in the app's pages: they live in shadow roots, which Playwright's locators see through."""

from __future__ import annotations

import io
import time
from pathlib import Path

from PIL import Image

WAIT_MS = 30_000
GRID = ".grid[data-ready]"
READY = """(host, most) => new Promise((done, failed) => {
  const until = Date.now() + most;
  const look = () => {
    if (host.__stamp && host.__stamp.ready) done();
    else if (Date.now() > until) failed(new Error("the viewer was not drawn in " + most + " ms"));
    else setTimeout(look, 50);
  };
  look();
})"""


def viewer(page, nth: int = 0):
    """The element of a viewer whose slide and spots are drawn."""
    host = page.locator(".si-host").nth(nth)
    host.wait_for()
    host.evaluate(READY, WAIT_MS)
    return host


def spot_place(host, index: int) -> tuple[float, float]:
    """Where a spot is on the screen."""
    at = host.evaluate("(host, index) => host.__stamp.spotAt(index)", index)
    return at["x"], at["y"]


def view(host) -> dict:
    """What the viewer shows: x, y of the middle in level-0 pixels, and zoom."""
    return host.evaluate("host => host.__stamp.view()")


def drag(page, places: list[tuple[float, float]]) -> None:
    """Press the mouse at the first place, move over the others, let go at the last."""
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()


def chips(page) -> list[str]:
    """Genes of the query bar with their directions."""
    return page.locator(".gq-chip").evaluate_all(
        "all => all.map(c => (c.classList.contains('low') ? '-' : '+') + c.querySelector('.gq-gene').textContent)"
    )


def wait_chips(page, wanted: list[str]) -> None:
    """Wait until the query bar has these genes."""
    until = time.monotonic() + WAIT_MS / 1000
    while chips(page) != wanted and time.monotonic() < until:
        page.wait_for_timeout(50)
    assert chips(page) == wanted


def gene_input(page):
    """The field of the query bar, ready for typing."""
    field = page.get_by_role("combobox", name="Add a gene")
    field.wait_for()
    field.focus()
    return field


def png(pixels, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def open_page(page, url: str) -> None:
    """Open an address and wait until its hits are there."""
    page.goto(url)
    page.wait_for_selector(f"{GRID} .tile")


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
