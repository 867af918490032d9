"""Figures and the viewer give the same category the same colour."""

from __future__ import annotations

from stamp_index.export.category_colours import MAX_CATEGORIES, category_colours
from tests.browser.viewer_bench import Bench, viewer_server


def test_colours_of_categories_are_those_of_the_viewer(page):
    with viewer_server() as server:
        packed = Bench(page, server).page.evaluate(
            """async (n) => {
              const { categoryColour } = await import("/viewer/colours.js");
              return Array.from({ length: n }, (_, i) => categoryColour(i)); }""",
            MAX_CATEGORIES,
        )
    theirs = [[colour & 255, colour >> 8 & 255, colour >> 16 & 255] for colour in packed]
    assert category_colours(MAX_CATEGORIES).tolist() == theirs
