"""Niches of nine: against a slow loop, by their properties, and on grids of other platforms."""

from __future__ import annotations

import time

import numpy as np
import pytest

from trainer.stage1.niches import SIZE, group_niches, pitch_um


def n_left_out(niches, xy):
    """Spots that are in no group."""
    return len(xy) - len(np.unique(niches.members))


def hexagonal(rows, columns, pitch=100.0):
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.stack([(column + 0.5 * (row % 2)) * pitch, row * pitch * np.sqrt(3) / 2], axis=1)


def scattered(n, seed=0):
    return hexagonal(n // 20, 20) + np.random.default_rng(seed).normal(0, 9, (n, 2))


def slow_niches(xy, angle, max_pitches):
    """The same rule with sets and loops."""
    xy = [np.array(place) for place in xy]
    gap = lambda a, b: float(np.linalg.norm(xy[a] - xy[b]))  # noqa: E731
    everyone = range(len(xy))
    pitch = np.median([min(gap(a, b) for b in everyone if b != a) for a in everyone])
    ahead = np.array([np.cos(angle), np.sin(angle)])
    free = sorted(everyone, key=lambda spot: float(xy[spot] @ ahead))
    groups = []
    while len(free) >= 9:
        near = sorted(free[1:], key=lambda spot: gap(free[0], spot))[:8]
        groups.append([free[0], *near])
        free = [spot for spot in free if spot not in groups[-1]]
    if free:
        middle = np.mean([xy[spot] for spot in free], axis=0)
        taken = [spot for spot in everyone if spot not in free]
        taken.sort(key=lambda spot: float(np.linalg.norm(xy[spot] - middle)))
        groups.append([*free, *taken[: 9 - len(free)]])
    kept = {}
    for group in groups:
        if max(gap(a, b) for a in group for b in group) <= max_pitches * pitch:
            kept[frozenset(group)] = min(group, key=lambda a: sum(gap(a, b) for b in group))
    return kept


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("n", [180, 200])
def test_groups_and_centres_equal_a_slow_loop(n, angle):
    xy = scattered(n)
    fast = group_niches(xy, angle=angle, max_pitches=5.0)
    assert {frozenset(group): group[0] for group in fast.members.tolist()} == slow_niches(
        xy, angle, 5.0
    )


@pytest.mark.parametrize(
    "xy",
    [
        hexagonal(20, 21),
        np.stack(np.meshgrid(np.arange(19), np.arange(22)), axis=-1).reshape(-1, 2) * 8.0,
        np.random.default_rng(1).random((400, 2)) * 2000,
        hexagonal(24, 24)[np.random.default_rng(2).random(576) < 0.6],
    ],
    ids=["hexagonal", "square", "random", "holes"],
)
def test_every_group_holds_nine_spots_and_almost_every_spot_is_in_one(xy):
    niches = group_niches(xy, angle=0.4)
    assert all(len(set(group)) == SIZE for group in niches.members.tolist())
    in_one = np.bincount(niches.members.ravel(), minlength=len(xy))
    assert n_left_out(niches, xy) <= 0.12 * len(xy)
    assert (in_one > 1).sum() <= SIZE - 1  # only what fills up the last group
    for group in niches.members:
        gaps = np.linalg.norm(xy[group][:, None] - xy[group], axis=2)
        assert gaps.max() <= 10 * niches.pitch_um
        assert gaps.sum(axis=1)[0] == pytest.approx(gaps.sum(axis=1).min())


def test_left_over_spots_are_filled_up_with_their_nearest():
    xy = hexagonal(2, 5)
    niches = group_niches(xy)
    assert len(niches.members) == 2
    assert n_left_out(niches, xy) == 0


def test_a_group_across_a_gap_is_dropped():
    xy = np.concatenate([hexagonal(3, 3), hexagonal(2, 2) + [5000.0, 0.0]])
    niches = group_niches(xy)
    assert len(niches.members) == 1
    assert n_left_out(niches, xy) == 4


def test_microns_decide_and_not_array_steps():
    """A slide stretched in one axis groups along the other."""
    square = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    members = group_niches(square * [1.0, 30.0], max_pitches=100).members
    assert np.ptp((square * [1.0, 30.0])[members][..., 1], axis=1).mean() < 10
    assert np.ptp(square[group_niches(square).members][..., 1], axis=1).mean() > 1.5


def test_another_angle_gives_other_groups_and_the_same_angle_the_same():
    xy = hexagonal(20, 20)
    first, again, other = (group_niches(xy, angle=angle).members for angle in (0.3, 0.3, 1.4))
    np.testing.assert_array_equal(first, again)
    assert {*map(frozenset, first.tolist())} != {*map(frozenset, other.tolist())}


def test_fewer_than_nine_spots_have_no_niche():
    niches = group_niches(hexagonal(2, 4))
    assert niches.members.shape == (0, 9)


def test_spots_at_one_place_do_not_break_the_pitch():
    doubled = np.repeat(hexagonal(3, 3), 2, axis=0)
    assert pitch_um(doubled) == pytest.approx(100.0)
    assert pitch_um(np.zeros((20, 2))) == 0.0
    assert all(len(set(group)) == 9 for group in group_niches(np.zeros((20, 2))).members.tolist())


def test_a_large_slide_is_grouped_in_seconds():
    started = time.perf_counter()
    xy = hexagonal(100, 250)
    niches = group_niches(xy, angle=0.3)
    assert n_left_out(niches, xy) < 25_000 * 0.01
    assert time.perf_counter() - started < 5.0
