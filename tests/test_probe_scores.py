"""Numbers of probes against scikit-learn, and where they are not defined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    recall_score,
    roc_auc_score,
)

from stamp_index.evaluate.probe.scores import (
    class_scores,
    confusion,
    gene_scores,
    mean_and_sd,
    recalls,
)


@given(seed=st.integers(0, 10_000), n=st.integers(6, 60), k=st.integers(2, 5))
def test_class_scores_equal_scikit_learn_ties_included(seed, n, k):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(k), rng.integers(0, k, n)])
    probability = rng.integers(1, 5, (n + k, k)).astype(float)  # many ties
    probability /= probability.sum(axis=1, keepdims=True)
    said = probability.argmax(axis=1)
    auroc = np.mean([roc_auc_score(truth == one, probability[:, one]) for one in range(k)])
    assert class_scores(truth, probability) == pytest.approx(
        {
            "balanced_accuracy": balanced_accuracy_score(truth, said),
            "macro_f1": f1_score(truth, said, labels=range(k), average="macro", zero_division=0),
            "auroc": auroc,
        },
        abs=1e-9,
    )
    labels = range(k)
    np.testing.assert_array_equal(
        confusion(truth, said, k), confusion_matrix(truth, said, labels=labels)
    )
    np.testing.assert_allclose(
        recalls(truth, said, k), recall_score(truth, said, labels=labels, average=None)
    )


def test_classes_that_are_not_there_do_not_count():
    truth = np.array([0, 0, 1, 1])
    probability = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]])
    found = class_scores(truth, probability)
    assert found["balanced_accuracy"] == pytest.approx(0.75)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_one_class_has_no_auroc():
    found = class_scores(np.array([1, 1]), np.array([[0.4, 0.6], [0.6, 0.4]]))
    assert found["balanced_accuracy"] == 0.5
    assert np.isnan(found["auroc"])


def test_a_constant_prediction_correlates_with_nothing():
    found = gene_scores(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0))
    assert found == {"pearson": 0.0, "spearman": 0.0, "r2": 0.0}


@pytest.mark.parametrize("truth", [np.ones(3), np.array([1.0])])
def test_equal_expression_has_no_numbers(truth):
    assert all(
        np.isnan(value) for value in gene_scores(truth, np.arange(len(truth)) + 0.5).values()
    )


def test_folds_without_a_number_are_not_in_the_mean():
    nan = float("nan")
    mean, sd = mean_and_sd([{"r": 1.0, "q": nan}, {"r": nan, "q": nan}, {"r": 3.0, "q": nan}])
    assert mean["r"] == 2.0
    assert sd["r"] == pytest.approx(np.std([1, 3], ddof=1))
    assert np.isnan(mean["q"])
    assert np.isnan(sd["q"])
    assert np.isnan(mean_and_sd([{"r": 1.0}])[1]["r"])
