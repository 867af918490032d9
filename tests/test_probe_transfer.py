"""A probe that learns on some slides and is tried on others: against scikit-learn, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from stamp_index.evaluate.probe import ProbeError, ProbeSettings, transfer_probe
from tests.probe_world import random_world

SETTINGS = ProbeSettings(label="region", features="gene", C=0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return random_world(tmp_path_factory.mktemp("transfer"), n_slides=4, n=80, signal=1.0)


def spots_of(store, names):
    slides = store.slides()
    rows = np.flatnonzero(store.mask_of(slides["slide_id"].isin(names).to_numpy()))
    x = store.vectors("gene", rows).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True), store.label("region", rows).to_numpy()


def test_it_is_one_regression_from_the_training_slides_to_the_tested_ones(store):
    found = transfer_probe(store, SETTINGS, ["S1", "S2", "S3"], ["S4"])
    (x, y), (tested, truth) = spots_of(store, ["S1", "S2", "S3"]), spots_of(store, ["S4"])
    mean, sd = x.mean(axis=0), x.std(axis=0)
    model = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit((x - mean) / sd, y)
    said = model.predict((tested - mean) / sd)
    assert (found.n_train, found.n_test, found.C) == (240, 80, 0.5)
    assert found.scores["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(truth, said), abs=0.02
    )
    assert np.abs(found.confusion - confusion_matrix(truth, said, labels=found.classes)).sum() <= 2
    assert found.accuracy == pytest.approx((said == truth).mean(), abs=0.02)
    assert found.majority == max((truth == name).mean() for name in found.classes)
    assert found.chance == pytest.approx(1 / len(set(truth)))
    assert found.scores["balanced_accuracy"] > found.random_features["balanced_accuracy"] + 0.1


def test_the_penalty_is_chosen_on_the_training_slides_alone(store):
    free = ProbeSettings(label="region", features="gene")
    one = transfer_probe(store, free, ["S1", "S2"], ["S3"])
    other = transfer_probe(store, free, ["S1", "S2"], ["S4"])
    assert one.C == other.C
    assert one.n_train == other.n_train


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [(["S1", "S2"], [], "tested slides have no spot"), ([], ["S1"], "have 0 classes")],
)
def test_sides_that_have_nothing_are_refused(store, train, test, words):
    with pytest.raises(ProbeError, match=words):
        transfer_probe(store, SETTINGS, train, test)
