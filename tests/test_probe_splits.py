"""How a probe divides spots: groups whole, classes spread, buffers kept, samples even."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stamp_index.evaluate.probe import Places, plan_folds
from stamp_index.evaluate.probe.splits import sample_evenly


def _places(rng, n, n_slides=6, width=2000.0, block_um=500.0):
    slide = rng.integers(0, n_slides, n)
    return Places(slide, slide // 2, rng.uniform(0, width, (n, 2)), block_um)


def _block_of(places):
    return [
        (int(slide), int(x // places.block_um), int(y // places.block_um))
        for slide, (x, y) in zip(places.slide, places.xy_um, strict=True)
    ]


@given(
    seed=st.integers(0, 1000),
    split=st.sampled_from(["patient", "slide", "block", "spot"]),
    n_folds=st.integers(2, 7),
    labelled=st.booleans(),
)
def test_every_spot_is_tested_once_and_no_group_is_on_both_sides(seed, split, n_folds, labelled):
    rng = np.random.default_rng(seed)
    places = _places(rng, 80)
    classes = rng.integers(0, 3, 80) if labelled else None
    plan = plan_folds(places, classes, split, n_folds=n_folds, seed=seed)
    tested = np.concatenate([fold.test for fold in plan])
    assert sorted(tested.tolist()) == list(range(80))
    name = {
        "patient": places.patient.tolist(),
        "slide": places.slide.tolist(),
        "block": _block_of(places),
        "spot": list(range(80)),
    }[split]
    assert len(plan) == min(n_folds, len(set(name)))
    for fold in plan:
        assert len(fold.test) > 0
        assert len(fold.train) + len(fold.test) == 80
        parts = [(fold.train, fold.test), *fold.inner]
        for train, test in parts:
            if fold.inner_split == split or test is fold.test:
                assert not {name[one] for one in train} & {name[one] for one in test}
        for train, test in fold.inner:
            assert set(train) | set(test) <= set(fold.train)


def test_the_number_of_a_group_says_nothing_but_its_place_in_order():
    places = Places(np.array([7, 3, 7]), np.array([0, 0, 5]), np.zeros((3, 2)), 100.0)
    assert places.groups("slide").tolist() == [1, 0, 1]
    assert places.groups("patient").tolist() == [0, 0, 1]


def test_blocks_of_two_slides_at_the_same_place_are_two_groups():
    xy = np.array([[10.0, 10.0], [10.0, 10.0], [110.0, 10.0]])
    places = Places(np.array([0, 1, 1]), np.zeros(3, int), xy, 100.0)
    assert len(set(places.groups("block"))) == 3


@given(seed=st.integers(0, 200), buffer_um=st.floats(1, 400))
def test_no_training_spot_is_nearer_to_a_test_spot_than_the_buffer(seed, buffer_um):
    rng = np.random.default_rng(seed)
    places = _places(rng, 60, n_slides=2)
    for fold in plan_folds(places, None, "block", n_folds=4, buffer_um=buffer_um):
        gone = set(range(60)) - set(fold.train) - set(fold.test)
        assert len(gone) == fold.n_near
        for one in range(60):
            if one in fold.test:
                continue
            near = any(
                places.slide[one] == places.slide[other]
                and np.abs(places.xy_um[one] - places.xy_um[other]).max() < buffer_um
                for other in fold.test
            )
            assert near == (one in gone)


def test_classes_are_dealt_evenly_when_spots_are_split_one_by_one():
    classes = np.repeat([0, 1, 2], [50, 30, 11])
    places = _places(np.random.default_rng(0), 91)
    for fold in plan_folds(places, classes, "spot", n_folds=5):
        counts = np.bincount(classes[fold.test], minlength=3)
        assert (abs(counts - np.array([10, 6, 2.2])) < 1).all()


def test_classes_are_spread_over_folds_of_whole_slides():
    slide = np.repeat(np.arange(10), 20)
    classes = np.where(slide < 5, 0, 1)  # each slide has one class
    places = Places(slide, slide, np.zeros((200, 2)), 100.0)
    for fold in plan_folds(places, classes, "slide", n_folds=5):
        assert np.bincount(classes[fold.test]).tolist() == [20, 20]


def test_a_training_part_of_one_patient_is_divided_by_slide_and_then_by_block():
    slide = np.repeat(np.arange(4), 20)
    xy = np.tile(np.arange(20.0)[:, None] * 100, (4, 2))
    by_patient = plan_folds(Places(slide, slide // 2, xy, 500.0), None, "patient", n_folds=5)
    assert [fold.inner_split for fold in by_patient] == ["slide", "slide"]
    two = Places(slide[:40], slide[:40], xy[:40], 500.0)
    assert [fold.inner_split for fold in plan_folds(two, None, "slide", n_folds=5)] == ["block"] * 2
    coarse = Places(slide[:40], slide[:40], xy[:40], 1e6)
    assert [fold.inner for fold in plan_folds(coarse, None, "slide", n_folds=5)] == [(), ()]


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    size=st.integers(1, 200),
    seed=st.integers(0, 100),
)
def test_a_sample_has_its_size_and_every_stratum_in_proportion(sizes, size, seed):
    strata = np.repeat(np.arange(len(sizes)), sizes)[:, None]
    n = len(strata)
    chosen = sample_evenly(strata, size, seed)
    assert len(chosen) == len(set(chosen.tolist())) == min(n, size)
    assert (np.diff(chosen) > 0).all()
    counts = np.bincount(strata[chosen, 0], minlength=len(sizes))
    if size >= len(sizes):
        assert counts.min() >= 1
    if size >= 2 * len(sizes):
        fair = np.array(sizes) * min(1.0, size / n)
        assert (abs(counts - fair) <= len(sizes) + 1).all()


def test_another_seed_draws_another_sample():
    strata = np.zeros((100, 1), np.int64)
    one, two = (sample_evenly(strata, 20, seed).tolist() for seed in (0, 1))
    assert one != two
    assert one == sample_evenly(strata, 20, 0).tolist()


def test_folds_are_the_same_for_the_same_seed():
    rng = np.random.default_rng(0)
    places, classes = _places(rng, 100), rng.integers(0, 3, 100)
    for split in ("slide", "block", "spot"):
        first, again = (plan_folds(places, classes, split, n_folds=3, seed=4) for _ in range(2))
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a.test, b.test)


@pytest.mark.parametrize("n_folds", [2, 3])
def test_folds_of_whole_slides_are_never_empty_where_classes_are_lumpy(n_folds):
    slide = np.repeat(np.arange(n_folds + 1), [60, 1, 1, 1][: n_folds + 1])
    classes = np.where(slide == 0, 0, 1)
    places = Places(slide, slide, np.zeros((len(slide), 2)), 100.0)
    plan = plan_folds(places, classes, "slide", n_folds=n_folds)
    assert all(len(fold.test) for fold in plan)
    assert len(plan) == n_folds
