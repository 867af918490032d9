"""Contrastive losses against loops over pairs in float64, and the cluster sampler against its promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainer.clusters import cluster_partners, spot_clusters
from trainer.contrastive import clip, clip_one_way, clip_paired, clip_soft, locate


def _random(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) * 3


def _cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    lengths = [math.sqrt(sum(float(x) ** 2 for x in v)) for v in (a, b)]
    return dot / (lengths[0] * lengths[1])


def _surprise(logits, own):
    """-log softmax(logits)[own] by hand."""
    return -logits[own] + math.log(sum(math.exp(value) for value in logits))


def _slow_one_way(left, right, scale, same):
    total = 0.0
    for i in range(len(left)):
        kept = [j for j in range(len(right)) if not same[i][j]]
        logits = [scale * _cosine(left[i], right[j]) for j in kept]
        total += _surprise(logits, kept.index(i))
    return total / len(left)


@pytest.fixture
def pair():
    left, right = _random(7, 5, seed=0), _random(7, 5, seed=1)
    same = torch.zeros(7, 7, dtype=torch.bool)
    same[0, 3] = same[5, 1] = True  # on purpose not symmetric
    return left, right, same


def test_one_way_clip_is_the_loop_over_the_negatives_left(pair):
    left, right, same = pair
    slow = _slow_one_way(left, right, 8.0, same)
    assert clip_one_way(left, right, 8.0, same).item() == pytest.approx(slow, abs=1e-6)
    unmasked = _slow_one_way(left, right, 8.0, torch.zeros(7, 7))
    assert clip_one_way(left, right, 8.0).item() == pytest.approx(unmasked, abs=1e-6)
    assert abs(slow - unmasked) > 1e-3


def test_clip_is_the_mean_of_both_directions_with_the_mask_turned(pair):
    left, right, same = pair
    slow = _slow_one_way(left, right, 8.0, same) + _slow_one_way(right, left, 8.0, same.T)
    assert clip(left, right, torch.tensor(8.0), same).item() == pytest.approx(slow / 2, abs=1e-6)
    assert clip(left, right, 8.0, same).item() == pytest.approx(
        clip(right, left, 8.0, same.T).item(), abs=1e-12
    )


def test_lengths_do_not_matter_except_to_the_soft_loss(pair):
    left, right, same = pair
    assert clip(left * 9, right, 8.0, same).item() == pytest.approx(
        clip(left, right, 8.0, same).item(), abs=1e-9
    )
    assert abs(clip_soft(left * 9, right, 1.0) - clip_soft(left, right, 1.0)) > 1e-2


def _slow_soft(left, right, scale):
    b = len(left)

    def dot(x, y):
        return sum(float(p) * float(q) for p, q in zip(x, y, strict=True))

    total = 0.0
    targets = []
    for i in range(b):
        alike = [scale * (dot(left[i], left[j]) + dot(right[i], right[j])) / 2 for j in range(b)]
        targets.append([math.exp(-_surprise(alike, j)) for j in range(b)])
    for i in range(b):
        row = [scale * dot(right[i], left[j]) for j in range(b)]
        column = [scale * dot(right[j], left[i]) for j in range(b)]
        for j in range(b):
            total += targets[i][j] * _surprise(row, j) + targets[j][i] * _surprise(column, j)
    return total / (2 * b)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_soft_loss_is_the_loop_over_soft_targets(scale):
    left, right = _random(6, 4, seed=2) / 3, _random(6, 4, seed=3) / 3
    slow = _slow_soft(left, right, scale)
    assert clip_soft(left, right, scale).item() == pytest.approx(slow, abs=1e-6)


def test_the_soft_loss_sends_its_gradient_through_the_targets():
    left, right = _random(6, 4, seed=2) / 3, _random(6, 4, seed=3) / 3

    def numerical(move):  # derivative along one direction, by differences of the loss itself
        ahead, behind = left + 1e-6 * move, left - 1e-6 * move
        return (clip_soft(ahead, right, 0.2) - clip_soft(behind, right, 0.2)).item() / 2e-6

    move = _random(6, 4, seed=4)
    x = left.clone().requires_grad_()
    clip_soft(x, right, 0.2).backward()
    assert (x.grad * move).sum().item() == pytest.approx(numerical(move), rel=1e-5)


def _slow_paired(left, right, negatives, scale, same=None):
    total = 0.0
    for i in range(len(left)):
        logits = [scale * _cosine(left[i], right[i])]
        for j in range(negatives.shape[1]):
            if same is None or not same[i, j]:
                logits.append(scale * _cosine(left[i], negatives[i, j]))
        total += _surprise(logits, 0)
    return total / len(left)


def test_the_paired_loss_is_the_loop_over_own_negatives_and_the_positive():
    left, right = _random(4, 6, seed=4), _random(4, 6, seed=5)
    for_left, for_right = _random(4, 5, 6, seed=6), _random(4, 5, 6, seed=7)
    forward = _slow_paired(left, right, for_left, 10.0)
    assert clip_paired(left, right, for_left, 10.0).item() == pytest.approx(forward, abs=1e-6)
    back = _slow_paired(right, left, for_right, 10.0)
    both = clip_paired(left, right, for_left, 10.0, left_negatives=for_right)
    assert both.item() == pytest.approx((forward + back) / 2, abs=1e-6)
    same = torch.zeros(4, 5, dtype=torch.bool)
    same[1, 2] = True
    same[3] = True  # no valid negative: the positive is alone and the row costs nothing
    masked = clip_paired(left, right, for_left, 10.0, same=same)
    assert masked.item() == pytest.approx(_slow_paired(left, right, for_left, 10.0, same), abs=1e-6)


def test_the_paired_loss_is_bounded_below_by_zero():
    left = _random(4, 6, seed=4)
    assert 0 < clip_paired(left, left, -left[:, None], 100.0).item() + 1e-12 < 1e-6


def test_locating_is_the_loop_over_nine_cells_without_spots_that_have_no_cell():
    reference, cells = _random(5, 4, seed=8), _random(5, 9, 4, seed=9)
    label = torch.tensor([0, -1, 8, 4, -1])
    slow = [
        _surprise([6.0 * _cosine(reference[i], cells[i, k]) for k in range(9)], label[i])
        for i in (0, 2, 3)
    ]
    assert locate(reference, cells, 6.0, label).item() == pytest.approx(sum(slow) / 3, abs=1e-6)


def test_a_batch_without_any_cell_costs_nothing_and_gives_no_nan():
    reference = _random(2, 4, seed=8).requires_grad_()
    loss = locate(reference, _random(2, 9, 4, seed=9), 6.0, torch.tensor([-1, -1]))
    loss.backward()
    assert loss.item() == 0.0
    assert reference.grad.abs().max() == 0.0


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: clip(a, b, 30.0),
        lambda a, b: clip_one_way(a, b, 30.0),
        lambda a, b: clip_soft(a, b, 1.0),
        lambda a, b: clip_paired(a, b, b.roll(1, 0)[:, None], 30.0),
        lambda a, b: locate(a, b.unflatten(1, (9, -1)).repeat(1, 1, 9), 30.0, torch.arange(8)),
    ],
    ids=["clip", "clip_one_way", "clip_soft", "clip_paired", "locate"],
)
def test_autocast_leaves_the_losses_in_float32(loss):
    a, b = (
        _random(8, 36, seed=10, dtype=torch.float32),
        _random(8, 36, seed=11, dtype=torch.float32),
    )
    plain = loss(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss(a, b)
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()
    half = loss(a.bfloat16(), b.bfloat16())
    assert half.dtype == torch.float32


def test_what_is_kept_for_the_backward_pass_is_a_few_matrices_of_logits():
    left, right = _random(64, 4, seed=12), _random(64, 4, seed=13)
    left.requires_grad_()
    no_pairs = torch.zeros(64, 64, dtype=torch.bool)
    for loss, n_matrices in (
        (lambda: clip(left, right, 10.0, no_pairs), 4),
        (lambda: clip_soft(left, right), 10),
        (lambda: clip_paired(left, right, right.roll(1, 0)[:, None], 10.0), 1),
    ):
        kept = {}
        pack = lambda x: kept.update({x.data_ptr(): x.numel()}) or x  # noqa: B023, E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss()
        assert max(kept.values()) <= 64 * 64
        assert sum(kept.values()) <= (n_matrices + 1) * 64 * 64


def _world(sizes):
    """Spots of slides with clusters of given sizes; spots of a slide in mixed order."""
    rng = np.random.default_rng(0)
    slide_of = np.repeat(np.arange(len(sizes)), [sum(part) for part in sizes])
    parts = [rng.permutation(np.repeat(np.arange(len(part)), part)) for part in sizes]
    return slide_of.astype(np.int64), np.concatenate(parts).astype(np.int64)


def test_partners_are_one_of_each_other_cluster_of_the_same_slide():
    slide_of, cluster_of = _world([(5, 1, 9, 4, 2, 3), (7, 7, 1, 1, 2, 8)])
    rng = np.random.default_rng(1)
    spots = rng.integers(0, len(slide_of), 40)
    found = cluster_partners(spots, slide_of, cluster_of, 6, rng)
    assert found.shape == (40, 5)
    for spot, partners in zip(spots, found, strict=True):
        assert set(slide_of[partners]) == {slide_of[spot]}
        assert sorted([*cluster_of[partners], cluster_of[spot]]) == [0, 1, 2, 3, 4, 5]


def test_every_spot_of_a_cluster_is_drawn_equally_often():
    slide_of, cluster_of = _world([(4, 6)])
    spot = np.flatnonzero(cluster_of == 0)[:1]
    found = cluster_partners(spot.repeat(6000), slide_of, cluster_of, 2, np.random.default_rng(2))
    counts = np.bincount(found.ravel(), minlength=10)[cluster_of == 1]
    assert counts.sum() == 6000
    assert np.abs(counts - 1000).max() < 150  # five deviations


def test_a_slide_with_more_clusters_gives_different_ones_each_time():
    slide_of, cluster_of = _world([(3,) * 8])
    found = cluster_partners(np.zeros(200, int), slide_of, cluster_of, 4, np.random.default_rng(3))
    drawn = cluster_of[found]
    assert all(len(set(row)) == 3 for row in drawn)
    assert set(drawn.ravel()) == set(range(8)) - {cluster_of[0]}


def test_what_a_slide_with_fewer_clusters_lacks_comes_from_other_slides():
    slide_of, cluster_of = _world([(4, 4), (6,), (1, 1, 1)])
    found = cluster_partners(np.arange(17), slide_of, cluster_of, 6, np.random.default_rng(4))
    for spot, partners in enumerate(found):
        here = partners[slide_of[partners] == slide_of[spot]]
        n_other = len(set(cluster_of[slide_of == slide_of[spot]])) - 1
        assert len(here) == n_other
        assert cluster_of[spot] not in cluster_of[here]


@pytest.mark.parametrize("sizes", [(3, 2), (4,)], ids=["two clusters", "one cluster"])
def test_a_single_slide_with_few_clusters_still_gives_other_spots(sizes):
    slide_of, cluster_of = _world([sizes])
    spots = np.arange(len(slide_of)).repeat(30)
    found = cluster_partners(spots, slide_of, cluster_of, 6, np.random.default_rng(5))
    assert (found != spots[:, None]).all()
    if len(sizes) > 1:
        assert (cluster_of[found] != cluster_of[spots][:, None]).all()
    drawn = {spot: set(found[spots == spot].ravel()) for spot in set(spots)}
    allowed = {
        spot: {
            other
            for other in range(len(slide_of))
            if other != spot and (len(sizes) == 1 or cluster_of[other] != cluster_of[spot])
        }
        for spot in drawn
    }
    assert drawn == allowed


def test_a_single_spot_has_no_negatives_and_says_so():
    with pytest.raises(ValueError, match="There are 1 spots"):
        cluster_partners(
            np.zeros(1, int), np.zeros(1, int), np.zeros(1, int), 6, np.random.default_rng(0)
        )


def test_clusters_find_the_domains_that_profiles_are_made_of():
    rng = np.random.default_rng(0)
    domain = rng.permutation(np.repeat(np.arange(4), 30))
    centres = rng.normal(size=(4, 50)) * 2
    profiles = (centres[domain] + rng.normal(size=(120, 50))).astype(np.float32)
    labels = spot_clusters(profiles, 4, seed=0)
    assert len(set(zip(labels, domain, strict=True))) == 4
    assert np.array_equal(labels, spot_clusters(profiles, 4, seed=0))


@pytest.mark.parametrize(
    ("rows", "expected"), [([0] * 5, 1), ([0, 1, 0, 1], 2), ([3], 1), (range(4), 4)]
)
def test_fewer_different_spots_make_fewer_clusters_without_gaps(rows, expected):
    profiles = np.eye(8, dtype=np.float32)[list(rows)]
    labels = spot_clusters(profiles, 6)
    assert sorted(set(labels)) == list(range(expected))
    with pytest.raises(ValueError, match="n_clusters is 0"):
        spot_clusters(profiles, 0)
