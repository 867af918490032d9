"""Few-shot curves: which spots are drawn, what comes of them, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from stamp_index.errors import QueryError
from stamp_index.evaluate import ProbeCancelled, ProbeError, ProbeSettings, run_probe
from stamp_index.evaluate.probe import few_shot
from stamp_index.evaluate.probe.few_shot import draw_order
from stamp_index.evaluate.probe.run import prepare
from tests.one_scale import OneScale
from tests.probe_world import probe_slide, probe_store, random_world, unit

SETTINGS = ProbeSettings(label="region")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return random_world(tmp_path_factory.mktemp("few"), n=120, signal=2.0)


@pytest.fixture(scope="module")
def result(world):
    return few_shot(world, SETTINGS, shots=(1, 5, 30), n_draws=4)


@given(seed=st.integers(0, 500), n=st.integers(2, 60), k=st.integers(1, 12))
def test_a_draw_is_of_one_class_and_spread_over_its_groups(seed, n, k):
    rng = np.random.default_rng(seed)
    classes, groups = rng.integers(0, 3, n), rng.integers(0, 4, n)
    order = draw_order(classes, groups, (seed,))
    for one, rows in zip(np.unique(classes), order, strict=True):
        members = np.flatnonzero(classes == one)
        assert sorted(rows.tolist()) == members.tolist()
        taken = np.bincount(groups[rows[:k]], minlength=4)
        there = np.bincount(groups[members], minlength=4)
        for at in range(4):  # a group has fewer than another only if it has no more
            assert taken[at] == there[at] or taken[at] >= taken.max() - 1
    again = draw_order(classes, groups, (seed,))
    assert all((a == b).all() for a, b in zip(order, again, strict=True))


def test_every_spot_of_a_group_is_drawn_first_as_often_as_another():
    classes, groups = np.zeros(6, np.int64), np.array([0, 0, 0, 0, 1, 1])
    first = [draw_order(classes, groups, (seed,))[0][0] for seed in range(2000)]
    share = np.bincount(first, minlength=6) / 2000
    np.testing.assert_allclose(share, [0.125] * 4 + [0.25] * 2, atol=0.04)


def test_numbers_equal_plain_logistic_regression_on_the_same_draw(world, result):
    ready = prepare(world, SETTINGS)
    fit = next(one for one in result.fits if (one.shots, one.fold, one.draw) == (5, 2, 3))
    fold, y = ready.plan[1], ready.spots.truth
    order = draw_order(y[fold.train], ready.spots.places.groups("slide")[fold.train], (0, 2, 3))
    at = fold.train[np.sort(np.concatenate([rows[:5] for rows in order]))]
    scaler = OneScale().fit(ready.features[fold.train])
    model = LogisticRegression(C=1.0).fit(scaler.transform(ready.features[at]), y[at])
    said = model.predict(scaler.transform(ready.features[fold.test]))
    plain = balanced_accuracy_score(y[fold.test], said)
    assert fit.scores["balanced_accuracy"] == pytest.approx(plain)
    assert fit.n_train == 15
    assert not set(at) & set(fold.test)


def test_the_curve_is_the_mean_over_draws_and_folds_and_climbs(result):
    assert [(point.shots, point.n_fits) for point in result.points] == [(1, 16), (5, 16), (30, 16)]
    frame = result.to_pandas()
    for k in (1, 5, 30):
        values = [one.scores["macro_f1"] for one in result.fits if one.shots == k]
        assert len(values) == 16
        assert frame.loc[k, "macro_f1"] == pytest.approx(np.mean(values))
        assert frame.loc[k, "macro_f1_sd"] == pytest.approx(np.std(values, ddof=1))
    assert frame["balanced_accuracy"].is_monotonic_increasing
    assert frame.loc[30, "balanced_accuracy"] > 0.7
    assert (abs(frame["random_features_balanced_accuracy"] - 1 / 3) < 0.1).all()
    assert frame["chance"].tolist() == pytest.approx([1 / 3] * 3)


def test_json_holds_the_rows_and_every_fit(world, result):
    values = json.loads(result.to_json())
    assert values["curve"] == result.rows()
    assert len(values["fits"]) == 48
    assert values["settings"]["label"] == "region"
    probe = run_probe(world, ProbeSettings(label="region", C=1.0))
    assert values["source"]["split_hash"] == probe.source.split_hash  # tested on the same spots


def test_the_same_seed_draws_the_same_and_another_seed_others(world, result):
    assert few_shot(world, SETTINGS, shots=(30, 5, 1), n_draws=4) == result
    other = few_shot(world, ProbeSettings(label="region", seed=1), shots=(5,), n_draws=4)
    assert other.fits != tuple(one for one in result.fits if one.shots == 5)


def test_a_class_with_fewer_spots_gives_all_that_it_has_and_a_note_says_so(tmp_path):
    rng = np.random.default_rng(0)
    slides = [probe_slide(f"S{at}", ["a"] * 20 + ["b"] * 3) for at in range(3)]
    store = probe_store(tmp_path, slides, [unit(rng.normal(size=(23, 4))) for _ in slides])
    found = few_shot(store, SETTINGS, shots=(2, 10), n_draws=1)
    assert [fit.n_train for fit in found.fits] == [4] * 3 + [16] * 3
    assert "Fold 1 trains on all spots of classes with fewer than 10: 'b' (6)." in found.notes
    assert found.notes[0].startswith("C is 1;")


def test_a_class_that_no_spot_of_a_fold_has_leaves_the_others(tmp_path):
    rng = np.random.default_rng(0)
    kinds = [["a", "b"] * 10, ["a", "b", "c", "c"] * 5, ["c", "b"] * 10]
    slides = [probe_slide(f"S{at}", kind) for at, kind in enumerate(kinds)]
    store = probe_store(tmp_path, slides, [unit(rng.normal(size=(20, 4))) for _ in slides])
    found = few_shot(store, SETTINGS, shots=(3,), n_draws=2)
    assert all(np.isfinite(fit.scores["balanced_accuracy"]) for fit in found.fits)


@pytest.mark.parametrize("split", ["patient", "slide", "block", "spot"])
def test_every_split_gives_a_curve(world, split):
    settings = ProbeSettings(label="region", split=split, block_um=300.0, buffer_um=0.0)
    found = few_shot(world, settings, shots=(10,), n_draws=1)
    assert found.points[0].level.mean["auroc"] > 0.6


def test_whole_numbers_are_classes(tmp_path):
    rng = np.random.default_rng(0)
    slides = [probe_slide(f"S{i}", [0.0, 1.0, np.nan, 10.0] * 5) for i in range(2)]
    store = probe_store(tmp_path, slides, [unit(rng.normal(size=(20, 4))) for _ in slides])
    assert few_shot(store, SETTINGS, shots=(1,), n_draws=1).classes == ("0", "1", "10")


@pytest.mark.parametrize(
    ("asked", "more", "words"),
    [
        ({"gene": "CD8A"}, {}, "settings are for gene CD8A"),
        ({"label": "region"}, {"shots": ()}, "at least one number"),
        ({"label": "region"}, {"shots": (0, 5)}, "each 1 or more"),
        ({"label": "region"}, {"n_draws": 0}, "n_draws is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(world, asked, more, words):
    with pytest.raises(ValueError, match=words):
        few_shot(world, ProbeSettings(**asked), **more)


def test_stores_and_labels_that_allow_no_answer_are_refused(tmp_path, world):
    rng = np.random.default_rng(0)
    slides = [probe_slide(f"S{i}", ["a"] * 20) for i in range(2)]
    vectors = [unit(rng.normal(size=(20, 4))) for _ in slides]
    one = probe_store(tmp_path, slides, vectors)
    with pytest.raises(ProbeError, match="at least two classes"):
        few_shot(one, SETTINGS)
    bare = probe_store(tmp_path / "bare", slides, vectors, image=False)
    with pytest.raises(ProbeError, match="none with image embeddings"):
        few_shot(bare, SETTINGS)
    with pytest.raises(QueryError, match="no label 'regional'"):
        few_shot(world, ProbeSettings(label="regional"))


def test_raising_in_progress_stops_it_and_shares_climb(world):
    seen = []
    few_shot(world, SETTINGS, shots=(1, 5), n_draws=1, progress=seen.append)
    shares = [one.share for one in seen]
    assert shares == sorted(shares)
    assert seen[3].step == "fold 1 of 4: 1 of each class"

    def stop(at):
        if at.fold:
            raise ProbeCancelled

    with pytest.raises(ProbeCancelled):
        few_shot(world, SETTINGS, progress=stop)
