"""The slide viewer by keys and by name, its figure and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser.viewer_bench import CIRCLE, Bench, layer, tissue, viewer_server

if TYPE_CHECKING:
    from tests.browser.viewer_page import FakeSlide


@pytest.fixture(scope="module")
def server(browser):
    with viewer_server() as running:
        yield running


@pytest.fixture
def slide(server) -> FakeSlide:
    server.asked.clear()
    return server.slides["tissue"]


@pytest.fixture
def bench(page, server) -> Bench:
    return Bench(page, server)


def test_keys_act_on_the_viewer_under_the_pointer(bench, slide):
    bench.mount("tissue", slide.data(selected=333))
    bench.mouse.move(600, 450)
    press = bench.keyboard.press
    for key, tool in [("l", "lasso"), ("b", "box"), ("v", "pan")]:
        press(key)
        assert bench.ask("tool()") == tool
        assert (
            bench.find(f"button[aria-label^='{tool.title()}']").get_attribute("aria-pressed")
            == "true"
        )
    home = bench.ask("view()")
    press("+")
    assert bench.ask("view()")["zoom"] == pytest.approx(1.5 * home["zoom"], rel=0.01)
    press("Shift+ArrowDown")
    bench.settle()
    press("ArrowRight")
    assert bench.ask("view()")["x"] > home["x"]
    press("1")
    assert bench.ask("view()")["zoom"] == pytest.approx(1)
    press("Enter")
    assert [bench.ask("view()")[axis] for axis in "xy"] == pytest.approx(
        slide.spots[333].tolist(), abs=1
    )
    press("0")
    bench.settle()
    assert bench.ask("view()") == pytest.approx(home, rel=1e-3)
    press("s")
    bench.settle()
    assert bench.ask("counts().drawn") == 0
    for key in ("g", "n", "p", "m", "Control+Enter"):
        press(key)
    assert bench.told("key") == ["focus-gene", "next", "previous", "mark", "run"]


def test_space_pans_while_the_lasso_is_chosen_and_escape_clears_it(bench, slide):
    bench.mount("tissue", slide.data())
    bench.wheel(600, 450, 1, 1)
    polygon = bench.lasso(*CIRCLE)
    before = bench.ask("view()")
    bench.keyboard.down("Space")
    bench.drag((600, 450), (650, 450), (700, 450))
    bench.keyboard.up("Space")
    assert bench.ask("view()")["x"] < before["x"]
    assert bench.told("lasso") == [polygon]
    bench.keyboard.press("Escape")
    assert bench.told("lasso") == [polygon, None]
    assert bench.find("button[aria-label^=Clear]").is_disabled()


def test_keys_rest_while_somebody_types_or_the_viewer_is_left(bench, slide):
    bench.mount("tissue", slide.data(layer=layer("CD8A")))
    view = bench.ask("view()")
    bench.find(".si-number").first.click()
    bench.keyboard.type("lb0+sg")
    bench.mouse.move(600, 450)
    bench.page.locator("#elsewhere").focus()
    bench.keyboard.type("lb1+sg")
    bench.mouse.move(600, 5)
    bench.page.evaluate("document.activeElement.blur()")
    bench.keyboard.press("l")
    assert bench.ask("tool()") == "pan"
    assert bench.ask("view()") == view
    assert bench.told("key") == []
    assert bench.page.locator("#elsewhere").input_value() == "lb1+sg"


def test_every_control_has_a_name_and_is_reached_by_tab(bench, slide):
    bench.mount(
        "tissue", slide.data(layer=layer("CD8A"), lasso=[[0, 0], [900, 0], [0, 900]], lassoStamp=1)
    )
    bench.page.locator("#elsewhere").focus()
    reached = []
    for _ in range(18):
        bench.keyboard.press("Tab")
        focus = "viewers[0].shadow.activeElement"
        name = bench.page.evaluate(
            f"{focus} && ({focus}.getAttribute('aria-label') || {focus}.textContent || {focus}.parentNode.textContent)"
        )
        if name:
            reached.append(name)
            ring = bench.page.evaluate(f"getComputedStyle({focus}).outlineStyle")
            assert ring != "none", name
    for start in ("Pan", "Lasso", "Box", "Clear", "Fit", "Opacity of the spots", "Opacity of the image",
                  "Keys", "Slide", "Lowest colour", "Highest colour", "Lowest value", "reset", "show zeros"):  # fmt: skip
        assert any(name.startswith(start) for name in reached), (start, reached)


def test_the_question_mark_lists_the_keys(bench, slide):
    bench.mount("tissue", slide.data())
    bench.find("button[aria-label='Keys and mouse']").click()
    words = bench.find("dialog").inner_text()
    assert "one screen pixel per slide pixel" in words
    bench.keyboard.press("l")
    assert bench.ask("tool()") == "pan"
    bench.keyboard.press("Escape")
    assert not bench.find("dialog").is_visible()


def test_opacity_fades_spots_and_image(bench, slide):
    bench.mount("tissue", slide.data(layer=layer("CD8A")))
    bench.find("input[aria-label='Opacity of the spots']").fill("20")
    bench.settle()
    assert bench.pixel(*bench.spot(2))[3] == pytest.approx(0.2 * 255, abs=2)
    bench.find("input[aria-label='Opacity of the image']").fill("0")
    bench.settle()
    bench.page.wait_for_timeout(300)
    shot = bench.shot()
    x, y = (int(value) for value in np.mean([bench.spot(300), bench.spot(331)], axis=0))
    assert shot[y, x].tolist() == [255, 255, 255]


def test_markup_in_names_is_shown_as_text(bench, slide, server):
    bad = "<img src=x onerror=document.title='hit'>"
    hostile = tissue()
    hostile.layers["CD8A"][1].update(name=bad, note=bad, unit=bad)
    hostile.layers["region"][1]["categories"][0] = bad
    hostile.cards = {
        i: {"spot_id": bad, "values": [{"name": bad, "text": bad}]} for i in range(660)
    }
    server.slides["hostile"] = hostile
    regions = [
        {"id": bad, "name": bad, "polygons": [[[0, 0], [900, 0], [900, 900]]], "kind": "hit"}
    ]
    marks = [{"x": 900, "y": 900, "label": bad, "kind": "hit"}]
    data = hostile.data(bad, layer=layer("CD8A"), regions=regions, marks=marks, picked=0)
    bench.mount("hostile", data)
    bench.mouse.move(*bench.spot(300))
    bench.find(".si-card").wait_for(state="visible")
    assert bad in bench.find(".si-card").inner_text()
    assert bad in bench.find(".si-legend").inner_text()
    bench.update(data | {"layer": layer("region", "label")})
    assert bad in bench.find(".si-categories").inner_text()
    assert bench.find("img").count() == 0
    assert bench.page.title() == "viewer"


def test_question_mark_lists_the_keys(bench, slide):
    bench.mount("tissue", slide.data())
    bench.mouse.move(*bench.spot(205))
    bench.keyboard.press("?")
    dialog = bench.find("dialog[open]")
    dialog.wait_for()
    assert "zoom at the pointer" in dialog.inner_text()
    bench.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_destroy_leaves_nothing(bench, slide):
    bench.page.evaluate(
        """() => {
          window.listening = [];
          for (const target of [window, document, document.body]) {
            const [add, remove] = [target.addEventListener, target.removeEventListener];
            target.addEventListener = function (name, run, ...rest) {
              listening.push([name, run]);
              return add.call(this, name, run, ...rest);
            };
            target.removeEventListener = function (name, run, ...rest) {
              const at = listening.findIndex(([n, r]) => n === name && r === run);
              if (at >= 0) listening.splice(at, 1);
              return remove.call(this, name, run, ...rest);
            };
          } }"""
    )
    bench.mount("tissue", slide.data(layer=layer("CD8A"), link={"group": "g", "on": True}))
    bench.mouse.move(*bench.spot(205))
    assert bench.page.evaluate("listening.length") > 0
    bench.page.evaluate("viewers[0].viewer.destroy()")
    assert bench.page.evaluate("viewers[0].root.childNodes.length") == 0
    assert bench.page.evaluate("viewers[0].root.__stamp === undefined")
    bench.keyboard.press("l")
    bench.page.wait_for_timeout(400)
    assert bench.page.evaluate("listening.map(([name]) => name)") == []
    kept = "globalThis[Symbol.for('stamp-index.viewer.groups')]?.size"
    assert not bench.page.evaluate(kept)
    assert bench.told("state") == []
