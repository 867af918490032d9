"""Symmetries of a square and stain variation."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer_world import numbered_set
from trainer.augment import turn, turned_cells, vary_stain
from trainer.data import draw
from trainer.recipe_file import load_recipe


def test_eight_symmetries_are_all_different_and_the_first_changes_nothing():
    grid = np.arange(9).reshape(1, 3, 3)
    assert len({turn(grid, which).tobytes() for which in range(8)}) == 8
    np.testing.assert_array_equal(turn(grid, 0), grid)


@pytest.mark.parametrize("which", range(8))
def test_neighbouring_pixels_stay_neighbours(which):
    grid = np.arange(25).reshape(1, 5, 5, 1)
    turned = turn(grid, which)[0, :, :, 0]
    for value in range(25):
        (row, column) = np.argwhere(turned == value)[0]
        for other in (value + 1 if value % 5 < 4 else -1, value + 5 if value < 20 else -1):
            if other >= 0:
                assert np.abs(np.argwhere(turned == other)[0] - (row, column)).sum() == 1


@pytest.mark.parametrize("which", range(8))
def test_the_label_follows_its_cell_through_every_symmetry(which):
    turned = turn(np.arange(9).reshape(1, 3, 3), which).ravel()
    for cell in range(9):
        assert turned[turned_cells(which)[cell]] == cell


def test_a_batchs_label_names_the_cell_of_the_turned_region_that_held_the_patch():
    # A region's fourth channel numbers its cells before the turn, its third says which was asked for.
    data, recipe = numbered_set(), load_recipe("stamp", ("model.gene_tower.context=4",))
    seen = set()
    for seed in range(48):
        batch = draw(data, np.arange(12)[:, None], recipe, np.random.default_rng(seed))
        cells = batch.inputs.region.numpy()[:, :, :, 3].reshape(12, 9)
        asked = batch.inputs.region.numpy()[:, 0, 0, 2]
        for row in range(12):
            assert cells[row, batch.label[row]] == asked[row]
        assert np.all(
            batch.inputs.patch.numpy()[:, :, :, 3].reshape(12, 9) == cells
        )  # one turn for both
        seen.add(cells[0].tobytes())
    assert len(seen) == 8


@pytest.fixture(scope="module")
def tissue():
    rng = np.random.default_rng(0)
    pink = np.array([200, 120, 170]) + rng.normal(0, 15, (4, 12, 12, 3))
    return pink.clip(0, 255).astype(np.uint8)


def _tint(image):
    """Direction (3,) of the mean optical density: colour without how dark it is."""
    density = -np.log((image.reshape(-1, 3).mean(axis=0) + 1) / 256)
    return density / np.linalg.norm(density)


def test_no_strength_changes_nothing(tissue):
    draws = np.random.default_rng(1).uniform(-1, 1, (4, 2, 3))
    np.testing.assert_array_equal(vary_stain(tissue, 0.0, draws), tissue)


def test_draws_in_the_middle_of_the_range_change_no_pixel_by_more_than_rounding(tissue):
    varied = vary_stain(tissue, 0.3, np.zeros((4, 2, 3)))
    assert np.abs(varied.astype(int) - tissue).max() <= 1


def test_stain_changes_the_tint_of_tissue_and_leaves_white_white(tissue):
    draws = np.array([[[1.0, -1.0, 0.0], [0, 0, 0]], [[-1.0, 1.0, 0.0], [0, 0, 0]]])
    one, other = vary_stain(tissue[:2], 0.3, draws)
    assert np.degrees(np.arccos(_tint(one) @ _tint(other))) > 5
    white = np.full((2, 5, 5, 3), 255, np.uint8)
    np.testing.assert_array_equal(vary_stain(white, 0.3, draws), white)


def test_a_shift_tints_white_by_little():
    white = np.full((8, 5, 5, 3), 255, np.uint8)
    varied = vary_stain(white, 0.5, np.random.default_rng(2).uniform(-1, 1, (8, 2, 3)))
    assert varied.min() > 235
    assert varied.min() < 255


def test_more_of_every_stain_is_darker_and_each_image_has_its_own_draw(tissue):
    draws = np.zeros((4, 2, 3))
    draws[0, 0], draws[1, 0] = 1.0, -1.0
    varied = vary_stain(tissue, 0.4, draws)
    assert varied[0].mean() < tissue[0].mean() - 5
    assert varied[1].mean() > tissue[1].mean() + 5
    assert np.abs(varied[2].astype(int) - tissue[2]).max() <= 1


def test_stains_are_those_of_a_loop_over_pixels_in_float64(tissue):
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    draws = np.random.default_rng(3).uniform(-1, 1, (4, 2, 3))
    fast = vary_stain(tissue, 0.2, draws)
    for image in range(4):
        factor, shift = 1 + 0.2 * draws[image, 0], 0.2 * draws[image, 1] / 20
        for y, x in ((0, 0), (3, 7), (11, 2)):
            density = -np.log((tissue[image, y, x] + 1.0) / 256)
            amounts = np.linalg.solve(stains.T, density) * factor + shift
            expected = np.clip(256 * np.exp(-(stains.T @ amounts)) - 1, 0, 255)
            assert np.abs(fast[image, y, x] - expected).max() <= 0.51
