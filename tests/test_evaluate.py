"""Evaluation: ranks and recall against slow code, known answers, refusals."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.errors import StampIndexError
from stamp_index.evaluate import (
    evaluate_run,
    group_interval,
    mean_interval,
    pearson_per_gene,
    retrieval_ranks,
    retrieval_recall_at_k,
)
from stamp_index.evaluate.prediction import weighted_mean
from tests.support import toy_slide
from tests.trainer_world import PIXELS, small_slides
from trainer.prepare import Job
from trainer.recipe_file import load_recipe
from trainer.split import Wish, make_split
from trainer.train import train_slides


def _units(n, d, seed):
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_ranks_equal_a_loop():
    queries, targets = _units(60, 4, 0), _units(60, 4, 1)
    slow = [
        sum(float(queries[i] @ targets[j]) >= float(queries[i] @ targets[i]) for j in range(60))
        for i in range(60)
    ]
    assert retrieval_ranks(queries, targets).tolist() == slow


def test_ties_count_against_us():
    same = np.tile(_units(1, 3, 0), (7, 1))
    assert retrieval_ranks(same, same).tolist() == [7] * 7


@pytest.mark.parametrize("seed", range(5))
def test_ranks_of_long_vectors_are_those_of_their_directions(seed):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(600, 128)).astype(np.float32) * 30
    targets = rng.normal(size=(600, 128)).astype(np.float32)
    targets[300:] = targets[:300] * 7
    ranks = retrieval_ranks(queries, targets)
    assert ranks.min() >= 2, "each target has its double"
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, targets)]
    np.testing.assert_array_equal(ranks, retrieval_ranks(*unit))


def test_perfect_embeddings_have_rank_one_and_k_equal_to_n_gives_recall_one():
    x = _units(30, 8, 2)
    assert retrieval_recall_at_k(retrieval_ranks(x, x), 1) == 1.0
    assert retrieval_recall_at_k(retrieval_ranks(x, _units(30, 8, 3)), 30) == 1.0


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 60))
def test_recall_is_the_share_of_ranks_up_to_k(ranks, k):
    expected = sum(rank <= k for rank in ranks) / len(ranks)
    assert retrieval_recall_at_k(np.array(ranks), k) == pytest.approx(expected)


@pytest.mark.parametrize("ranks", [[], [0, 1]], ids=["empty", "zero"])
def test_impossible_ranks_are_refused(ranks):
    with pytest.raises(ValueError, match="at least one rank and none below 1"):
        retrieval_recall_at_k(np.array(ranks, dtype=np.int64), 1)


def test_unequal_shapes_are_refused_with_both():
    with pytest.raises(ValueError, match=r"\(3, 4\) and targets \(2, 4\)"):
        retrieval_ranks(_units(3, 4, 0), _units(2, 4, 0))


def test_group_interval_holds_the_mean_and_resamples_patients_when_there_are_several():
    rng = np.random.default_rng(0)
    groups = [rng.normal(shift, 0.1, 200) for shift in (0.0, 1.0, 2.0)]
    low, high = group_interval(groups, lambda x: float(x.mean()))
    assert low < 1.0 < high
    assert high - low > 1.0  # three patients that differ by 1 say little about a fourth
    alone = group_interval(groups[:1], lambda x: float(x.mean()))
    assert alone[1] - alone[0] < 0.1


def test_the_interval_of_a_mean_is_that_of_any_statistic():
    rng = np.random.default_rng(1)
    groups = [rng.normal(shift, 1, 30 + 10 * at) for at, shift in enumerate((0.0, 0.5, 1.0, 3.0))]
    numbers = np.repeat(np.arange(4), [len(group) for group in groups])
    fast = mean_interval(np.concatenate(groups), numbers)
    assert fast == pytest.approx(group_interval(groups, lambda x: float(x.mean())))
    alone = mean_interval(groups[0], np.zeros(30, np.int64))
    assert alone == pytest.approx(group_interval(groups[:1], lambda x: float(x.mean())))


def test_the_interval_of_a_mean_leaves_out_what_is_not_known():
    values = np.array([np.nan, 1.0, 1.0, np.nan])
    assert mean_interval(values, np.array([0, 0, 1, 2])) == (1.0, 1.0)
    assert np.isnan(mean_interval(values[:1], np.array([0]))).all()


def test_pearson_leaves_out_spots_that_lack_a_gene():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    x[:10, 0] = np.nan
    y[5:20, 1] = np.nan
    y[:, 2] = 0.1  # a constant that no sum hits exactly
    found = pearson_per_gene(x, y)
    kept = np.r_[0:5, 20:50]
    assert found[0] == pytest.approx(np.corrcoef(x[10:, 0], y[10:, 0])[0, 1], abs=1e-12)
    assert found[1] == pytest.approx(np.corrcoef(x[kept, 1], y[kept, 1])[0, 1], abs=1e-12)
    assert np.isnan(found[2])


def test_pearson_equals_numpy_and_is_nan_for_a_constant_gene():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    y[:, 2] = 1.0
    found = pearson_per_gene(x, y)
    assert found[:2] == pytest.approx([np.corrcoef(x[:, g], y[:, g])[0, 1] for g in range(2)])
    assert np.isnan(found[2])


def test_weighted_mean_equals_a_loop():
    rng = np.random.default_rng(1)
    scores, values = rng.uniform(-1, 1, (4, 30)).astype(np.float32), rng.normal(size=(30, 5))
    slow = np.zeros((4, 5))
    for i in range(4):
        best = np.argsort(-scores[i])[:7]
        weight = np.exp(scores[i, best].astype(float) / 0.05)
        slow[i] = (weight[:, None] * values[best]).sum(0) / weight.sum()
    np.testing.assert_allclose(weighted_mean(scores, values, k=7), slow, rtol=1e-5)


def test_slides_of_trained_patients_and_of_new_ones_are_never_pooled():
    from dataclasses import replace

    from stamp_index.evaluate.report import Embedded, _galleries

    parts = [
        Embedded(
            replace(toy_slide(name, n_spots=10, seed=0), patient_id=patient),
            _units(10, 4, 0),
            _units(10, 4, 1),
        )
        for name, patient in (("A2", "P1"), ("A3", "P1"), ("B1", "P2"))
    ]
    split = {"train": ["A1"], "patients": {"A1": "P1"}}
    galleries = _galleries(split, parts)
    assert {label: len(members) for label, members in galleries.items()} == {
        "all held out by section": 2,
        "slide A2 (held out by section)": 1,
        "slide A3 (held out by section)": 1,
        "slide B1 (held out by patient)": 1,
    }


def test_a_folder_without_a_split_is_refused(tmp_path):
    with pytest.raises(StampIndexError, match="split.json is missing"):
        evaluate_run(tmp_path, [toy_slide("A", n_spots=10, seed=0)])


def test_slides_that_were_all_trained_on_are_refused(tmp_path):
    (tmp_path / "split.json").write_text(
        json.dumps({"by": "nothing", "train": ["A"], "held_out": [], "patients": {}, "hash": "0"})
    )
    with pytest.raises(StampIndexError, match=r"None of the slides \(A\) is held out"):
        evaluate_run(tmp_path, [toy_slide("A", n_spots=10, seed=0)])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "the split is not an object"),
        ('{"by": "patient"}', "the split has no train"),
        ('{"by": "luck", "train": [], "patients": {}, "hash": ""}', "it was split by 'luck'"),
        ('{"by": "patient", "train": "A", "patients": {}, "hash": ""}', "the split.train is not a list"),
    ],
)  # fmt: skip
def test_a_damaged_split_is_named_with_what_is_wrong(tmp_path, text, reason):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(
        StampIndexError, match=rf"split.json is damaged \({reason}.*Copy the run again"
    ):
        evaluate_run(tmp_path, [toy_slide("A", n_spots=10, seed=0)])


@pytest.fixture(scope="module")
def slides():
    return small_slides(3, 20)


@pytest.fixture
def run(tmp_path, slides):
    """A run of a small recipe without steps, whose features lie elsewhere."""
    recipe = load_recipe("clip", (*PIXELS, "optimiser.epochs=0", "images.source=shards"))
    job = Job(recipe, tmp_path / "run", features=tmp_path / "cache", workers=0, quiet=True)
    train_slides(slides, make_split(slides, Wish(slides=["C"])), job)
    return job.out


def names(folder):
    """Slides whose features are in a folder."""
    return sorted(path.name[0] for path in folder.glob("*.npy"))


def test_evaluation_takes_the_features_that_training_used(run, slides, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    evaluate_run(run, slides)
    assert names(tmp_path / "cache") == ["A", "B", "C"]
    assert all(path.stat().st_mtime_ns == made for path, made in before.items())
    assert not (run / "features").exists()


def test_features_that_are_named_win(run, slides, tmp_path):
    evaluate_run(run, slides, features=tmp_path / "mine")
    assert names(tmp_path / "mine") == ["A", "B", "C"]
    assert names(tmp_path / "cache") == ["A", "B"]


@pytest.mark.parametrize(
    "loss",
    [
        lambda run, cache: shutil.rmtree(cache),
        lambda run, cache: (shutil.rmtree(cache), cache.write_text("a file")),
        lambda run, cache: (run / "run.json").unlink(),
        lambda run, cache: (run / "run.json").write_text("{"),
        lambda run, cache: (run / "run.json").write_text("[]"),
        lambda run, cache: (run / "run.json").write_text('{"features": 5}'),
        lambda run, cache: (run / "run.json").write_text('{"features": "a\\u0000b"}'),
    ],
    ids=["gone", "a file", "no record", "cut off", "a list", "a number", "no path"],
)
def test_features_that_are_gone_are_made_again_in_the_run(run, slides, tmp_path, loss):
    loss(run, tmp_path / "cache")
    evaluate_run(run, slides)
    assert names(run / "features") == ["A", "B", "C"]


def test_evaluation_tells_how_far_it_is_of_how_much(run, slides):
    for _ in range(2):  # the second time all images are there
        told = []
        evaluate_run(run, slides, progress=lambda *now, told=told: told.append(now))
        done = [now for now, _ in told]
        assert done == sorted(done)
        # A patch, its embedding and that of its genes.
        assert {total for _, total in told} == {3 * 60}
        assert told[-1] == (180, 180)


@pytest.mark.parametrize("n_patients", [2, 3, 5, 8])
def test_intervals_over_few_patients_hold_the_truth_95_times_in_a_hundred(n_patients):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_patients), 30)
    held = 0
    for _ in range(400):
        values = rng.normal(size=n_patients)[groups] + rng.normal(size=len(groups))
        low, high = mean_interval(values, groups)
        held += low <= 0 <= high
    assert held / 400 >= 0.92  # of two patients it may end at the greatest value that was seen


def test_intervals_of_shares_stay_between_0_and_1():
    hits = np.array([1.0] * 9 + [0.0] * 11)
    low, high = mean_interval(hits, np.repeat([0, 1], 10))
    assert (low, high) == (0.0, 1.0)


def test_numbers_that_are_none_are_refused_by_metrics():
    bad = _units(5, 4, 0)
    bad[2, 1] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        retrieval_ranks(bad, _units(5, 4, 1))
    with pytest.raises(ValueError, match="whole number"):
        retrieval_recall_at_k(np.array([1, 2]), 1.5)
    with pytest.raises(ValueError, match="infinite"):
        pearson_per_gene(np.array([[1.0], [np.inf]]), np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"\(5, 1\) and measured \(5, 3\)"):
        pearson_per_gene(np.ones((5, 1)), np.ones((5, 3)))
