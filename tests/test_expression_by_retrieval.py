"""Expression predicted from retrieved spots, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression import (
    by_retrieval,
    mean_weights,
    predict_by_all,
    predict_by_mean,
    predict_by_similarity,
    predict_by_softmax,
    softmax_weights,
)
from tests.probe_world import unit


def _world(n=23, m=31, d=5, g=4, seed=0):
    rng = np.random.default_rng(seed)
    return (
        unit(rng.normal(size=(n, d))),
        unit(rng.normal(size=(m, d))),
        rng.gamma(1.0, size=(m, g)).astype(np.float32),
    )


def _nearest(query, against, k):
    """The k best rows of a loop; equal scores by row."""
    scores = [float(np.float64(query) @ np.float64(row)) for row in against]
    return sorted(range(len(against)), key=lambda row: (-scores[row], row))[:k], scores


@pytest.mark.parametrize("k", [1, 7, 31, 50])
def test_the_plain_mean_equals_a_loop(k):
    queries, against, expression = _world()
    found = predict_by_mean(queries, against, expression, k)
    for query, row in zip(queries, found, strict=True):
        near, _ = _nearest(query, against, k)
        np.testing.assert_allclose(row, expression[near].astype(np.float64).mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("k", [1, 7, 31])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_the_softmax_mean_equals_a_loop(k, temperature):
    queries, against, expression = _world(seed=1)
    found = predict_by_softmax(queries, against, expression, k, temperature=temperature)
    for query, row in zip(queries, found, strict=True):
        near, scores = _nearest(query, against, k)
        weights = np.exp(np.array([scores[at] for at in near]) / temperature)
        slow = (weights[:, None] * expression[near]).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(row, slow, rtol=1e-4)  # float32 scores, divided by .01


@pytest.mark.parametrize("blocks", [(1024, 4096), (4, 3), (1, 1)])
@pytest.mark.parametrize("temperature", [1e-3, 0.05, 10.0])
def test_the_mean_of_all_spots_equals_a_loop_however_it_is_cut(monkeypatch, blocks, temperature):
    monkeypatch.setattr(by_retrieval, "_QUERIES", blocks[0])
    monkeypatch.setattr(by_retrieval, "_ROWS", blocks[1])
    queries, against, expression = _world(seed=2)
    found = predict_by_all(queries, against, expression, temperature=temperature)
    for query, row in zip(queries, found, strict=True):
        scores = np.array([float(query @ one) for one in against]) / temperature
        weights = np.exp(scores - scores.max())
        slow = (weights[:, None] * expression).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(row, slow, rtol=2e-3 if temperature < 0.01 else 1e-5)


def test_the_mean_by_cosines_equals_lokis_two_lines():
    queries, against, expression = _world(seed=3)
    similarity = queries.astype(np.float64) @ against.T.astype(np.float64)
    slow = similarity @ expression / similarity.sum(axis=1, keepdims=True)
    found = predict_by_similarity(queries, against, expression)
    np.testing.assert_allclose(found, slow, rtol=1e-9, atol=1e-9)


def test_cosines_that_cancel_give_the_plain_mean():
    against = np.array([[1, 0], [-1, 0]], np.float32)
    expression = np.array([[1.0], [3.0]])
    found = predict_by_similarity(np.array([[1, 0]], np.float32), against, expression)
    np.testing.assert_array_equal(found, [[2.0]])


@given(st.integers(0, 1000), st.integers(1, 12))
def test_of_equal_scores_the_first_training_spots_are_taken(seed, k):
    rng = np.random.default_rng(seed)
    few = np.eye(3, dtype=np.float32)
    against, queries = few[rng.integers(0, 3, 12)], few[rng.integers(0, 3, 4)]
    expression = rng.normal(size=(12, 2))
    found = predict_by_mean(queries, against, expression, k)
    for query, row in zip(queries, found, strict=True):
        near, _ = _nearest(query, against, k)
        np.testing.assert_allclose(row, expression[near].mean(axis=0), atol=1e-9)


@given(st.integers(0, 1000), st.integers(1, 40))
def test_weights_are_shares_of_k_training_spots(seed, k):
    queries, against, _ = _world(seed=seed)
    for weights in (mean_weights(queries, against, k), softmax_weights(queries, against, k)):
        assert weights.shape == (len(queries), len(against))
        np.testing.assert_allclose(weights.sum(axis=1), 1.0)
        assert (np.diff(weights.indptr) == min(k, len(against))).all()
        assert (weights.data > 0).all()


def test_a_prediction_lies_between_the_levels_that_it_is_a_mean_of():
    queries, against, expression = _world(seed=5)
    for found in (
        predict_by_mean(queries, against, expression, 5),
        predict_by_softmax(queries, against, expression, 5),
        predict_by_all(queries, against, expression),
    ):
        assert (found >= expression.min(axis=0) - 1e-6).all()
        assert (found <= expression.max(axis=0) + 1e-6).all()


PREDICTIONS = (predict_by_mean, predict_by_softmax, predict_by_all, predict_by_similarity)


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_what_does_not_fit_together_is_refused(predict):
    queries, against, expression = _world()
    with pytest.raises(EvaluationError, match="no training spots"):
        predict(queries, against[:0], expression[:0])
    with pytest.raises(EvaluationError, match="from one encoder"):
        predict(queries[:, :3], against, expression)
    with pytest.raises(EvaluationError, match="one row for each"):
        predict(queries, against, expression[:5])
    for side in (0, 1):
        held = [queries.copy(), against.copy()]
        held[side][2, 1] = np.nan
        with pytest.raises(EvaluationError, match="not finite, first in row 2"):
            predict(*held, expression)


def test_settings_that_mean_nothing_are_refused():
    queries, against, expression = _world()
    with pytest.raises(ValueError, match="k is 0"):
        predict_by_mean(queries, against, expression, 0)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            predict_by_softmax(queries, against, expression, temperature=temperature)
        with pytest.raises(ValueError, match="above 0"):
            predict_by_all(queries, against, expression, temperature=temperature)
