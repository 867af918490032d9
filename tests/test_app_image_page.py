"""Image to gene without a browser: uploads, stored spots, refusals."""

from __future__ import annotations

import importlib
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageFilter

from stamp_index.search import Searcher
from stamp_index.search.domain import store_reach
from stamp_index.search.reliability import prediction_reliability
from tests.browser.app_pages import (
    IMAGE_PAGE,
    component,
    crop,
    errors,
    html,
    png,
    start,
    tiles,
    upload,
)
from tests.support import TOY_MARKERS, ToyEncoder, toy_slides, toy_store

pytest.importorskip("streamlit")

domain = importlib.import_module("app.domain")
app_upload = importlib.import_module("app.upload")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("app"), n_slides=3, n_spots=40)


def test_image_page_says_what_to_do_before_there_is_a_picture(store):
    at = start(store, IMAGE_PAGE)
    assert "at least 112 µm wide" in at.info[0].value
    assert "never written to disk" in " ".join(caption.value for caption in at.caption)


def test_patch_of_a_stored_spot_finds_that_spot_first(store):
    at = start(store, IMAGE_PAGE, match="images")
    upload(at, png(crop(toy_slides(3, 40)[1], 13, width_um=336.0)))
    assert "spot S2:B0013-1," in tiles(at)[0]["alt"]
    assert "Predicted expression" in [s.value for s in at.subheader]


def test_moved_square_searches_the_patch_under_it(store):
    slide = toy_slides(3, 40)[1]
    at = start(store, IMAGE_PAGE, match="images")
    upload(at, png(slide.image.overview(max(slide.image.size_px))))
    data = component(at, "locator")
    x, y = slide.spots[["x_px", "y_px"]].to_numpy()[25] / slide.image.size_px
    at.session_state["locator"] = {"at": {"key": data["key"], "x": float(x), "y": float(y)}}
    at.run()
    best = tiles(at)[0]["alt"].split("spot ")[1].split(",")[0]
    assert slide.spots["domain"][best.split(":")[1]] == slide.spots["domain"].iloc[25]
    assert "centred at 300, 150 px" in " ".join(caption.value for caption in at.caption)


def test_prediction_names_the_markers_of_what_is_in_the_picture(store):
    slide = toy_slides(3, 40)[0]
    at = start(store, IMAGE_PAGE, spot=f"S1:{slide.spots.index[4]}", k="8")  # a lymphoid column
    body = html(at)
    first = body[body.index("si-pred") :].split("<b>")[1].split("</b>")[0]
    assert first in TOY_MARKERS["lymphoid"]
    assert "Measured here" in body


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        pytest.param(b"no picture, just words", "x.png", "not", id="text renamed png"),
        pytest.param(b"%PDF-1.4 ...", "x.png", "not", id="pdf"),
        pytest.param(b"", "x.png", "not", id="empty"),
        pytest.param(
            png(np.full((400, 400, 3), 120, np.uint8), "JPEG")[:-900], "x.jpg", "not", id="cut off"
        ),
    ],
)
def test_file_that_is_no_picture_is_refused_by_its_name(store, data, name, message):
    at = upload(start(store, IMAGE_PAGE), data, name)
    assert f"{name} was not read" in errors(at)
    assert message in errors(at)
    assert not at.get("bidi_component")


def test_decompression_bomb_is_refused_with_its_size(store):
    file = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(file, "PNG")
    at = upload(start(store, IMAGE_PAGE), file.getvalue(), "bomb.png")
    assert "13000" in errors(at).replace(",", "").replace(" ", "")


def test_hostile_file_name_is_shown_letter_by_letter(store):
    at = upload(start(store, IMAGE_PAGE), b"x", "![x](http://elsewhere.example).png")
    assert "\\!\\[x\\]" in at.error[0].value


def test_picture_narrower_than_a_patch_is_refused_with_both_widths(store):
    at = upload(start(store, IMAGE_PAGE), png(np.full((30, 30, 3), 120, np.uint8)))
    assert "60" in errors(at)
    assert "112" in errors(at)


def test_blank_picture_is_called_blank(store):
    at = upload(start(store, IMAGE_PAGE), png(np.full((200, 200, 3), 245, np.uint8)))
    assert "looks blank" in at.warning[0].value


def strange_picture() -> bytes:
    """Green, and noisier than any tissue."""
    strange = np.zeros((200, 200, 3), np.uint8)
    strange[..., 1] = np.random.default_rng(0).integers(0, 255, (200, 200))
    return png(strange)


def test_picture_far_from_every_spot_is_called_so_once_with_the_numbers(store):
    at = upload(start(store, IMAGE_PAGE, match="images"), strange_picture())
    warning = at.warning[-1].value
    assert warning.startswith("This patch is far from every spot of the store")
    best = float(tiles(at)[0]["score"])
    assert f"has cosine {best:.2f}" in warning
    reach = store_reach(Searcher.open(store.path, encoder=ToyEncoder()), against="image")
    assert f"reach {reach.far:.2f} on slides other than theirs" in warning
    assert not any(w.value.startswith("Nothing stands out") for w in at.warning)


def test_a_filter_is_no_fault_of_the_picture(store):
    at = start(store, IMAGE_PAGE, match="images", slide="S2")
    upload(at, strange_picture())
    assert not any("far from every spot" in w.value for w in at.warning)


def test_a_store_of_one_slide_knows_of_no_far_pictures_and_of_no_reliable_genes(tmp_path):
    at = start(toy_store(tmp_path, n_slides=1, n_spots=40), IMAGE_PAGE, match="images")
    upload(at, strange_picture())
    assert not any("far from every spot" in w.value for w in at.warning)
    said = " ".join(caption.value for caption in at.caption)
    assert "it takes two slides with pictures and counts" in said
    assert not at.toggle


def test_only_reliable_genes_are_shown_unless_all_are_asked_for(store):
    at = start(store, IMAGE_PAGE, spot="S1:B0003-1", order="name")
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    r = prediction_reliability(searcher, store.genes, k=48).set_index("gene")["r"]
    hidden = int((~(r >= 0.3)).sum())
    assert 0 < hidden < len(r)
    captions = [caption.value for caption in at.caption]
    assert f"{hidden} of {len(r)} genes hidden" in captions
    shown = re.findall(r"<tr><td><b>(.*?)</b>", html(at).split("si-pred")[1].split("</table>")[0])
    assert shown
    assert all(r[gene] >= 0.3 for gene in shown)
    unreliable = r.index[~(r >= 0.3)][0]
    at.text_input(key="find").set_value(unreliable).run()
    assert "none of these is reliable" in at.info[0].value
    at.toggle(key="reliable").set_value(False).run()
    assert f"<b>{unreliable}</b>" in html(at)


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_a_blurred_picture_is_told_from_a_sharp_one(mpp):
    pixels = skin_like(mpp)
    assert domain.blurred(pixels, mpp) is None
    soft = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(4.0 / mpp))
    assert "out of focus" in domain.blurred(np.asarray(soft), mpp)


def test_a_coarse_picture_tells_no_focus():
    assert domain.blurred(np.full((60, 60, 3), 150, np.uint8), 2.0) is None


def skin_like(mpp: float) -> np.ndarray:
    """112 um of tissue: sharp violet nuclei of 6 um, pink that grows paler to the right."""
    side = round(112 / mpp)
    y, x = np.mgrid[:side, :side] * mpp
    middles = np.random.default_rng(0).uniform(0, 112, (70, 2))
    nuclei = np.zeros((side, side), bool)
    for left, top in middles:
        nuclei |= (x - left) ** 2 + (y - top) ** 2 < 9
    pink = np.array([200, 110, 160]) + x[..., None] / 112 * [50, 120, 80]
    return np.where(nuclei[..., None], [70, 40, 110], pink).astype(np.uint8)


def test_the_cut_of_a_picture_answers_like_the_whole_file(store):
    slide = toy_slides(3, 40)[1]
    whole = slide.image.overview(max(slide.image.size_px))
    searcher = Searcher.open(store.path, encoder=ToyEncoder())
    for centre in ((300.0, 150.0), (60.0, 60.0), (100.0, 140.5)):
        made = app_upload.cut(whole, centre, (56, 168), (2.0, "x.png"))
        asked = {"mpp": 2.0, "against": "image"}
        part = searcher.search_image(made.pixels, centre_px=made.centre_of_pixels, **asked)
        again = searcher.search_image(whole, centre_px=made.centre_px, **asked)
        assert part.spot_ids == again.spot_ids
        np.testing.assert_array_equal(part.scores, again.scores)


def test_picked_hit_says_what_its_score_is_held_against(store):
    body = html(start(store, IMAGE_PAGE, spot="S1:B0003-1"))
    assert "SD from what the query scores on random spots" in body
    assert "of random queries" in body


def test_unusual_pixel_size_is_doubted(store):
    at = start(store, IMAGE_PAGE, mpp="4.0")
    assert "4 µm per pixel is outside" in at.warning[0].value


def test_unknown_spot_offers_close_ones(store):
    at = start(store, IMAGE_PAGE, spot="S1:B9999-1")
    assert "B9999-1" in errors(at)


def test_query_spot_is_no_hit_and_its_slide_can_be_left_out(store):
    at = start(store, IMAGE_PAGE, spot="S1:B0003-1", without="own slide")
    assert {tile["slide"] for tile in tiles(at)} == {"S2", "S3"}
    at = start(store, IMAGE_PAGE, spot="S1:B0003-1", without="nothing", match="images")
    assert "S1:B0003-1" not in "".join(tile["alt"] for tile in tiles(at))


def test_query_spot_is_a_ring_on_the_overview_of_its_slide(store):
    at = start(store, IMAGE_PAGE, spot="S1:B0003-1")
    data = component(at, "locator")
    assert data["shape"] == "ring"
    left = component(start(store, IMAGE_PAGE, spot="S1:B0002-1"), "locator")["at"]
    assert data["at"][0] > left[0]  # the next spot of the same line
    assert data["at"][1] == left[1]


def test_genes_of_the_prediction_are_found_by_a_part_of_their_name(store):
    at = start(store, IMAGE_PAGE, spot="S1:B0003-1")
    at.text_input(key="find").set_value("no such gene").run()
    assert "No predicted gene" in at.info[0].value
    at.text_input(key="find").set_value("krt").run()
    table = html(at).split("si-pred")[1].split("</table>")[0]
    assert "KRT8" in table
    assert ">CD8A<" not in table
