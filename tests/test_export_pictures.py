"""Figures of slides and contact sheets of hits."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from PIL import Image

from stamp_index.embed import ingest
from stamp_index.errors import MissingGenesError, QueryError
from stamp_index.export import (
    SlideFigure,
    SpotValues,
    contact_sheet,
    label_values,
    measured_values,
)
from stamp_index.export.category_colours import MAX_CATEGORIES, category_colours
from stamp_index.export.drawing import drawable, round_length, scale_bar
from stamp_index.search import Searcher
from stamp_index.slides import ArrayImage
from stamp_index.store import EncoderCard, Store
from stamp_index.view import label_layer
from tests.plain_world import plain
from tests.support import TOY_DOMAINS, TOY_MPP, ToyEncoder, toy_slide, toy_store

OKABE_ITO = ["e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7"]
VALUES_OF_A_LABEL = SpotValues(
    np.array([[10.0, 10.0], [60.0, 60.0]]), np.array([0.0, 1.0]), "depth", "", "label"
)
EVIL = r"$\frac{1}{0}$ <b>&" + "\n\x00\u202e\U0001f600漢" + "x" * 300


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    """S1 is measured, S2 is plain H&E, S3 has no picture."""
    encoder = ToyEncoder()
    store = Store.create(tmp_path_factory.mktemp("toy") / "store", EncoderCard.of(encoder))
    for slide in (
        toy_slide("S1", 80, 1), plain(toy_slide("S2", 80, 2)), toy_slide("S3", 80, 3, image=False),
    ):  # fmt: skip
        ingest(store, encoder, slide)
    return Searcher(store, encoder)


@pytest.fixture(scope="module")
def store(searcher):
    return searcher.store


def opened(content):
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def frame_of(pixels):
    """Left, top, right and bottom of the picture in a figure: what its thin frame encloses."""
    grey = (np.abs(pixels.astype(int) - (0xD5, 0xDD, 0xE2)).max(axis=2) < 8).astype(int)
    columns, rows = grey.sum(axis=0), grey.sum(axis=1)
    across = np.flatnonzero(columns > 0.8 * columns.max())
    down = np.flatnonzero(rows > 0.8 * rows.max())
    return across[0], down[0], across[-1], down[-1]


# ---- figures ---------------------------------------------------------------------------------------


def test_spots_stand_where_they_are_in_the_colours_of_their_values_at_true_diameter(store):
    xy = np.array([[100.0, 100.0], [300.0, 200.0]])
    spots = SpotValues(xy, np.array([0.0, 1.0]), "X")
    box = (0.0, 0.0, 500.0, 400.0)
    white = ArrayImage(np.full((400, 500, 3), 255, np.uint8), mpp=TOY_MPP)
    figure = SlideFigure(store, "S1", spots, box_px=box, image=white)
    pixels = opened(figure.png())
    left, top, right, bottom = frame_of(pixels)
    scale = (right - left) / 500
    assert (bottom - top) / 400 == pytest.approx(scale, rel=0.01)
    for (x, y), value in zip(xy, (0.0, 1.0), strict=True):
        colour = np.array(colormaps["viridis"](value)[:3]) * 255 * 0.92 + 255 * 0.08
        row, column = round(top + y * scale), round(left + x * scale)
        assert np.abs(pixels[row, column] - colour).max() < 6
        line = np.abs(pixels[row, left + 4 : right - 4] - colour).max(axis=1) < 30
        assert line.sum() == pytest.approx(55.0 / TOY_MPP * scale, abs=3)


def test_a_figure_says_what_it_shows(store):
    svg = written(measured_figure(store))
    assert "CD8A on slide S1, measured" in svg
    assert f"store {store.path.name}, version {store.version}" in svg
    assert "Research use only" in svg
    assert "CD8A, log1p CP10K" in svg
    assert "80 spots. Colours end at" in svg
    assert "200 µm" in svg


def test_predicted_values_are_called_predicted(store):
    figure = measured_figure(store)
    figure = replace(figure, spots=replace(figure.spots, origin="predicted"))
    assert "CD8A on slide S1, predicted, not measured" in written(figure)


def test_a_label_has_the_viewers_colours_at_its_places(store):
    figure = SlideFigure(store, "S1", label_values(store, "S1", "domain"))
    pixels = opened(figure.png())
    left, top, right, _ = frame_of(pixels)
    box = figure._box
    scale = (right - left) / (box[2] - box[0])
    places = store.spots(["x_px", "y_px"])[:80].to_numpy()
    colour_of = dict(zip(("fat", "lymphoid", "stroma", "tumour"), OKABE_ITO, strict=False))
    for (x, y), name in zip(places, store.label("domain", np.arange(80)), strict=True):
        row, column = round(top + (y - box[1]) * scale), round(left + (x - box[0]) * scale)
        said = np.array(list(bytes.fromhex(colour_of[name])))
        assert np.abs(pixels[row, column] - said).max() < 24, name  # the tissue shines through
    codes = label_layer(store, "S1", "domain").codes
    np.testing.assert_array_equal(figure.spots.values, codes - 1.0)


def test_a_label_is_not_called_measured_and_its_categories_are_named(store):
    svg = written(SlideFigure(store, "S1", label_values(store, "S1", "domain")))
    assert "domain on slide S1 |" in svg
    assert "measured" not in svg
    assert "Colours end" not in svg
    assert set(TOY_DOMAINS) <= set(svg.split(" | "))
    numbers = written(SlideFigure(store, "S1", replace(VALUES_OF_A_LABEL, values=np.arange(2.0))))
    assert "depth on slide S1 |" in numbers
    assert "measured" not in numbers
    assert "depth," not in numbers  # no unit
    assert "Colours end" in numbers


def test_a_legend_names_the_commonest_and_counts_the_others(store):
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(60), rng.integers(0, 60, 400), np.full(30, 41), [np.nan]])
    names = tuple(f"kind {i}" for i in range(61))  # nobody has the last one
    spots = SpotValues(rng.uniform(0, 500, (491, 2)), codes, "kinds", "", "label", names)
    for box, fewest in (((0, 0, 500, 500), 20), ((0, 0, 500, 30), 9), ((200, 0, 230, 500), 20)):
        figure = SlideFigure(store, "S1", spots, box_px=box)
        texts = written(figure).split(" | ")
        shown = codes[figure._shown].astype(int)
        n_spots = np.bincount(shown, minlength=61)
        named = [int(text.removeprefix("kind ")) for text in texts if text.startswith("kind ")]
        assert min(fewest, np.count_nonzero(n_spots)) <= len(named) < 60
        assert list(n_spots[named]) == sorted(n_spots, reverse=True)[: len(named)]
        n_more = np.count_nonzero(n_spots) - len(named)
        assert (f"and {n_more} more" in texts) == (n_more > 0)


def test_a_legend_fits_the_page_whatever_its_names(store):
    names = ("W" * 80, EVIL, "_x", "i" * 80, "")
    xy = np.linspace([50, 50], [450, 400], 5)
    for box in (None, (0.0, 0.0, 400.0, 20.0), (0.0, 0.0, 60.0, 400.0)):
        spots = SpotValues(xy, np.arange(5.0), "W" * 80, "", "label", names)
        pixels = opened(SlideFigure(store, "S1", spots, box_px=box).png())
        assert (pixels[:, -15:] == 255).all()


def test_colours_of_categories_are_the_viewers():
    assert [bytes(colour).hex() for colour in category_colours(7)] == OKABE_ITO
    assert len({tuple(colour) for colour in category_colours(MAX_CATEGORIES)}) == MAX_CATEGORIES
    assert category_colours(0).shape == (0, 3)


def test_labels_that_cannot_be_drawn_are_refused(tmp_path):
    store = toy_store(tmp_path, n_slides=2)
    store.annotate("S1", "many", [f"v{i}" for i in range(40)], author="reader")
    for slide_id, label, said in (
        ("S2", "many", "No spot of slide 'S2' has the label many"),
        ("S1", "nope", "no label 'nope'"),
        ("S9", "domain", "no slide 'S9'"),
    ):
        with pytest.raises(QueryError, match=said):
            label_values(store, slide_id, label)
    assert len(label_values(store, "S1", "many").categories) == 40
    big = replace(toy_slide("S3", 210, 1), patient_id="P3")
    ingest(store, ToyEncoder(), big)
    store.annotate("S3", "many", [f"v{i}" for i in range(210)], author="reader")
    with pytest.raises(QueryError, match="210 values on this slide; at most 200 are drawn"):
        label_values(store, "S3", "many")


def test_values_that_are_no_codes_are_refused():
    two = VALUES_OF_A_LABEL
    for values, said in (((0, 2), "A value is 2"), ((0.5, 1), "0.5"), ((0, np.inf), "inf")):
        with pytest.raises(ValueError, match=said):
            replace(two, values=np.array(values, float), categories=("a", "b"))
    with pytest.raises(ValueError, match="201 categories"):
        replace(two, categories=tuple(str(i) for i in range(201)))
    with pytest.raises(ValueError, match="expected 'measured', 'predicted' or 'label'"):
        replace(two, origin="guessed")


def test_a_slide_without_pixel_size_has_a_bar_in_pixels(store):
    assert np.isnan(store.slides().set_index("slide_id").loc["S3", "mpp"])
    spots = SpotValues(np.array([[0.0, 0.0], [90.0, 0.0]]), np.zeros(2), "X")
    assert "100 px" in written(SlideFigure(store, "S3", spots, box_px=(0, 0, 400, 300)))


def measured_figure(store):
    return SlideFigure(store, "S1", measured_values(store, "S1", "CD8A"))


def written(figure):
    """Every text of a figure's SVG, whose letters are outlines: matplotlib notes them in comments."""
    svg = figure.svg().decode()
    ET.fromstring(svg)  # well formed
    return " | ".join(re.findall(r"<!-- (.*?) -->", svg, re.DOTALL))


def test_tissue_comes_from_the_image_where_one_is_given(store):
    pixels = np.zeros((500, 550, 3), np.uint8)
    pixels[:, 300:] = (0, 0, 255)
    figure = SlideFigure(
        store, "S1", box_px=(200, 0, 400, 100), image=ArrayImage(pixels, mpp=TOY_MPP)
    )
    drawn = opened(figure.png())
    left, top, right, bottom = frame_of(drawn)
    middle = (top + bottom) // 2
    assert drawn[middle, left + (right - left) // 4].tolist() == [0, 0, 0]
    assert drawn[middle, left + 3 * (right - left) // 4].tolist() == [0, 0, 255]


def test_tissue_of_the_overview_is_where_the_spots_are(store):
    figure = SlideFigure(store, "S1", box_px=(50, 50, 500, 400))
    drawn = opened(figure.png()).astype(float)
    left, top, right, bottom = frame_of(drawn)
    scale = (right - left) / 450
    overview = opened_jpeg(store.overview("S1")).astype(float)
    share = overview.shape[1] / store.slides().set_index("slide_id").loc["S1", "width_px"]
    for x, y in ((100, 100), (250, 300), (450, 350)):
        row, column = round(top + (y - 50) * scale), round(left + (x - 50) * scale)
        here = drawn[row - 9 : row + 10, column - 9 : column + 10].mean(axis=(0, 1))
        there = overview[
            round(y * share) - 3 : round(y * share) + 4, round(x * share) - 3 : round(x * share) + 4
        ]
        assert np.abs(here - there.mean(axis=(0, 1))).max() < 14


def opened_jpeg(content):
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_outlines_are_drawn_with_their_holes(store):
    ring = shapely.Point(250, 200).buffer(120).difference(shapely.Point(250, 200).buffer(50))
    figure = SlideFigure(store, "S3", outlines=[ring], box_px=(0, 0, 500, 400))
    pixels = opened(figure.png())
    left, top, right, _ = frame_of(pixels)
    scale = (right - left) / 500
    row = round(top + 200 * scale)
    accent = np.abs(pixels[row, left:right].astype(int) - (0x0F, 0x6E, 0x84)).max(axis=1) < 40
    found = np.flatnonzero(accent) / scale
    for x in (130, 200, 300, 370):
        assert np.abs(found - x).min() < 2
    assert np.min(np.abs(found[:, None] - [130, 200, 300, 370]), axis=1).max() < 4


@pytest.mark.parametrize("size", [(400, 20), (20, 400), (300, 300)])
def test_every_shape_of_a_slide_fits_a_page(store, size):
    box = (0.0, 0.0, float(size[0]), float(size[1]))
    pixels = opened(replace(measured_figure(store), box_px=box).png())
    assert pixels.shape[1] == 1400
    assert 300 < pixels.shape[0] < 2000


def test_no_name_can_break_a_figure(store):
    spots = SpotValues(np.array([[10.0, 10.0], [60.0, 60.0]]), np.array([np.nan, 2.0]), EVIL, EVIL)
    svg = written(SlideFigure(store, "S1", spots))
    assert "frac" in svg
    assert "x" * 100 not in svg
    assert "1 of 2 spots" in svg


def test_values_that_are_all_the_same_or_missing_are_drawn(store):
    places = measured_values(store, "S1", "CD8A")
    for value in (0.0, np.nan):
        spots = replace(places, values=np.full(80, value))
        opened(SlideFigure(store, "S1", spots, colours="cividis").png())


def test_what_cannot_be_drawn_is_refused(store):
    with pytest.raises(QueryError, match="no slide 'S9'"):
        SlideFigure(store, "S9").png()
    with pytest.raises(ValueError, match="expected 'viridis' or 'cividis'"):
        SlideFigure(store, "S1", colours="jet").png()
    for box in ((0, 0, 0, 5), (5, 0, 0, 5), (0, 0, np.inf, 5), (0, np.nan, 5, 5)):
        with pytest.raises(ValueError, match="with an area"):
            SlideFigure(store, "S1", box_px=box).png()
    with pytest.raises(QueryError, match="CD8A was not measured on slide 'S2'"):
        measured_values(store, "S2", "CD8A")
    with pytest.raises(MissingGenesError):
        measured_values(store, "S1", "NOPE")
    with pytest.raises(ValueError, match=r"3 values stand at places of shape \(2, 2\)"):
        SpotValues(np.zeros((2, 2)), np.zeros(3), "X")


def test_many_spots_are_a_picture_in_an_svg(store):
    rng = np.random.default_rng(0)
    spots = SpotValues(rng.uniform(0, 500, (9_000, 2)), rng.random(9_000), "X")
    assert len(SlideFigure(store, "S1", spots).svg()) < 4e6


def test_threads_draw_at_the_same_time(store):
    figures = [replace(measured_figure(store), box_px=(0, 0, w, 300)) for w in (200, 300)]
    alone = [figure.png() for figure in figures]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(SlideFigure.png, figures)) == alone


# ---- contact sheets --------------------------------------------------------------------------------


def test_a_contact_sheet_has_a_patch_for_every_hit(searcher):
    hits = searcher.search_genes("CD8A high, EPCAM low", k=8)
    pixels = opened(contact_sheet(hits, "image", columns=4))
    assert pixels.shape[1] == 2 * 48 + 4 * 268 - 28
    for at, jpeg in enumerate(searcher.store.thumbnails(hits.rows)):
        row, column = divmod(at, 4)
        cell = (240 + 8 + 4 * 26 + 28) * row + 140, 268 * column + 48
        patch = pixels[cell[0] + 20 : cell[0] + 180, cell[1] + 20 : cell[1] + 220]
        expected = opened_jpeg(jpeg).mean(axis=(0, 1))
        assert np.abs(patch.mean(axis=(0, 1)) - expected).max() < 8


def test_hits_without_a_picture_have_an_empty_square(searcher):
    hits = searcher.search_genes("CD8A high", against="gene", filters='slide == "S3"', k=2)
    pixels = opened(contact_sheet(hits))
    assert pixels[140 + 60, 48 + 30].tolist() == [0xEE, 0xF2, 0xF4]


@pytest.mark.parametrize("n", [1, 3, 160])
def test_any_number_of_hits_makes_a_sheet(searcher, n):
    hits = searcher.search_genes("CD8A high", k=n)
    pixels = opened(contact_sheet(hits, {"image": 0.5, "gene": 0.5}))
    assert pixels.shape[1] >= 1000


def test_no_name_can_break_a_contact_sheet(searcher):
    hits = searcher.search_genes("CD8A high", k=2)
    named = hits.table.assign(slide_id=[EVIL, ""]).rename(columns={"CD8A": EVIL})
    opened(contact_sheet(replace(hits, query=EVIL, table=named, genes=(EVIL,)), EVIL))


def test_sheets_of_too_many_hits_or_none_are_refused(searcher):
    hits = searcher.search_genes("CD8A high", k=2)
    for n in (0, 201):
        with pytest.raises(QueryError, match=f"of {n} hits is asked for; expected 1 to 200"):
            contact_sheet(replace(hits, rows=np.zeros(n, np.int64)))
    with pytest.raises(ValueError, match="columns is 13"):
        contact_sheet(hits, columns=13)


def test_a_gene_of_a_column_is_read_from_its_own(tmp_path):
    genes = ("z", "EPCAM", *toy_slide().genes[2:])
    slide = replace(toy_slide(), genes=genes, gene_ids=())
    store = toy_store(tmp_path, slides=[slide])
    hits = Searcher(store, ToyEncoder()).search_genes("KRT18 high", k=2, genes=["z"])
    opened(contact_sheet(hits))
    assert "expr(z)" in hits.table


# ---- what they have in common ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("longest", "expected"), [(1, 1), (1.9, 1), (2, 2), (4.99, 2), (5, 5), (999, 500), (0.03, 0.02)]
)
def test_lengths_are_round(longest, expected):
    assert round_length(longest) == pytest.approx(expected)


@given(st.floats(1e-6, 1e9))
def test_a_round_length_is_the_longest_that_fits(longest):
    length = round_length(longest)
    assert length <= longest * (1 + 1e-9) < 2.5 * length * (1 + 1e-6)


def test_bars_are_in_microns_millimetres_or_pixels():
    assert scale_bar(1000, 0.5) == (200.0, "100 µm")
    length, label = scale_bar(20_000, 0.5)
    assert (length, label) == (4000.0, "2 mm")
    assert scale_bar(20_000, float("nan")) == (5000.0, "5,000 px")
    with pytest.raises(ValueError, match="above 0"):
        round_length(0.0)


@settings(max_examples=50)
@given(st.text(), st.integers(2, 40))
def test_any_text_is_one_short_line_that_can_be_drawn(text, most):
    line = drawable(text, most)
    assert len(line) <= most
    assert "\n" not in line
    assert drawable(line, most) == line
