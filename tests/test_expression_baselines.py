"""Baselines: what they are by definition, what they find where there is something, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.evaluate.baselines import (
    cca_vectors,
    image_neighbours,
    mean_expression,
    random_vectors,
    ridge_vectors,
    slide_mean_expression,
)
from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import predict_by_mean
from stamp_index.evaluate.metrics import retrieval_ranks
from tests.probe_world import unit


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


def test_means_are_those_of_the_training_spots_and_of_each_slide():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(9, 3)), rng.normal(size=(5, 3))
    found = mean_expression(train, 5)
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found, np.tile(train.mean(axis=0), (5, 1)))
    slide = np.array([0, 0, 1, 1, 1])
    by_slide = slide_mean_expression(test, slide)
    for spot in range(5):
        np.testing.assert_allclose(by_slide[spot], test[slide == slide[spot]].mean(axis=0))
    with pytest.raises(EvaluationError, match="no training spot"):
        mean_expression(train[:0], 5)


def test_neighbours_by_image_need_no_gene_embedding():
    image, genes = _world()
    near = unit(image)
    found = image_neighbours(near[:200], near[200:], genes[:200], k=5)
    np.testing.assert_array_equal(found, predict_by_mean(near[200:], near[:200], genes[:200], 5))


@pytest.mark.parametrize("vectors", [ridge_vectors, cca_vectors])
def test_closed_forms_find_held_out_partners_far_above_chance(vectors):
    image, genes = _world()
    found = vectors(image[:200], genes[:200], image[200:], genes[200:])
    for held, n in ((found.train_image, 200), (found.train_gene, 200), (found.test_image, 100)):
        assert held.shape[0] == n
        assert held.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(held, axis=1), 1, atol=1e-6)
    assert np.median(retrieval_ranks(found.test_image, found.test_gene)) <= 5  # chance: 50
    again = vectors(image[:200], genes[:200], image[200:], genes[200:])
    np.testing.assert_array_equal(found.test_image, again.test_image)


@pytest.mark.parametrize("vectors", [ridge_vectors, cca_vectors])
def test_test_spots_do_not_change_what_is_fitted(vectors):
    image, genes = _world()
    whole = vectors(image[:200], genes[:200], image[200:], genes[200:])
    part = vectors(image[:200], genes[:200], image[200:210] * 5, genes[200:210] * 2)
    np.testing.assert_array_equal(whole.train_image, part.train_image)
    np.testing.assert_array_equal(whole.train_gene, part.train_gene)


def test_one_gene_and_columns_without_variance_are_enough_for_a_fit():
    image, genes = _world(40)
    image[:, 3] = 7
    for vectors in (ridge_vectors, cca_vectors):
        found = vectors(image, genes[:, :1], image[:5], genes[:5, :1])
        assert np.isfinite(found.test_image).all()


@pytest.mark.parametrize("vectors", [ridge_vectors, cca_vectors])
def test_pairs_that_cannot_be_fitted_are_refused(vectors):
    image, genes = _world(20)
    with pytest.raises(EvaluationError, match="one row for each training spot"):
        vectors(image[:5], genes[:6], image, genes)
    with pytest.raises(EvaluationError, match="1 training spots are too few"):
        vectors(image[:1], genes[:1], image, genes)
    for side, name in enumerate(("image features", "expression")):
        held = [image.copy(), genes.copy()]
        held[side][:] = 2
        with pytest.raises(EvaluationError, match=f"The {name} of all 20 .* are the same"):
            vectors(*held, image, genes)
        held = [image.copy(), genes.copy()]
        held[side][4, 2] = np.inf
        with pytest.raises(EvaluationError, match=f"The {name} of 1 .* first in row 4"):
            vectors(*held, image, genes)
