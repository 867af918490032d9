"""Slides page in a browser: spots, lasso, genes, and an address that brings it all back."""

from __future__ import annotations

import re

import pytest
import shapely
from playwright.sync_api import expect

from stamp_index.addresses import encode_polygon
from tests.browser.driving import drag, spot_place, view, viewer

PLACES = [
    (40, 40),
    (40, 330),
    (330, 330),
    (330, 40),
    (42, 40),
]  # around the first spots of a toy slide


class Sent:
    """Bytes that a page has sent over its websocket."""

    def __init__(self, page) -> None:
        self.n_bytes = 0
        page.on("websocket", lambda socket: socket.on("framesent", self._add))

    def _add(self, frame) -> None:
        self.n_bytes += len(frame)


def lasso_count(page) -> int:
    card = page.locator(".st-key-lassocard")
    card.get_by_text("Lasso:").wait_for()
    return int(re.search(r"Lasso: ([\d,]+) spot", card.inner_text())[1].replace(",", ""))


def draw(page, host, places) -> None:
    """Draw a lasso through level-0 places."""
    host.hover()
    page.keyboard.press("l")
    on_screen = host.evaluate(
        """(host, places) => places.map(([x, y]) => {
          const v = host.__stamp.view(), s = host.__stamp.spotAt(0), first = host.__first;
          return [s.x + (x - first[0]) * v.zoom, s.y + (y - first[1]) * v.zoom];
        })""",
        places,
    )
    drag(page, [tuple(place) for place in on_screen])
    page.keyboard.press("v")


def open_slide(page, server, store, **query):
    page.goto(server.url("", **query))
    host = viewer(page)
    slide = query.get("s", "S1")
    spots = store.spots()
    first = spots[spots["slide_id"] == slide][["x_px", "y_px"]].iloc[0].tolist()
    host.evaluate("(host, first) => { host.__first = first; }", first)
    return host


def test_click_on_a_spot_shows_its_id_and_its_patch(page, server, store):
    host = open_slide(page, server, store)
    page.mouse.click(*spot_place(host, 13))
    card = page.locator(".st-key-spotcard")
    card.get_by_text("S1:B0013-1", exact=True).wait_for()
    picture = card.locator("img")
    picture.wait_for()
    assert picture.evaluate("img => img.decode().then(() => img.naturalWidth)") > 0


@pytest.mark.parametrize("scale", [1.0, 4.0], ids=["some spots", "the whole slide"])
def test_lasso_has_the_spots_inside_and_sends_little(page, server, store, scale):
    sent = Sent(page)
    host = open_slide(page, server, store)
    places = [(x * scale if x > 100 else 2, y * scale if y > 100 else 2) for x, y in PLACES]
    places = [(min(x, 548), min(y, 248)) for x, y in places]
    before = sent.n_bytes
    draw(page, host, places)
    told = lasso_count(page)
    polygon = host.evaluate("host => host.__stamp.lasso()")
    shape = shapely.make_valid(shapely.Polygon(polygon))
    spots = store.spots()
    xy = spots.loc[spots["slide_id"] == "S1", ["x_px", "y_px"]].to_numpy()
    assert told == int(shapely.contains_xy(shape, xy).sum()) > 0
    assert sent.n_bytes - before <= 4096


def test_another_gene_and_a_click_keep_view_and_lasso(page, server, store):
    host = open_slide(page, server, store, gene="EPCAM")
    draw(page, host, PLACES)
    told = lasso_count(page)
    host.hover()
    page.mouse.wheel(0, -120)
    page.wait_for_timeout(800)  # the zoom is animated
    before, lasso = view(host), host.evaluate("host => host.__stamp.lasso()")
    field = page.locator(".st-key-slidebar").get_by_role("combobox").last
    field.fill("CD8A")
    field.press("Enter")
    page.wait_for_function(
        "host => host.__stamp.layer() === 'CD8A' && host.__stamp.ready", arg=host.element_handle()
    )
    expect(page.locator(".st-key-lassocard")).to_contain_text("Lasso:")
    page.mouse.click(*spot_place(host, 1))
    page.locator(".st-key-spotcard").get_by_text("S1:B0001-1", exact=True).wait_for()
    after = view(host)
    assert (after["x"], after["y"], after["zoom"]) == pytest.approx(
        (before["x"], before["y"], before["zoom"]), rel=1e-6
    )
    assert host.evaluate("host => host.__stamp.lasso()") == lasso
    assert lasso_count(page) == told


def test_spot_that_was_clicked_stands_in_the_address_beside_view_and_lasso(page, server, store):
    host = open_slide(page, server, store, gene="EPCAM")
    draw(page, host, PLACES)
    lasso_count(page)
    host.hover()
    page.mouse.wheel(0, -120)
    page.wait_for_function("() => location.search.includes('view=')")
    page.wait_for_timeout(800)  # the zoom is animated
    page.mouse.click(*spot_place(host, 1))
    page.wait_for_function(
        "() => new URLSearchParams(location.search).get('spot') === 'S1:B0001-1'"
    )
    page.wait_for_timeout(500)
    for name in ("view=", "poly=", "polyof=S1"):
        assert name in page.url
    page.reload()
    viewer(page)
    page.locator(".st-key-spotcard").get_by_text("S1:B0001-1", exact=True).wait_for()
    lasso_count(page)


def test_lasso_stays_on_the_slide_that_it_was_drawn_on(page, server, store):
    draw(page, open_slide(page, server, store, s="S1", gene="CD8A"), PLACES)
    lasso_count(page)
    page.locator(".st-key-s input").click()
    page.get_by_role("option", name="S2").click()
    page.locator(".st-key-lassocard").wait_for(state="detached")
    assert viewer(page).evaluate("host => host.__stamp.lasso()") is None
    assert "polyof=S1" in page.url
    page.reload()
    viewer(page)
    expect(page.locator(".st-key-lassocard")).to_have_count(0)


def test_lasso_of_a_link_means_the_slide_that_it_opens_on(page, server):
    page.goto(server.url("", s="S1", gene="CD8A", poly=encode_polygon(PLACES[:4])))
    lasso_count(page)
    page.locator(".st-key-s input").click()
    page.get_by_role("option", name="S2").click()
    page.locator(".st-key-lassocard").wait_for(state="detached")


def test_address_brings_back_view_lasso_and_gene(page, server, store, browser):
    host = open_slide(page, server, store, gene="COL1A1")
    draw(page, host, PLACES)
    told = lasso_count(page)
    host.hover()
    page.mouse.wheel(0, -240)
    page.wait_for_timeout(800)
    page.wait_for_function("() => new URLSearchParams(location.search).has('view')")
    page.wait_for_timeout(500)  # the address follows the view after a moment
    before, address = view(host), page.url
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    try:
        other = context.new_page()
        other.goto(address)
        again = viewer(other)
        after = view(again)
        assert lasso_count(other) == told
        assert (after["x"], after["y"]) == pytest.approx((before["x"], before["y"]), abs=1)
        assert after["zoom"] == pytest.approx(before["zoom"], rel=0.01)
        assert again.evaluate("host => host.__stamp.layer()") == "COL1A1"
    finally:
        context.close()


@pytest.mark.parametrize(
    "query",
    [
        {"poly": "nonsense"},
        {"poly": "1.2.3"},
        {"poly": ".".join(["9" * 400] * 6)},
        {"view": "a.b.c"},
        {"s": "no such slide"},
        {"gene": "<img src=x onerror=alert(1)>"},
        {"by": "Label", "label": "no such label"},
        {"spot": "S1:nobody"},
        {"image": "-4", "spots": "1e9", "range": "x~y~z"},
    ],
    ids=lambda query: next(iter(query)),
)
def test_address_with_nonsense_opens_the_page(page, server, query):
    page.goto(server.url("", **query))
    viewer(page)
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.get_by_text("Something went wrong")).to_have_count(0)
