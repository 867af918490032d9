"""`stamp-index inspect`: what it says of a slide, and spots drawn where they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from stamp_index.cli import main
from stamp_index.errors import SlideError
from stamp_index.slides.overlay import draw_overlay
from tests.space_ranger_run import Run
from tests.support import toy_slide


def inspect(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_a_slide_is_described_and_drawn_without_being_added(tmp_path):
    run = Run(tmp_path)
    result = inspect(run.path, "--overlay", tmp_path / "out.png")
    assert result.exit_code == 0
    for words in (
        "P1_A: Space Ranger (reader version 1)",
        "2,000 x 1,500 px",
        "1 um/px, 2 x 1.5 mm",
        "spots: 63, 55 um wide",
        "organ not known",
        "derived from the spots' pitch of 100 um",
        "scalefactors_json.json",
    ):
        assert words in result.output
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (1600, 1200)


def test_slides_below_a_folder_are_listed(tmp_path):
    Run(tmp_path / "a")
    Run(tmp_path / "b")
    result = inspect(tmp_path)
    assert "2 slides below" in result.output
    assert "a/P1_A" in result.output


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    run = Run(tmp_path)
    (run.path / "filtered_feature_bc_matrix.h5").write_bytes(b"x")
    result = inspect(run.path)
    assert result.exit_code == 1
    assert "cannot be read as a 10x matrix" in result.output
    assert "Traceback" not in result.output


def test_rings_lie_around_the_spots():
    slide = toy_slide("A", n_spots=40)
    picture = np.asarray(draw_overlay(slide, max_px=slide.width_px)).astype(int)
    green = (picture[..., 1] > 150) & (picture[..., 0] < 80) & (picture[..., 2] < 120)
    radius = slide.spot_diameter_um / 2 / slide.mpp - 1.5  # rings are 3 px thick, inwards
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    on_ring = [
        green[round(y + radius * np.sin(a)), round(x + radius * np.cos(a))]
        for x, y in slide.xy_px
        for a in angle
    ]
    assert np.mean(on_ring) > 0.9
    centres = slide.xy_px.round().astype(int)
    assert not green[centres[:, 1], centres[:, 0]].any()


def test_bins_are_drawn_as_squares():
    slide = replace(toy_slide("A", n_spots=1), parameters={"bin_um": 100.0})
    picture = np.asarray(draw_overlay(slide, max_px=slide.width_px)).astype(int)
    radius = slide.spot_diameter_um / 2 / slide.mpp
    x, y = (slide.xy_px[0] + radius).round().astype(int)
    assert picture[y - 1, x - 1][1] > 150


def test_without_an_image_there_is_nothing_to_draw_on():
    with pytest.raises(SlideError, match="A has no image"):
        draw_overlay(toy_slide("A", n_spots=3, image=False))
