"""The demo's store with its own trained encoder, as a user meets it first."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.demo import HELD_OUT
from stamp_index.phantom import PLANTED_QUERIES
from tests.browser.conftest import serving
from tests.browser.driving import gene_input, viewer, wait_chips
from tests.test_demo import FOLDER, domain_of, pytestmark  # noqa: F401 - a fixture, and when to skip

TOP = 20


@pytest.fixture(scope="module")
def demo(browser):
    with serving(FOLDER / "store", module="app.server") as running:
        yield running


def spots(page) -> list[str]:
    """Ids of the first hits."""
    page.locator(".grid[data-ready] .tile").nth(TOP - 1).wait_for()
    names = page.locator(".tile").evaluate_all("all => all.map(one => one.ariaLabel)")
    return [name.split("spot ")[1].split(",")[0] for name in names[:TOP]]


@pytest.mark.parametrize("domain", ["lymphoid", "fat", "tumour"])
def test_planted_query_finds_its_nests_on_the_held_out_patient(page, demo, domain_of, domain):  # noqa: F811
    """At least 18 of the first 20; by chance 1 to 9 (the domains' shares)."""
    where = f'patient == "{HELD_OUT}"'
    page.goto(demo.url("genes", q=PLANTED_QUERIES[domain], where=where))
    found = spots(page)
    assert {spot.split("_")[0] for spot in found} == {HELD_OUT}
    assert np.mean([domain_of[spot] == domain for spot in found]) >= 0.9


def test_first_visit_from_the_slide_to_a_typed_query(page, demo):
    page.goto(demo.url())
    viewer(page)
    page.get_by_text("Synthetic data").first.wait_for()
    page.get_by_role("link", name="Gene to image").click()
    page.locator(".grid[data-ready] .tile").first.wait_for()
    gene_input(page)
    page.keyboard.type("HER2")
    page.keyboard.press("Enter")
    wait_chips(page, ["+CD8A", "-EPCAM", "+ERBB2"])
