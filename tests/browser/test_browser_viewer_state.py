"""The slide viewer across new data: what the user did stays, what changed is shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser.viewer_bench import CIRCLE, Bench, layer, viewer_server

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


def test_another_layer_keeps_zoom_lasso_tool_and_opacity(bench, slide):
    data = slide.data(layer=layer("CD8A"))
    bench.mount("tissue", data)
    bench.wheel(600, 450, 1, 1)
    bench.lasso(*CIRCLE)
    bench.find("input[aria-label='Opacity of the spots']").fill("40")
    before = [bench.ask(what) for what in ("view()", "lasso()", "tool()", "counts().inside")]
    bench.update(data | {"layer": layer("region", "label")})
    assert bench.ask("layer()") == "region"
    assert [
        bench.ask(what) for what in ("view()", "lasso()", "tool()", "counts().inside")
    ] == before
    assert bench.find("input[aria-label='Opacity of the spots']").input_value() == "40"
    names = bench.find(".si-categories li").all_inner_texts()
    assert names == [f"region {i}" for i in range(20)]
    assert bench.find(".si-more").inner_text() == "and 5 more"


def test_the_same_data_again_does_nothing(bench, slide, server):
    data = slide.data(
        layer=layer("CD8A"), marks=[{"x": 500, "y": 500, "label": "#1", "kind": "hit"}]
    )
    bench.mount("tissue", data)
    bench.page.wait_for_timeout(400)
    asked, drawn = len(server.asked), bench.ask("frames_ms.length")
    for _ in range(3):
        bench.update(json.loads(json.dumps(data)))
    bench.page.wait_for_timeout(400)
    assert len(server.asked) == asked
    assert bench.ask("frames_ms.length") == drawn
    assert bench.ask("counts().openings") == 1
    assert bench.told("state") == []


def test_another_key_opens_another_slide(bench, slide):
    bench.mount("tissue", slide.data())
    bench.lasso(*CIRCLE)
    bench.wheel(600, 450, 1, 1)
    home = slide.data("other", label="other slide")
    bench.update(home)
    bench.page.wait_for_function("viewers[0].root.__stamp.ready")
    assert bench.ask("lasso()") is None
    assert bench.ask("counts().openings") == 2
    assert bench.find(".si-stage").get_attribute("aria-label") == "Slide other slide"
    bench.mouse.click(*bench.spot(50))
    assert bench.told("spot") == [50]


def test_python_can_set_the_lasso_and_the_focus(bench, slide):
    data = slide.data()
    bench.mount("tissue", data)
    bench.lasso(*CIRCLE)
    mine = bench.ask("lasso()")
    bench.update(data | {"lasso": None})
    assert bench.ask("lasso()") == mine, "without a new stamp the user's own lasso stays"
    given = [[100, 100], [900, 100], [900, 900]]
    bench.update(data | {"lasso": given, "lassoStamp": "a"})
    assert bench.ask("lasso()") == given
    focus = {"x": 1450, "y": 1150, "width_um": 250, "stamp": 1}
    bench.update(data | {"lasso": given, "lassoStamp": "a", "focus": focus})
    view = bench.ask("view()")
    assert (view["x"], view["y"]) == pytest.approx((1450, 1150), abs=1)
    assert bench.ask("screen()")["width"] / view["zoom"] * slide.mpp == pytest.approx(250, rel=1e-3)


def test_the_state_is_told_once_and_brings_the_view_back(bench, slide):
    bench.mount("tissue", slide.data(layer=layer("CD8A")))
    bench.wheel(600, 450, 1, 1, 1)
    bench.find(".si-number").last.fill("1.5")
    bench.keyboard.press("Enter")
    bench.page.wait_for_timeout(500)
    state = bench.told("state")[-1]
    assert state["range"] == {"name": "CD8A", "low": 0, "high": 1.5}
    view = bench.ask("view()")
    bench.page.evaluate("viewers[0].viewer.destroy(); viewers[0].host.remove()")
    asked = "([name, data]) => { viewers.length = 0; return mountViewer(name, data) }"
    bench.page.evaluate(asked, ["tissue", slide.data(layer=layer("CD8A"), state=state)])
    bench.settle()
    assert bench.ask("view()") == pytest.approx(view, abs=1)
    assert bench.find(".si-number").last.input_value() == "1.5"


def test_a_range_belongs_to_its_gene(bench, slide):
    data = slide.data(layer=layer("CD8A"))
    bench.mount("tissue", data)
    index = int(np.argmin(np.abs(slide.layers["CD8A"][0].astype(float) - 20000)))
    weak = bench.pixel(*bench.spot(index))
    default = bench.find(".si-number").last.input_value()
    bench.find("input[aria-label='Highest colour at']").fill("0.4")
    bench.settle()
    assert not np.array_equal(bench.pixel(*bench.spot(index)), weak)
    bench.update(data | {"layer": layer("score")})
    assert bench.find(".si-note").inner_text() == "predicted, not measured"
    bench.update(data)
    assert bench.find(".si-number").last.input_value() == "0.4"
    bench.find("text=reset").click()
    bench.settle()
    assert bench.find(".si-number").last.input_value() == default
    assert np.array_equal(bench.pixel(*bench.spot(index)), weak)


def test_linked_viewers_keep_the_same_physical_zoom(bench, slide, server):
    link = {"group": "pair", "on": True}
    bench.mount("tissue", slide.data("left", link=link))
    fine = server.slides["fine"]
    bench.mount("fine", fine.data("right", link=link))
    bench.wheel(300, 400, 1, 1)
    scales = [bench.ask("umPerPx()", number) for number in (0, 1)]
    assert scales[0] == pytest.approx(scales[1], rel=1e-6)
    bench.wheel(1100, 400, 1, 1)
    again = [bench.ask("umPerPx()", number) for number in (0, 1)]
    assert again[0] == pytest.approx(again[1], rel=1e-6)
    assert again[0] < scales[0]
    bench.update(fine.data("right", link={"group": "pair", "on": False}), 1)
    bench.wheel(300, 400, -1)
    apart = [bench.ask("umPerPx()", number) for number in (0, 1)]
    assert apart[1] == again[1] != apart[0]


def test_what_cannot_be_loaded_is_said_and_tried_again(bench, slide):
    data = slide.data(layer=layer("MISSING"))
    bench.mount("tissue", data)
    assert "MISSING could not be loaded: no layer MISSING" in bench.find(".si-banner").inner_text()
    slide.layers["MISSING"] = slide.layers["score"]
    try:
        bench.update(data)
        assert bench.ask("layer()") == "MISSING"
        assert bench.find(".si-banner").inner_text() == ""
    finally:
        del slide.layers["MISSING"]
