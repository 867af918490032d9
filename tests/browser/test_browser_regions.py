"""Similar regions in a browser: a band of one slide finds the same band of the others, at one zoom."""

from __future__ import annotations

import re

import pytest

from stamp_index.addresses import encode_polygon
from tests.browser.conftest import serving
from tests.browser.driving import viewer
from tests.support import toy_domains, toy_store

N_SPOTS = 200


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("regions"), n_slides=3, n_spots=N_SPOTS)


@pytest.fixture(scope="module")
def regions(large, browser):
    with serving(large.path) as running:
        yield running


def band(store, number: int = 0) -> list[tuple[int, int]]:
    """Corners around the upper half of a band of S1."""
    spots = store.spots()
    xy = spots.loc[spots["slide_id"] == "S1", ["x_px", "y_px"]].to_numpy()
    inside = xy[toy_domains(N_SPOTS) == number]
    left, top = inside.min(axis=0) - 20
    right, _ = inside.max(axis=0) + 20
    bottom = (xy[:, 1].max() + xy[:, 1].min()) / 2
    return [
        (int(x), int(y)) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))
    ]


def test_band_finds_the_same_band_on_other_slides_at_the_same_zoom(page, regions, large):
    page.goto(regions.url("regions", s="S1", poly=encode_polygon(band(large))))
    query, hit = viewer(page, 0), viewer(page, 1)
    page.get_by_text(re.compile(r"#1 on slide S[23]")).wait_for()
    hit.evaluate("host => new Promise((done) => setTimeout(done, 1500))")  # the zoom is animated
    scales = [host.evaluate("host => host.__stamp.umPerPx()") for host in (query, hit)]
    assert scales[0] == pytest.approx(scales[1], rel=0.02)
    hit.hover()
    page.mouse.wheel(0, -240)
    page.wait_for_timeout(1500)
    scales = [host.evaluate("host => host.__stamp.umPerPx()") for host in (query, hit)]
    assert scales[0] == pytest.approx(scales[1], rel=0.02)


def test_region_of_too_few_spots_is_a_sentence(page, regions):
    page.goto(
        regions.url("regions", s="S1", poly=encode_polygon([(0, 0), (60, 0), (60, 60), (0, 60)]))
    )
    page.get_by_text("a region has at least 5").wait_for()
    assert page.get_by_text("Traceback").count() == 0


def test_lasso_that_crosses_itself_is_answered(page, regions, large):
    (left, top), (right, _), (_, bottom), _ = band(large)
    bow = [(left, top), (right, bottom), (right, top), (left, bottom)]
    page.goto(regions.url("regions", s="S1", poly=encode_polygon(bow)))
    page.get_by_text(re.compile(r"#1 on slide S[23]")).wait_for()


def test_nothing_drawn_says_what_to_do(page, regions):
    page.goto(regions.url("regions"))
    viewer(page)
    page.get_by_text("Draw a region on the slide at the left").wait_for()
