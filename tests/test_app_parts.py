"""The app's helpers without a page: pictures, scale bars, escaped text."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stamp_index.genes import parse_signature
from tests.support import TOY_GENES

pytest.importorskip("streamlit")

html = importlib.import_module("app.markup")
pictures = importlib.import_module("app.drawing")
query = importlib.import_module("app.query_controls")
slides = importlib.import_module("app.slide_views")

LENGTHS = st.floats(1e-3, 1e7)


# ---- scale bars ------------------------------------------------------------------------------


@given(LENGTHS)
def test_scale_bar_is_the_longest_round_length_that_fits(longest):
    steps = [digit * 10.0**power for power in range(-4, 8) for digit in (1, 2, 5)]
    expected = max(step for step in steps if step <= longest * (1 + 1e-9))  # slow and obvious
    assert pictures.round_length(longest) == pytest.approx(expected)


@given(LENGTHS)
def test_bar_takes_between_a_seventh_and_a_third_of_the_picture(width_um):
    share, label = pictures.scale_bar(width_um)
    assert 0.34 / 2.5 * 0.999 <= share <= 0.34 * 1.001
    assert label.endswith((" µm", " mm"))


@pytest.mark.parametrize(
    ("length_um", "text"), [(50, "50 µm"), (500, "500 µm"), (1000, "1 mm"), (0.5, "0.5 µm")]
)
def test_lengths_are_written_in_the_fitting_unit(length_um, text):
    assert pictures.length_text(length_um) == text


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan"), float("inf")])
def test_scale_bar_of_no_length_is_refused_with_its_value(length):
    with pytest.raises(ValueError, match=str(length)):
        pictures.round_length(length)


def test_bar_on_a_picture_is_as_long_as_it_says():
    picture = Image.new("RGB", (400, 300), (200, 100, 150))
    pictures.draw_scale_bar(picture, (0.25, "20 µm"))
    pixels = np.asarray(picture)
    dark = (pixels == pictures.INK).all(axis=2)
    assert dark.sum(axis=1).max() == pytest.approx(100, abs=2)


# ---- crops -------------------------------------------------------------------------


@given(st.floats(-50, 150), st.floats(-50, 150), st.integers(1, 60))
def test_crop_is_square_and_inside_whatever_its_centre(x, y, side):
    image = np.arange(100 * 60 * 3, dtype=np.uint8).reshape(60, 100, 3)
    cut = pictures.square_crop(image, centre=(x, y), side_px=side)
    assert cut.shape == (side, side, 3)


def test_crop_in_the_middle_is_centred():
    image = np.zeros((60, 100, 3), np.uint8)
    image[30, 50] = 255
    cut = pictures.square_crop(image, centre=(50.5, 30.5), side_px=11)
    assert cut[5, 5, 0] == 255


def test_crop_larger_than_the_image_names_both_sizes():
    with pytest.raises(ValueError, match=r"61 px wide .* 100 x 60 px"):
        pictures.square_crop(np.zeros((60, 100, 3), np.uint8), centre=(0, 0), side_px=61)


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5))
def test_view_and_level_0_are_inverse(x, y):
    view = slides.SlideView("S", b"", 120.0, 80.0, 3000.0, 2000.0, 0.5)
    assert view.level0(view.share(x, y)) == pytest.approx((x, y), abs=1e-6)


def test_view_without_a_pixel_size_counts_pixels():
    view = slides.SlideView("S", b"", 0.0, 0.0, 3000.0, 2000.0, None)
    assert view.bar() == (500 / 3000, "500 px")


@pytest.mark.parametrize(
    ("colour", "share"), [((245, 244, 246), 0.0), ((150, 60, 150), 1.0), ((230, 150, 180), 1.0)]
)
def test_tissue_absorbs_light_and_glass_does_not(colour, share):
    assert pictures.tissue_share(np.full((20, 20, 3), colour, np.uint8)) == share


# ---- text ------------------------------------------------------------------------------------


@given(st.text(alphabet=r"ab\`*_[]<>$~#|!(){} "))
def test_plain_text_loses_nothing_but_its_meaning(text):
    escaped = html.plain(text)
    assert escaped.replace("\\\\", "\0").replace("\\", "").replace("\0", "\\") == text


def reading(name: str, kind: str) -> dict:
    words = dict.fromkeys(("gene", "value", "spread", "percentile", "title"), name)
    return {**words, "side": "high", "share": 3.0, "kind": kind}


def test_names_from_files_cannot_become_tags():
    name = "<img src=x onerror=alert(1)>"
    for body in (
        html.facts([(name, name)]),
        html.slide_bars({name: 3}),
        html.gene_bars([reading(name, kind) for kind in ("measured", "predicted", "unknown")]),
        html.badge(name),
    ):
        assert "<img" not in body
        assert "&lt;img" in body


# ---- queries ---------------------------------------------------------------------------------


def test_examples_use_only_genes_of_the_store():
    for genes in (TOY_GENES, ("ERBB2", "XYZ"), ("ABC1", "DEF2", "GHI3", "JKL4"), ("ABC1",)):
        texts = query.examples(genes)
        assert 1 <= len(texts) <= 3
        assert all(set(parse_signature(text).genes) <= set(genes) for text in texts)


def test_every_example_can_be_read():
    assert all(parse_signature(text).genes for text in query.EXAMPLES)
