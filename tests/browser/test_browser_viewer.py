"""The slide viewer in a real browser: it draws what it is given and tells what is done to it."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import shapely
from PIL import Image

from tests.browser.viewer_bench import CIRCLE, Bench, layer, spots_of, viewer_server
from tests.browser.viewer_page import FakeSlide, continuous


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


def test_a_turn_of_the_wheel_keeps_the_place_under_the_pointer(bench, slide):
    bench.mount("tissue", slide.data())
    for x, y in [(400, 300), (900, 700)]:
        before = bench.ask(f"slideAt({x}, {y})")
        scale = bench.ask("screen().scale")
        bench.wheel(x, y, 1, 1, 1)
        after = bench.ask(f"slideAt({x}, {y})")
        zoomed = bench.ask("screen().scale")
        assert zoomed > 1.5 * scale
        assert np.hypot(*np.subtract(after, before)) * zoomed <= 2


@pytest.mark.parametrize("blobs", [False, True], ids=["addresses", "blobs"])
def test_the_picture_is_drawn_from_tiles(bench, slide, blobs):
    bench.mount("tissue", slide.data(), blobs=blobs)
    shot = bench.shot().astype(int)
    x, y = (int(value) for value in np.mean([bench.spot(100), bench.spot(131)], axis=0))
    at = np.round(bench.ask(f"slideAt({x}, {y})")).astype(int)
    assert np.abs(shot[y, x] - np.array(slide.picture.getpixel(tuple(at)))).max() < 12


def test_a_tile_that_cannot_be_had_is_grey(bench, server):
    lost = FakeSlide(spots_of(240, 160, 40), Image.new("RGB", (240, 160)), diameter=10)
    lost.broken = {f"{level}/0_0" for level in range(len(lost.levels))}
    server.slides["lost"] = lost
    bench.mount("lost", lost.data())
    shot = bench.shot()
    x, y = (int(value) for value in np.mean([bench.spot(0), bench.spot(7)], axis=0))
    assert shot[y, x].tolist() == [0xDF, 0xE3, 0xE6]
    assert bench.ask("counts().placed") == len(lost.spots)


def test_spots_have_their_colour_and_their_true_size_at_every_zoom(bench, slide):
    bench.mount("tissue", slide.data(layer=layer("CD8A")))
    codes, meta = slide.layers["CD8A"]
    index = 315
    value = meta["low"] + (int(codes[index]) - 1) / 65534 * (meta["high"] - meta["low"])
    colour = mpl.colormaps["viridis"](min(value / meta["p99"], 1.0))
    widths = []
    for turns in (0, 2, 2):
        x, y = bench.spot(index)
        bench.wheel(x, y, *[1] * turns)
        bench.mouse.move(5, 5)  # a spot under the pointer has a ring
        bench.settle()
        x, y = bench.spot(index)
        drawn = bench.pixel(x, y)
        assert np.abs(drawn[:3] - np.array(colour[:3]) * 255).max() <= 3
        if turns == 0:
            assert drawn[3] == pytest.approx(0.6 * 255, abs=2)
        row = bench.pixels(x - 60, y, 120, 1)[0, :, 3] > 40
        width = np.argmin(row[60:]) + np.argmin(row[60::-1]) - 1
        scale = bench.ask("screen().scale")
        assert width == pytest.approx(slide.diameter * scale, abs=3)  # 2 of them are the outline
        widths.append(width)
    assert widths[0] < widths[1] < widths[2]


def test_zeros_and_unmeasured_spots_are_not_drawn(bench, slide):
    bench.mount("tissue", slide.data(layer=layer("CD8A")))
    alpha = [bench.pixel(*bench.spot(index))[3] for index in range(3)]
    assert alpha[:2] == [0, 0]
    assert alpha[2] > 0
    bench.find("text=show zeros").click()
    bench.settle()
    alpha = [bench.pixel(*bench.spot(index))[3] for index in range(3)]
    assert alpha[0] > 0
    assert alpha[1] == 0


def test_a_million_spots_are_drawn_without_dropping_any(bench, server):
    side = 1000
    xy = spots_of(side * 8, side * 8, 8.0)
    million = FakeSlide(xy, None, diameter=8.0, shape="square")
    million.layers["all"] = continuous(np.linspace(1, 2, len(xy)), "all")
    server.slides["million"] = million
    bench.mount("million", million.data(layer=layer("all")))
    counts = bench.ask("counts()")
    assert (counts["spots"], counts["placed"], counts["drawn"]) == (side**2, side**2, side**2)
    assert "highest shows" in bench.find(".si-hint").inner_text()
    bench.wheel(700, 450, *[1] * 8)
    assert bench.find(".si-hint").inner_text() == ""


def test_a_slide_without_a_picture_or_pixel_size_shows_its_spots(bench, server):
    bare = server.slides["bare"]
    bench.mount("bare", bare.data())
    assert "Pixel size unknown" in bench.find(".si-banner").inner_text()
    assert bench.find(".si-bar-text").inner_text().endswith(" px")
    radius = bench.ask("spotAt(0)")["radius"]
    x, y = bench.spot(0)
    area = bench.find(".si-canvas").bounding_box()
    assert area["x"] < x < area["x"] + area["width"] / 4
    assert bench.pixels(x - radius - 2, y, int(2 * radius) + 4, 1)[0, :, 3].max() > 0
    assert bench.pixel(x, y)[3] == 0, "a spot without a value is an outline"


def test_a_click_tells_the_spot_and_a_click_beside_takes_it_back(bench, slide):
    bench.mount("tissue", slide.data())
    bench.mouse.click(*bench.spot(205))
    assert bench.told("spot") == [205]
    bench.page.wait_for_timeout(400)  # two clicks at once are a double-click
    between = np.mean([bench.spot(205), bench.spot(236)], axis=0)
    bench.mouse.click(*between)
    assert bench.told("spot") == [205, None]


def test_a_lasso_holds_the_spots_that_shapely_says(bench, slide):
    bench.mount("tissue", slide.data(layer=layer("CD8A")))
    polygon = bench.lasso(*CIRCLE)
    assert all(isinstance(value, int) for point in polygon for value in point)
    assert len(polygon) < 60
    inside = shapely.contains_xy(shapely.Polygon(polygon), *slide.spots.T.astype(float))
    assert 0 < inside.sum() == bench.ask("counts().inside")
    inner, outer = (
        np.flatnonzero((slide.layers["CD8A"][0] > 20000) & here)[0] for here in (inside, ~inside)
    )
    assert bench.pixel(*bench.spot(inner))[3] > 3 * bench.pixel(*bench.spot(outer))[3] > 0


def test_a_box_has_four_corners(bench, slide):
    bench.mount("tissue", slide.data())
    bench.find("button[aria-label^=Box]").click()
    corners = [bench.ask(f"slideAt({x}, {y})") for x, y in [(500, 300), (800, 600)]]
    bench.drag((500, 300), (600, 400), (800, 600))
    polygon = bench.told("lasso")[-1]
    assert len(polygon) == 4
    assert np.allclose([np.min(polygon, axis=0), np.max(polygon, axis=0)], corners, atol=1)


def test_a_vertex_can_be_dragged_and_removed(bench, slide):
    box = [[500, 500], [1500, 500], [1500, 1500], [500, 1500], [300, 1000]]
    bench.mount("tissue", slide.data(lasso=box, lassoStamp=1))
    assert bench.told("lasso") == [], "what Python set is not told back"
    area = bench.find(".si-canvas").bounding_box()

    def corner(x, y):
        screen = bench.ask("screen()")
        return (
            area["x"] + (x - screen["left"]) * screen["scale"],
            area["y"] + (y - screen["top"]) * screen["scale"],
        )

    x, y = corner(1500, 1500)
    moved = [round(value) for value in bench.ask(f"slideAt({x + 90}, {y + 60})")]
    bench.drag((x, y), (x + 40, y + 20), (x + 90, y + 60))
    assert np.abs(np.subtract(bench.told("lasso")[-1], [*box[:2], moved, *box[3:]])).max() <= 1
    bench.keyboard.down("Alt")
    bench.mouse.click(*corner(300, 1000))
    bench.keyboard.up("Alt")
    assert len(bench.told("lasso")[-1]) == 4
    assert bench.told("spot") == []


def test_a_vertex_is_added_on_the_line_and_goes_where_it_is_dragged(bench, slide):
    box = [[500, 500], [1500, 500], [1500, 1500], [500, 1500]]
    bench.mount("tissue", slide.data(lasso=box, lassoStamp=1))
    area = bench.find(".si-canvas").bounding_box()
    screen = bench.ask("screen()")
    x = area["x"] + (500 - screen["left"]) * screen["scale"]
    y = area["y"] + (1000 - screen["top"]) * screen["scale"]
    bench.keyboard.down("Alt")
    bench.mouse.click(x, y)
    bench.page.wait_for_timeout(400)
    clicked = bench.told("lasso")[-1]
    bench.drag((x, y - 40), (x - 30, y - 40), (x - 60, y - 50))
    bench.mouse.click(x + 300, y)  # on no line: nothing
    bench.keyboard.up("Alt")
    assert len(clicked) == 5
    assert np.abs(np.subtract(clicked[4], [500, 1000])).max() <= 1, "after the line's beginning"
    dragged = bench.told("lasso")[-1]
    assert len(dragged) == 6
    there = bench.ask(f"slideAt({x - 60}, {y - 50})")
    assert np.abs(np.subtract(dragged[5], there)).max() <= 1
    assert dragged[:5] == clicked


def test_regions_are_clicked_by_their_outline_or_where_no_spot_is(bench, slide):
    ring = [[950, 650], [1850, 650], [1850, 1550], [950, 1550]]
    regions = [{"id": "r1", "name": "twin", "polygons": [ring], "kind": "hit"}]
    bench.mount("tissue", slide.data(regions=regions))
    inside = np.flatnonzero((np.abs(slide.spots - [1450, 1150]) < 10).all(axis=1))[0]
    x, y = bench.spot(inside)
    scale = bench.ask("screen().scale")
    bench.mouse.click(x - 500 * scale, y + 50 * scale)
    bench.page.wait_for_timeout(400)
    bench.mouse.click(x + 50 * scale, y + 50 * scale)
    bench.page.wait_for_timeout(400)
    assert bench.told("region") == ["r1", "r1"]
    bench.mouse.click(x, y)
    assert bench.told("spot") == [inside]


def test_names_of_regions_do_not_cover_each_other(bench, slide):
    bench.mount("tissue", slide.data())
    scale = bench.ask("screen().scale")
    regions = [
        {
            "id": kind,
            "name": "a name",
            "polygons": [[[950, top], [1850, top], [1850, 1550], [950, 1550]]],
            "kind": kind,
        }
        for kind, top in (("hit", 650), ("annotation", 650 + 10 / scale))  # 10 px lower
    ]
    (x, y), (left, top) = bench.spot(0), slide.spots[0].tolist()
    # Inside the lower name, outside the upper one and off both outlines.
    between = x + (1400 - left) * scale, y + (650 - top) * scale + 5
    seen = []
    for shown in (regions, regions[::-1]):  # the first comes first
        bench.update(slide.data(regions=shown))
        bench.page.wait_for_timeout(200)  # it is drawn at the next frame
        assert bench.pixels(between[0] - 15, between[1] - 11, 30, 1)[..., 3].min() > 250
        seen.append(bench.pixels(between[0] - 15, between[1], 30, 1)[..., 3].min() > 250)
    assert seen == [False, True]


def test_the_pointer_on_a_spot_shows_its_card(bench, slide):
    slide.cards[205] = {"spot_id": "AAAC-1", "values": [{"name": "KRT8", "text": "2.9"}]}
    bench.mount("tissue", slide.data(layer=layer("score")))
    bench.mouse.move(*bench.spot(205))
    card = bench.find(".si-card")
    card.wait_for(state="visible")
    words = card.inner_text()
    assert "AAAC-1" in words
    assert "KRT8" in words
    assert "score" in words
    bench.mouse.move(*np.mean([bench.spot(205), bench.spot(236)], axis=0))
    card.wait_for(state="hidden")
