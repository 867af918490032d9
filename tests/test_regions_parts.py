"""The parts of a region search against slow, obvious code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stamp_index.search.regions import RegionSettings
from stamp_index.search.regions.candidates import rank_slides
from stamp_index.search.regions.grid import lattice_of, make_grid
from stamp_index.search.regions.growth import Target, grow, largest_part, tidy
from stamp_index.search.regions.matching import Matching, composition, content
from stamp_index.search.regions.outline import outline_of, scaled
from stamp_index.search.regions.prototypes import Prototypes, make_prototypes
from stamp_index.search.regions.query import Region, ask_region
from stamp_index.search.regions.slide_scan import Wanted, peaks, scan_slide, window_worth
from tests.region_world import array_um, disc, kinds, slide, store_of

few = settings(max_examples=30)
seeds = st.integers(0, 2**31)


def unit(rng, n, dim=8):
    vectors = rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# ---- arrays of spots -----------------------------------------------------------------------------


@few
@given(
    seeds,
    st.booleans(),
    st.floats(5.0, 400.0),
    st.floats(0.0, 6.3),
    st.tuples(*[st.floats(-1e4, 1e4)] * 2),
)
def test_pitch_and_area_are_found_wherever_an_array_lies(seed, hexagonal, pitch, turn, shift):
    rng = np.random.default_rng(seed)
    xy = array_um(12, 11, pitch, hexagonal=hexagonal)
    xy = xy[rng.permutation(len(xy))[:125]]  # some spots lie off the tissue
    xy = xy + rng.uniform(-0.03, 0.03, size=xy.shape) * pitch
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    lattice = lattice_of(xy @ rotation + shift)
    assert lattice.pitch_um == pytest.approx(pitch, rel=0.05)
    area = pitch**2 * (np.sqrt(3) / 2 if hexagonal else 1.0)
    assert lattice.spot_area_um2 == pytest.approx(area, rel=0.1)


def test_too_few_spots_have_no_lattice():
    assert lattice_of(np.zeros((9, 2))) is None
    assert lattice_of(np.array([[0.0, 0.0], [1.0, 1.0]])) is None


@few
@given(seeds, st.integers(1, 5))
def test_joined_spots_keep_their_sums_and_highest_values(seed, per_side):
    rng = np.random.default_rng(seed)
    xy = array_um(13, 9, 20.0, hexagonal=False)[rng.permutation(117)[:90]]
    grid = make_grid(xy, lattice_of(xy), (per_side * 20.0) ** 2)
    values = rng.normal(size=(90, 3)).astype(np.float32)
    total, highest = grid.total(values), grid.highest(values)
    assert len(grid.xy_um) == len(set(grid.unit_of))
    for unit_ in range(len(grid.xy_um)):
        of_unit = grid.unit_of == unit_
        np.testing.assert_allclose(total[unit_], values[of_unit].sum(axis=0), atol=1e-5)
        np.testing.assert_array_equal(highest[unit_], values[of_unit].max(axis=0))
        assert grid.n_spots[unit_] == of_unit.sum()
        away = np.abs(xy[of_unit] - grid.xy_um[unit_]).max()
        assert away <= (0.0 if per_side == 1 else per_side * 10.0)


def test_touching_spots_are_the_four_or_six_around_one():
    for hexagonal, n in ((True, 6), (False, 4)):
        xy = array_um(9, 9, hexagonal=hexagonal)
        touching = make_grid(xy, lattice_of(xy), 1.0).touching
        assert np.diff(touching.indptr).max() == n
        assert touching.diagonal().sum() == 0
        assert (touching != touching.T).nnz == 0


# ---- matching ------------------------------------------------------------------------------------


def matching_of(vectors, floor=0.6, softness=0.2, n=4):
    prototypes = make_prototypes(vectors, n)
    p = len(prototypes)
    return Matching(prototypes, np.zeros(p, np.float32), np.ones(p, np.float32), floor, softness)


@few
@given(seeds)
def test_scores_are_those_of_slow_loops(seed):
    rng = np.random.default_rng(seed)
    matching = matching_of(unit(rng, 20))
    weights = matching.prototypes.weights
    cosines = matching.prototypes.cosines(unit(rng, 7).astype(np.float16))
    best = [max(float(cosines[spot, p]) for spot in range(7)) for p in range(len(weights))]
    asked = sum(w * b for w, b in zip(weights, best, strict=True))
    answered = sum(max(float(c) for c in row) for row in cosines) / 7
    assert content(cosines, weights) == pytest.approx((asked + answered) / 2, abs=1e-6)
    shares = matching.shares(cosines)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-5)
    held = shares[:, :-1].sum(axis=0, dtype=float)
    slow = sum(np.sqrt(w * h / 9.0) for w, h in zip(weights, held, strict=True))
    assert composition(held, 9.0, weights) == pytest.approx(slow)
    assert composition(held, 9.0, weights) <= 1.0 + 1e-9


@given(seeds)
@few
def test_a_spot_answers_the_prototype_that_has_most_of_it(seed):
    rng = np.random.default_rng(seed)
    matching = matching_of(unit(rng, 20), floor=0.2)
    cosines = rng.uniform(-1, 1, size=(50, 4)).astype(np.float32)
    most = matching.shares(cosines).argmax(axis=1)
    np.testing.assert_array_equal(matching.answers(cosines), np.where(most == 4, -1, most))


def test_the_same_composition_is_1_and_none_in_common_is_0():
    wanted = np.array([0.5, 0.3, 0.2])
    assert composition(wanted * 40, 40.0, wanted) == pytest.approx(1.0)
    assert composition(wanted * 20, 40.0, wanted) == pytest.approx(np.sqrt(0.5))  # half is missing
    assert composition(np.array([0, 0, 40.0]), 40.0, np.array([0.6, 0.4, 0.0])) == 0.0


def test_prototypes_are_the_kinds_of_spots_largest_first():
    rng = np.random.default_rng(0)
    kind = rng.permutation(np.repeat([0, 1, 2], [30, 15, 5]))
    vectors = kinds(3)[kind] + rng.normal(size=(50, 24)) * 0.01
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    prototypes = make_prototypes(vectors, 3)
    np.testing.assert_allclose(prototypes.weights, [0.6, 0.3, 0.1])
    np.testing.assert_array_equal(prototypes.of_spot, kind)
    np.testing.assert_allclose((prototypes.vectors * kinds(3)).sum(axis=1), 1.0, atol=1e-3)


def test_few_or_equal_spots_are_prototypes_themselves():
    vectors = unit(np.random.default_rng(1), 6)
    assert len(make_prototypes(vectors, 32)) == 6
    same = make_prototypes(np.repeat(vectors[:1], 9, axis=0), 4)
    assert len(same) == 1
    assert same.weights.tolist() == [1.0]
    np.testing.assert_allclose(same.vectors, vectors[:1], atol=1e-6)


# ---- slides --------------------------------------------------------------------------------------


def test_slides_are_ranked_as_a_slow_sum_ranks_them():
    rng = np.random.default_rng(2)
    prototypes = Prototypes(
        unit(rng, 3), np.array([0.5, 0.3, 0.2]), np.repeat([0, 1, 2], [5, 3, 2])
    )
    slide_of = rng.integers(0, 12, size=(3, 40)) ** 2 // 12
    answering = rng.random((3, 40)) < 0.8
    support = {}
    for s in np.unique(slide_of[answering]):
        support[s] = 0.0
        for p, (weight, size) in enumerate(zip([0.5, 0.3, 0.2], [5, 3, 2], strict=True)):
            there = slide_of[p][answering[p]]
            votes, spread = sum(there == s), len(set(there))
            support[s] += weight * np.log(1 + 30 / spread) * votes / (votes + 0.1 * size)
    expected = sorted(support, key=lambda s: (-support[s], s))
    assert rank_slides(slide_of, answering, prototypes, 30).tolist() == expected


def test_a_slide_with_the_rare_part_goes_before_one_with_the_common_part():
    prototypes = Prototypes(
        np.eye(2, dtype=np.float32), np.array([0.5, 0.5]), np.repeat([0, 1], 10)
    )
    common = np.repeat(np.arange(8), 4)  # four rows on each of eight slides
    rare = np.repeat([8, 9], 16)
    every = np.ones((2, 32), bool)
    assert set(rank_slides(np.stack([common, rare]), every, prototypes, 100)[:2]) == {8, 9}


def test_a_slide_with_a_little_of_everything_goes_before_one_with_much_of_a_part():
    prototypes = Prototypes(
        np.eye(2, dtype=np.float32), np.array([0.5, 0.5]), np.repeat([0, 1], 10)
    )
    slide_of = np.array([[0] * 30 + [2] * 2, [1] * 30 + [2] * 2])
    order = rank_slides(slide_of, np.ones((2, 32), bool), prototypes, 100)
    assert order.tolist() == [2, 0, 1]


# ---- windows and growth --------------------------------------------------------------------------


def world_of(seed, share=0.5, columns=14):
    """A slide with a patch of a mixture, shares of its spots, and what is wanted: the mixture."""
    rng = np.random.default_rng(seed)
    xy = array_um(columns, columns)
    lattice = lattice_of(xy)
    grid = make_grid(xy, lattice, 1.0)
    kind = np.zeros(len(xy), int)
    inside = disc(xy, rng.uniform(900, 1_600, 2), 280)
    kind[inside] = np.where(rng.random(inside.sum()) < share, 1, 2)
    vectors = kinds()[kind] + rng.normal(size=(len(xy), 24)) * 0.06
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = kinds()[rng.permutation(np.repeat([1, 2], 14))] + rng.normal(size=(28, 24)) * 0.06
    asked = (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)
    matching = matching_of(asked, n=6)
    shares = matching.shares(matching.prototypes.cosines(asked))[:, :-1].sum(axis=0, dtype=float)
    wanted = Wanted(shares / shares.sum(), 28 * lattice.spot_area_um2, 280.0)
    return grid, matching.prototypes.cosines(vectors.astype(np.float16)), matching, wanted


@pytest.mark.parametrize("seed", range(3))
def test_worth_of_windows_is_that_of_a_slow_loop(seed):
    grid, cosines, matching, wanted = world_of(seed)
    shares, best = matching.shares(cosines), matching.levels(cosines).max(axis=1)
    target = Target(wanted.shares, 28.0, 280.0)
    fast = window_worth(grid, shares, best, target)
    for unit_ in range(0, len(fast), 7):
        near = disc(grid.xy_um, grid.xy_um[unit_], 280.001)
        needed = 28.0 * wanted.shares
        covered = sum(min(shares[near, p].sum(), needed[p]) for p in range(len(needed))) / 28.0
        answering = 1.0 - shares[near, -1]
        strength = (best[near] * answering).sum() / answering.sum()
        assert fast[unit_] == pytest.approx(covered * (1 + 0.5 * min(strength, 1.0)), abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_best_region_is_as_good_as_the_best_of_all_windows(seed):
    grid, cosines, matching, wanted = world_of(seed)
    found = scan_slide(
        grid.xy_um,
        grid.lattice,
        cosines,
        matching=matching,
        wanted=wanted,
        settings=RegionSettings(),
    )
    shares, scores = matching.shares(cosines), []
    for centre in grid.xy_um:  # every window of the query's area, judged as it stands
        inside = np.argsort(np.hypot(*(grid.xy_um - centre).T), kind="stable")[:28]
        alike = composition(shares[inside, :-1].sum(axis=0, dtype=float), 28.0, wanted.shares)
        scores.append(alike * content(cosines[inside], matching.prototypes.weights))
    assert found[0].score >= max(scores) - 0.005
    assert found[0].score == pytest.approx(found[0].composition * found[0].content)


@few
@given(seeds, st.integers(3, 60))
def test_growth_is_connected_near_and_as_large_as_asked(seed, n):
    grid, cosines, matching, wanted = world_of(seed % 5)
    rng = np.random.default_rng(seed)
    near = rng.random(len(grid.xy_um)) < 0.8
    start = int(rng.choice(np.flatnonzero(near)))
    target = Target(wanted.shares, float(n), 280.0)
    inside = grow(grid, matching.shares(cosines), start, target, near=near)
    assert inside[start]
    assert not (inside & ~near).any()
    assert inside.sum() <= n
    np.testing.assert_array_equal(largest_part(grid, inside), inside)
    smooth = tidy(grid, inside, near)
    assert not (smooth & ~near).any()
    np.testing.assert_array_equal(largest_part(grid, smooth), smooth)


def test_peaks_are_the_best_places_that_lie_apart():
    xy = array_um(20, 20)
    worth = np.random.default_rng(3).random(400)
    found = peaks(xy, worth, 350.0, 10)
    left = list(np.argsort(-worth))
    for unit_ in found:
        assert unit_ == left[0]
        left = [u for u in left if np.hypot(*(xy[u] - xy[unit_])) >= 350.0 * (1 + 1e-9)]
    assert peaks(xy, np.zeros(400), 350.0, 10) == []


# ---- shapes --------------------------------------------------------------------------------------


@few
@given(seeds, st.booleans(), st.integers(1, 60))
def test_outlines_hold_their_spots_and_no_others(seed, hexagonal, n):
    import shapely

    rng = np.random.default_rng(seed)
    xy = array_um(12, 12, hexagonal=hexagonal)
    xy = xy + rng.uniform(-0.05, 0.05, size=xy.shape) * 100.0
    grid = make_grid(xy, lattice_of(xy), 1.0)
    inside = np.zeros(len(xy), bool)
    inside[rng.integers(len(xy))] = True
    while inside.sum() < n:  # a ragged group that grows by chance
        edge = np.flatnonzero((grid.touching @ inside > 0) & ~inside)
        inside[rng.choice(edge)] = True
    outline = outline_of(xy[inside], grid.pitch_um)
    assert outline.is_valid
    assert outline.geom_type == "Polygon"
    assert shapely.contains_xy(outline, xy[inside]).all()
    # others lie outside, unless spots lie all around them
    filled = tidy_holes(grid, inside)
    assert not shapely.contains_xy(outline, xy[~filled]).any()
    pixels = scaled(outline, 2.0)
    np.testing.assert_allclose(pixels.bounds, np.array(outline.bounds) * 2.0)


def tidy_holes(grid, inside):
    """Spots of a group and those from which no path leads around it to the border."""
    reach = (grid.touching @ np.ones(len(inside))) < (
        6 if grid.lattice.spot_area_um2 < 9_000 else 4
    )
    out = reach & ~inside
    while True:
        more = ((grid.touching @ out.astype(float)) > 0) & ~inside & ~out
        if not more.any():
            return ~out
        out |= more


@pytest.fixture(scope="module")
def plain_store(tmp_path_factory):
    xy = array_um(16, 16)
    return store_of(tmp_path_factory.mktemp("plain"), slide("A", xy, kinds()[np.zeros(256, int)]))


def crossings(corners, x, y):
    """Whether a point lies in a polygon: a ray from it crosses the outline an odd number of times."""
    inside = False
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
    return inside


@settings(max_examples=15)
@given(seeds, st.integers(5, 12))
def test_the_spots_of_a_shape_are_those_that_a_ray_finds_inside(plain_store, seed, n):
    rng = np.random.default_rng(seed)
    turn = np.sort(rng.uniform(0, 2 * np.pi, n))
    if np.diff(turn, append=turn[0] + 2 * np.pi).max() > 3.0:
        turn = np.linspace(0, 6, n)
    radius = rng.uniform(350, 700, n)[:, None]
    corners = np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius + (1_300, 1_350)
    xy = array_um(16, 16)
    expected = [i for i, (x, y) in enumerate(xy) if crossings(corners, x, y)]
    if len(expected) >= 5:
        asked = ask_region(plain_store, Region("A", corners), "image")
        assert asked.rows.tolist() == expected
        in_px = ask_region(plain_store, Region("A", corners / 0.5, "px"), "image")
        assert in_px.rows.tolist() == expected
