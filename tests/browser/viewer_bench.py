"""Slides for the viewer's tests, and what the tests do with a viewer in a page."""

from __future__ import annotations

import io
from contextlib import contextmanager

import numpy as np
from PIL import Image

from tests.browser.conftest import _cannot
from tests.browser.viewer_page import (
    OPENSEADRAGON,
    FakeSlide,
    categories,
    continuous,
    slide_server,
)

WIDTH, HEIGHT = 3000, 2200
PITCH = 100


def spots_of(width: int, height: int, pitch: float) -> np.ndarray:
    x, y = np.meshgrid(np.arange(pitch / 2, width, pitch), np.arange(pitch / 2, height, pitch))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def tissue() -> FakeSlide:
    xy = spots_of(WIDTH, HEIGHT, PITCH) + 0.25  # on no edge of a polygon of integers
    rng = np.random.default_rng(4)
    gene = np.maximum(rng.gamma(1.5, 1.0, len(xy)) - 0.4, 0.0)
    gene[:3] = [0.0, np.nan, 2.0]
    other = rng.normal(size=len(xy))
    label = np.arange(len(xy)) % 26 - 1
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.stack([200 + 20 * np.sin(x / 60), 150 + 20 * np.cos(y / 50), 0 * x + 190], axis=-1)
    layers = {
        "CD8A": continuous(gene, "CD8A"),
        "score": continuous(other, "score", unit=None, note="predicted, not measured"),
        "region": categories(label, [f"region {i}" for i in range(25)], "Region"),
    }
    return FakeSlide(xy, Image.fromarray(rgb.astype(np.uint8)), layers=layers)


def layer(name: str, kind: str = "gene") -> dict[str, str]:
    return {"path": f"layer?{kind}={name}", "name": name}


CIRCLE = [(600 + 160 * np.cos(t), 450 + 150 * np.sin(t)) for t in np.linspace(0, 6.2, 40)]


@contextmanager
def viewer_server():
    """A server with three slides: `tissue`, `fine` (half its pixel size) and `bare` (no picture)."""
    if not OPENSEADRAGON.exists():
        _cannot("OpenSeadragon is not installed: run 'npm ci' in app/frontend")
    with slide_server() as running:
        running.slides["tissue"] = tissue()
        running.slides["fine"] = tissue()
        running.slides["fine"].mpp = 0.25
        running.slides["bare"] = FakeSlide(spots_of(WIDTH, HEIGHT, PITCH) + 5000, None, mpp=None)
        yield running


class Bench:
    """A page that viewers can be mounted into."""

    def __init__(self, page, server):
        page.goto(server.url)
        page.wait_for_function("window.pageReady")
        self.page, self.server = page, server
        self.mouse, self.keyboard = page.mouse, page.keyboard

    def mount(self, name: str, data: dict, **options) -> None:
        asked = "([name, data, options]) => mountViewer(name, data, options)"
        self.page.evaluate(asked, [name, data, options])
        self.settle()

    def update(self, data: dict, number: int = 0) -> None:
        self.page.evaluate(f"data => viewers[{number}].viewer.update(data)", data)
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_function(
            "viewers.every(v => !v.root.__stamp || v.root.__stamp.settled())"
        )

    def ask(self, expression: str, number: int = 0):
        return self.page.evaluate(f"viewers[{number}].root.__stamp.{expression}")

    def told(self, name: str) -> list:
        return self.page.evaluate(
            "name => told.filter(t => t.name === name).map(t => t.value)", name
        )

    def spot(self, index: int) -> tuple[float, float]:
        at = self.ask(f"spotAt({index})")
        return at["x"], at["y"]

    def find(self, selector: str, number: int = 0):
        return self.page.locator("#row > div").nth(number).locator(selector)

    def pixel(self, x: float, y: float) -> np.ndarray:
        """Colour and alpha of the overlay at a point of the window."""
        return self.pixels(x, y, 1, 1)[0, 0]

    def pixels(self, x: float, y: float, width: int, height: int) -> np.ndarray:
        values = self.page.evaluate(
            """([x, y, width, height]) => {
              const canvas = viewers[0].root.querySelector(".si-overlay");
              const area = canvas.getBoundingClientRect();
              const context = canvas.getContext("2d");
              const left = Math.floor(x - area.left), top = Math.floor(y - area.top);
              return [...context.getImageData(left, top, width, height).data]; }""",
            [x, y, width, height],
        )
        return np.array(values).reshape(height, width, 4)

    def shot(self) -> np.ndarray:
        """The page as it is seen."""
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))

    def drag(self, *points: tuple[float, float]) -> None:
        self.mouse.move(*points[0])
        self.mouse.down()
        for point in points[1:]:
            self.mouse.move(*point)
        self.mouse.up()
        self.settle()

    def wheel(self, x: float, y: float, *turns: int) -> None:
        self.mouse.move(x, y)
        for turn in turns:
            self.mouse.wheel(0, -120 * turn)
            self.page.wait_for_timeout(60)  # OpenSeadragon drops turns that come closer than 50 ms
        self.settle()

    def lasso(self, *points: tuple[float, float]) -> list[list[int]]:
        self.mouse.move(*points[0])
        self.keyboard.press("l")
        self.drag(*points)
        return self.told("lasso")[-1]
