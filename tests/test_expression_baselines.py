"""Baselines: what they are by definition, what they find where there is something, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.evaluate.baselines import fit_cca, fit_ridge, mean_expression, random_vectors
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.metrics import retrieval_ranks


def _world(n=300, seed=0):
    """Images and genes that share four hidden directions, and noise of their own."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 4))
    image = hidden @ rng.normal(size=(4, 20)) + 0.1 * rng.normal(size=(n, 20))
    genes = 3 + hidden @ rng.normal(size=(4, 30)) * 0.3 + 0.1 * rng.normal(size=(n, 30))
    return image.astype(np.float32), genes.astype(np.float32)


def test_random_vectors_have_unit_length_and_follow_their_seed():
    found = random_vectors(50, 7, seed=3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found, random_vectors(50, 7, seed=3))
    assert not np.array_equal(found, random_vectors(50, 7, seed=4))


def test_the_mean_is_that_of_the_training_spots():
    train = np.random.default_rng(0).normal(size=(9, 3))
    found = mean_expression(train, 5)
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found, np.tile(train.mean(axis=0), (5, 1)))
    with pytest.raises(EvaluationError, match="no training spot"):
        mean_expression(train[:0], 5)


@pytest.mark.parametrize("fit", [fit_ridge, fit_cca])
def test_closed_forms_find_held_out_partners_far_above_chance(fit):
    image, genes = _world()
    maps = fit(image[:200], genes[:200])
    found = maps.image(image[200:]), maps.gene(genes[200:])
    for held in found:
        assert held.shape[0] == 100
        assert held.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(held, axis=1), 1, atol=1e-6)
    assert np.median(retrieval_ranks(*found)) <= 5  # chance: 50
    again = fit(image[:200], genes[:200])
    np.testing.assert_array_equal(found[0], again.image(image[200:]))


def test_one_gene_and_columns_without_variance_are_enough_for_a_fit():
    image, genes = _world(40)
    image[:, 3] = 7
    for fit in (fit_ridge, fit_cca):
        assert np.isfinite(fit(image, genes[:, :1]).image(image[:5])).all()


@pytest.mark.parametrize("fit", [fit_ridge, fit_cca])
def test_pairs_that_cannot_be_fitted_are_refused(fit):
    image, genes = _world(20)
    with pytest.raises(EvaluationError, match="one row for each training spot"):
        fit(image[:5], genes[:6])
    with pytest.raises(EvaluationError, match="1 training spots are too few"):
        fit(image[:1], genes[:1])
    for side, name in enumerate(("image features", "expression")):
        held = [image.copy(), genes.copy()]
        held[side][:] = 2
        with pytest.raises(EvaluationError, match=f"The {name} of all 20 .* are the same"):
            fit(*held)
        held = [image.copy(), genes.copy()]
        held[side][4, 2] = np.inf
        with pytest.raises(EvaluationError, match=f"The {name} of 1 .* first in row 4"):
            fit(*held)
