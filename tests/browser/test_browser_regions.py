"""Similar regions in a browser: a band of one slide finds the same band of the others, at one zoom and in one colour."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect
from shapely import Polygon
from shapely.geometry import mapping

from stamp_index.addresses import encode_polygon
from tests.browser.conftest import serving
from tests.browser.driving import drag, spot_place, viewer
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


def spots_of_first(page) -> tuple[str, np.ndarray]:
    """Slide of hit 1, and the numbers of its spots there, from the page's file of spots."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Spots CSV", exact=True).click()
    table = pd.read_csv(download.value.path())
    first = table[table["rank"] == 1]
    barcodes = first["spot_id"].str.split(":").str[1]
    (slide_id,) = set(first["slide_id"])
    return slide_id, barcodes.str[1:5].astype(int).to_numpy()


@pytest.mark.parametrize("number", [0, 2])
def test_band_finds_the_same_band_on_another_slide(page, regions, large, number):
    page.goto(regions.url("regions", s="S1", poly=encode_polygon(band(large, number))))
    page.get_by_text(re.compile(r"#1 on slide S[23]")).wait_for()
    slide_id, spots = spots_of_first(page)
    assert slide_id in ("S2", "S3")
    assert len(spots) >= 10
    assert (toy_domains(N_SPOTS)[spots] == number).mean() > 0.9


def test_annotation_of_qupath_is_asked_with(page, regions, large):
    shape = {
        "type": "Feature",
        "properties": {"objectType": "annotation", "name": "my band"},
        "geometry": mapping(Polygon(band(large, 2))),
    }
    page.goto(regions.url("regions", s="S1"))
    viewer(page, 0)
    page.get_by_role("button", name="Load GeoJSON").click()
    page.locator('input[type="file"]').set_input_files(
        {
            "name": "q.geojson",
            "mimeType": "application/geo+json",
            "buffer": json.dumps({"type": "FeatureCollection", "features": [shape]}).encode(),
        }
    )
    page.get_by_text(re.compile(r"#1 on slide S[23]")).wait_for()
    page.keyboard.press("Escape")
    _, spots = spots_of_first(page)
    assert (toy_domains(N_SPOTS)[spots] == 2).mean() > 0.9


def test_both_viewers_keep_the_same_zoom(page, regions, large):
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


def test_region_that_was_drawn_stays_in_sight_while_its_hits_are_shown(page, regions):
    page.goto(regions.url("regions", s="S1"))
    query = viewer(page, 0)
    (x, y), (right, _) = spot_place(query, 0), spot_place(query, 1)
    pitch = right - x
    query.hover()
    page.keyboard.press("b")
    first, last = (x - pitch / 2, y - pitch / 2), (x + 3.5 * pitch, y + 3.5 * pitch)
    drag(page, [first, (x + pitch, y + pitch), last])  # 16 spots in a corner, away from the middle
    viewer(page, 1)
    page.get_by_text(re.compile(r"#1 on slide S[23]")).wait_for()
    page.wait_for_timeout(1500)  # the zoom is animated
    corners = query.evaluate(
        """host => {
            const { scale, left, top, width, height } = host.__stamp.screen();
            const xs = host.__stamp.lasso().map(([x]) => (x - left) * scale / width);
            const ys = host.__stamp.lasso().map(([, y]) => (y - top) * scale / height);
            return [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...ys) + Math.max(...ys)) / 2];
        }"""
    )
    assert corners == pytest.approx([0.5, 0.5], abs=0.1)


def test_keys_and_buttons_go_from_hit_to_hit_but_not_while_typing(page, regions, large):
    page.goto(regions.url("regions", s="S1", poly=encode_polygon(band(large))))
    page.get_by_text("gene by gene").wait_for()
    hit = viewer(page, 1)

    def picked(rank: int) -> None:
        page.get_by_text(re.compile(rf"#{rank} on slide")).wait_for()
        page.get_by_text(f"hit #{rank}, gene by gene").wait_for()
        page.get_by_text(re.compile(rf"^#{rank} of \d")).wait_for()

    hit.hover()
    page.keyboard.press("n")
    picked(2)
    page.keyboard.press("p")
    picked(1)
    page.keyboard.press("p")  # there is none before the first
    page.get_by_role("button", name="Next hit").click()
    picked(2)
    field = page.get_by_role("combobox", name="Gene")
    field.focus()
    hit.hover()
    page.keyboard.type("CD8n")
    page.wait_for_timeout(800)
    picked(2)


def test_one_gene_colours_both_viewers_over_the_same_values(page, regions, large):
    asked = {"s": "S1", "poly": encode_polygon(band(large)), "gene": "EPCAM"}
    page.goto(regions.url("regions", **asked))
    both = [viewer(page, nth) for nth in (0, 1)]
    assert [one.evaluate("host => host.__stamp.layer()") for one in both] == ["EPCAM", "EPCAM"]
    ends = [
        one.locator(".si-number").evaluate_all("all => all.map((one) => one.value)") for one in both
    ]
    values = large.expression(["EPCAM"])[:, 0]
    assert ends[0] == ends[1] != []
    assert float(ends[0][0]) == 0
    assert float(ends[0][1]) == pytest.approx(np.quantile(values, 0.99), rel=0.02)


def test_region_of_too_few_spots_is_a_sentence(page, regions):
    page.goto(
        regions.url("regions", s="S1", poly=encode_polygon([(0, 0), (60, 0), (60, 60), (0, 60)]))
    )
    page.get_by_text("a region has at least 5").wait_for()
    expect(page.get_by_text("Traceback")).to_have_count(0)


def test_lasso_that_crosses_itself_is_answered(page, regions, large):
    (left, top), (right, _), (_, bottom), _ = band(large)
    bow = [(left, top), (right, bottom), (right, top), (left, bottom)]
    page.goto(regions.url("regions", s="S1", poly=encode_polygon(bow)))
    page.get_by_text(re.compile(r"#1 on slide S[23]")).wait_for()


def test_nothing_drawn_says_what_to_do(page, regions):
    page.goto(regions.url("regions"))
    viewer(page)
    page.get_by_text("Draw a region on the slide at the left").wait_for()
