"""The notebook viewer in Chromium: its own module, a model as anywidget's, and the real Python behind it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image
from playwright.sync_api import expect

pytest.importorskip("anywidget")

import stamp_index as si
from stamp_index.slides import open_image
from stamp_index.view import spot_places
from tests.support import toy_slide, toy_store
from tests.widget_world import FrontEnd, use_kept_comms

ADDRESS = "http://127.0.0.1:9/notebook"  # answered by the test itself
PAGE = "<!doctype html><meta charset=utf-8><title>notebook</title><body style='margin:16px'></body>"
SHOWN = "host.__stamp.settled() && host.__stamp.counts().drawn > 0"

# What anywidget does: the module from a blob, a model with get, send, on and off.
MODEL = """
class Model {
  constructor(state) { this.state = state; this.handlers = new Map(); this.held = null; this.lateBy = 0; }
  get(name) { return this.state[name]; }
  on(name, run) { this.handlers.set(name, [...(this.handlers.get(name) || []), run]); }
  off(name, run) { this.handlers.set(name, (this.handlers.get(name) || []).filter((one) => one !== run)); }
  emit(name, ...values) { for (const run of this.handlers.get(name) || []) run(...values); }
  async send(content) {
    if (this.held) await this.held; // the kernel is busy
    this.take(JSON.parse(await window.kernel(JSON.stringify(content))));
  }
  take({ state, messages }) {
    if (state) {
      this.state = { ...this.state, ...state };
      this.emit("change:_shown");
    }
    for (const { content, buffers } of messages) {
      // a view of a larger buffer, as Jupyter's are
      const views = buffers.map((text) => {
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const large = new Uint8Array(bytes.length + 16);
        large.set(bytes, 8);
        return new DataView(large.buffer, 8, bytes.length);
      });
      this.emit("msg:custom", content, views);
    }
  }
}
window.start = async ({ esm, css, state }) => {
  const style = document.createElement("style");
  style.textContent = css;
  document.head.append(style);
  const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
  window.model = new Model(state);
  window.cleanups = [];
  window.add = async () => {
    const el = document.createElement("div");
    el.className = "cell";
    document.body.append(el);
    window.cleanups.push(await module.default.render({ model: window.model, el }));
  };
  await window.add();
};
"""


@dataclass
class Notebook:
    """A page that shows a viewer, and the viewer in Python."""

    page: Any
    viewer: si.SlideViewer
    front: FrontEnd

    def call(self, text: str) -> str:
        """A message of the browser, and all that Python sends because of it."""
        n = len(self.front.messages)
        self.front.tell(json.loads(text))
        return json.dumps(self._sent(n))

    def push(self) -> None:
        """Send to the browser what Python has changed by itself."""
        n = len(self.front.messages)
        self.front.listen()
        self.page.evaluate("sent => model.take(sent)", self._sent(n))

    def _sent(self, n: int) -> dict[str, Any]:
        messages = [
            {"content": told, "buffers": [base64.b64encode(one).decode() for one in buffers]}
            for told, buffers in self.front.messages[n:]
        ]
        return {"state": {"_shown": self.front.shown}, "messages": messages}

    def start(self) -> None:
        """Open the page and wait until the slide is there."""
        self.page.route("http://127.0.0.1:9/**", self._serve)
        self.page.expose_function("kernel", self.call)
        self.page.goto(ADDRESS)
        self.page.add_script_tag(content=MODEL)
        state = {"_shown": self.front.shown}
        texts = {"esm": self.front.state["_esm"], "css": self.front.state["_css"]}
        self.page.evaluate("all => start(all)", {**texts, "state": state})
        self.until(SHOWN)

    @staticmethod
    def _serve(route) -> None:
        if route.request.url == ADDRESS:
            route.fulfill(content_type="text/html", body=PAGE)
        else:
            route.fulfill(status=204, body="")

    def until(self, condition: str, at: int = 0) -> None:
        """Wait for something of a viewer's handle."""
        self.page.wait_for_function(
            f"""() => {{
              const host = document.querySelectorAll(".si-host")[{at}];
              try {{ return {condition}; }} catch {{ return false; }} // nothing is open yet
            }}"""
        )

    def of(self, expression: str, at: int = 0) -> Any:
        """Value of something of a viewer's handle."""
        return self.page.evaluate(
            f"() => {{ const host = document.querySelectorAll('.si-host')[{at}]; return {expression}; }}"
        )

    def until_python(self, true) -> None:
        """Wait until the browser has told Python."""
        for _ in range(100):
            if true():
                return
            self.page.wait_for_timeout(50)
        pytest.fail("Python was not told")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    slides = [toy_slide("S1", 60, 0), toy_slide("S2", 40, 1)]
    Image.fromarray(slides[0].image.overview(10_000)).save(folder / "S1.png")
    slides[0] = replace(slides[0], image=open_image(folder / "S1.png"))
    return toy_store(folder, slides=slides)


@pytest.fixture
def notebook(new_page, store, monkeypatch):
    use_kept_comms(monkeypatch)
    viewer = si.SlideViewer(store, "S1", gene="EPCAM", height_px=560)
    shown = Notebook(new_page, viewer, FrontEnd(viewer))
    shown.start()
    yield shown
    new_page.evaluate("() => cleanups.forEach((clean) => clean())")
    expect(new_page.locator(".si-viewer")).to_have_count(0)
    viewer.close()


def test_slide_and_spots_come_as_messages_and_nothing_by_network(notebook, store, screenshots):
    counts = notebook.of("host.__stamp.counts()")
    assert (counts["spots"], counts["drawn"]) == (60, 60)
    assert notebook.of("host.__stamp.layer()") == "EPCAM"
    assert notebook.page.locator(".si-legend").inner_text().startswith("EPCAM")
    assert notebook.page.locator(".si-host").bounding_box()["height"] == 560
    assert notebook.page.locator(".si-host").get_attribute("data-lm-suppress-shortcuts") == "true"
    notebook.page.screenshot(path=screenshots / "notebook-slide.png")
    assert tissue_is_there(notebook)


def tissue_is_there(notebook) -> bool:
    """Whether the picture's own colours are on the canvas of OpenSeadragon."""
    share = notebook.page.evaluate(
        """() => {
          const canvas = document.querySelector(".openseadragon-canvas canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let n = 0;
          for (let i = 0; i < data.length; i += 4) n += data[i + 3] > 0 && data[i + 1] < 220;
          return n / (data.length / 4);
        }"""
    )
    return share > 0.1


def drag(page, points) -> None:
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def test_lasso_drawn_in_the_browser_selects_spots_in_python(notebook, store, screenshots):
    notebook.page.get_by_role("button", name="Lasso (L)").click()
    first, last = (notebook.of(f"host.__stamp.spotAt({i})") for i in (0, 24))
    left, top = first["x"] - 12, first["y"] - 12
    right, bottom = last["x"] + 12, last["y"] + 12
    ring = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    drag(notebook.page, ring)
    notebook.until_python(lambda: notebook.viewer.lasso is not None)
    viewer = notebook.viewer
    assert viewer.lasso == tuple(tuple(corner) for corner in notebook.of("host.__stamp.lasso()"))
    xy = spot_places(store, "S1").xy_px
    inside = shapely.contains_xy(shapely.Polygon(viewer.lasso), xy[:, 0], xy[:, 1])
    assert 10 <= inside.sum() < 40
    np.testing.assert_array_equal(viewer.rows, spot_places(store, "S1").rows[inside])
    assert notebook.of("host.__stamp.counts()")["inside"] == inside.sum()
    assert list(viewer.selection().obs_names) == viewer.spot_ids
    notebook.page.screenshot(path=screenshots / "notebook-lasso.png")


def test_click_selects_a_spot_and_hover_shows_its_card(notebook):
    place = notebook.of("host.__stamp.spotAt(17)")
    notebook.page.mouse.move(place["x"], place["y"])
    card = notebook.page.locator(".si-card")
    card.wait_for()
    spot_id = notebook.viewer.all_spot_ids[17]
    assert spot_id in card.inner_text()
    notebook.page.mouse.click(place["x"], place["y"])
    notebook.until_python(lambda: notebook.viewer.selected_spot == spot_id)


def test_what_python_sets_is_shown(notebook, store, screenshots):
    viewer = notebook.viewer
    viewer.lasso = [(80, 30), (320, 30), (320, 170), (80, 170)]
    viewer.selected_spot = viewer.all_spot_ids[3]
    viewer.add_outline(shapely.box(200, 200, 420, 320), "nest")
    viewer.view = (100, 100, 300, 200)
    viewer.label = store.label_names[0]
    notebook.push()
    notebook.until(f"host.__stamp.layer() === '{store.label_names[0]}' && host.__stamp.settled()")
    assert notebook.of("host.__stamp.lasso()") == [[80, 30], [320, 30], [320, 170], [80, 170]]
    assert notebook.of("host.__stamp.selected()") == 3
    notebook.until_python(lambda: viewer.view != (100, 100, 300, 200))  # what is truly seen
    left, top, right, bottom = viewer.view
    seen = shapely.box(left - 1, top - 1, right + 1, bottom + 1)
    assert seen.contains(shapely.box(100, 100, 300, 200))
    assert (left + right) / 2 == pytest.approx(200, abs=2)
    assert (right - left) < 420
    notebook.page.screenshot(path=screenshots / "notebook-python.png")


def test_another_slide_is_opened_and_shown(notebook):
    notebook.viewer.slide_id = "S2"
    notebook.push()
    notebook.until(f"{SHOWN} && host.__stamp.counts().spots === 40")
    assert notebook.of("host.__stamp.counts()")["openings"] == 2


def test_two_views_of_one_viewer_show_the_same_lasso(notebook):
    notebook.page.evaluate("() => add()")
    notebook.until(SHOWN, at=1)
    notebook.page.locator(".si-host").nth(0).get_by_role("button", name="Box (B)").click()
    a, b = (notebook.of(f"host.__stamp.spotAt({i})") for i in (0, 24))
    drag(notebook.page, [(a["x"] - 9, a["y"] - 9), (b["x"] + 9, b["y"] + 9)])
    notebook.until("host.__stamp.lasso() !== null", at=1)
    assert notebook.of("host.__stamp.lasso()", at=1) == notebook.of("host.__stamp.lasso()")


def test_busy_kernel_is_said_and_tiles_come_when_it_is_free(notebook):
    page = notebook.page
    page.evaluate("() => { model.held = new Promise((free) => { window.free = free; }); }")
    notebook.viewer.slide_id = "S2"
    notebook.push()
    page.get_by_text("Waiting for the kernel").wait_for()
    page.evaluate("() => { model.held = null; free(); }")
    notebook.until(f"{SHOWN} && host.__stamp.counts().spots === 40")
    page.get_by_text("Waiting for the kernel").wait_for(state="hidden")
    assert tissue_is_there(notebook)


def test_tiles_that_were_given_up_come_when_the_kernel_is_free_again(notebook):
    page = notebook.page
    page.clock.install()
    page.evaluate("() => { model.held = new Promise((free) => { window.free = free; }); }")
    notebook.viewer.slide_id = "S2"
    notebook.push()
    page.wait_for_timeout(500)  # the tiles are asked for
    page.clock.run_for(29_000)  # a cell that runs so long; every tile is grey by then
    page.clock.resume()
    page.evaluate("() => { model.held = null; free(); }")
    notebook.until(f"{SHOWN} && host.__stamp.counts().openings === 3")
    assert tissue_is_there(notebook)
