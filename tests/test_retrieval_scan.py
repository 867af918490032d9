"""One pass over all cosines against a slow, obvious one; on the processor and on a device of torch."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.evaluate.retrieval import scan as scanning
from stamp_index.evaluate.retrieval import scan_torch
from stamp_index.evaluate.retrieval.scan import TIE, scan
from stamp_index.evaluate.retrieval.zones import OTHERS, OWN_PATIENT, OWN_SLIDE, blocks, zone_sizes

SLIDES = [(0, 7), (0, 30), (1, 1), (2, 13), (2, 4)]  # patient, spots


@pytest.fixture(params=["cpu", "cpu, cosine by cosine", "torch"], autouse=True)
def small_tiles(request, monkeypatch):
    """Tiles and blocks so small that every border is met; a device of torch is its own "cpu"."""
    monkeypatch.setattr(scanning, "TILE", 5)
    monkeypatch.setattr(scanning, "FEW", float(request.param == "cpu, cosine by cosine"))
    monkeypatch.setattr(scan_torch, "TILE", 5)
    monkeypatch.setattr("stamp_index.evaluate.retrieval.zones.BLOCK", 4)
    return request.param


def places():
    patient = np.concatenate([np.full(n, who) for who, n in SLIDES])
    slide = np.concatenate([np.full(n, at) for at, (_, n) in enumerate(SLIDES)])
    return slide, patient


def vectors(n, d=6, *, steps=0, seed=0):
    rng = np.random.default_rng(seed)
    made = rng.integers(-steps, steps + 1, (2, n, d)) if steps else rng.normal(size=(2, n, d))
    made = made.astype(np.float32)
    made[..., 0] += np.abs(made).sum(-1) == 0
    made /= np.linalg.norm(made, axis=-1, keepdims=True)
    return made[0], made[1]


def run(pair, thresholds, k, which):
    slide, patient = places()
    found = blocks(slide, patient)
    if which != "torch":
        return list(scan(pair, found, thresholds, k))
    return list(scan_torch.scan_torch(pair, found, thresholds, k, device="cpu"))


def zone_of(slide, patient, i, j):
    if slide[i] == slide[j]:
        return OWN_SLIDE
    return OWN_PATIENT if patient[i] == patient[j] else OTHERS


@pytest.mark.parametrize("steps", [0, 1])
def test_what_reaches_a_threshold_is_counted_by_zone(small_tiles, steps):
    slide, patient = places()
    n = len(slide)
    asked, targets = vectors(n, steps=steps)
    own = np.einsum("nd,nd->n", asked, targets)
    thresholds = np.column_stack([own, own + np.float32(0.2)])
    found = run((asked, targets), thresholds, 0, small_tiles)
    reached = np.concatenate([one.reached for one in found])
    exact = asked.astype(np.float64) @ targets.T.astype(np.float64)
    for i in range(n):
        for t in range(2):
            for zone in range(3):
                wanted = sum(
                    exact[i, j] >= thresholds[i, t] - TIE
                    for j in range(n)
                    if zone_of(slide, patient, i, j) == zone
                )
                assert reached[i, t, zone] == wanted


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("steps", [0, 1])
def test_the_best_of_each_zone_come_in_order_without_the_own_spot(small_tiles, k, steps):
    slide, patient = places()
    n = len(slide)
    asked, targets = vectors(n, d=3 if steps else 6, steps=steps, seed=1)
    found = run((asked, targets), np.zeros((n, 0), np.float32), k, small_tiles)
    best = np.concatenate([one.best for one in found])
    cosines = np.round(asked.astype(np.float64) @ targets.T.astype(np.float64), 6)
    for i in range(n):
        for zone in range(3):
            there = [j for j in range(n) if j != i and zone_of(slide, patient, i, j) == zone]
            wanted = sorted(there, key=lambda j: (-cosines[i, j], j))[:k]
            got = [j for j in best[i, zone] if j >= 0]
            assert len(got) == len(wanted)
            np.testing.assert_allclose(cosines[i, got], cosines[i, wanted], atol=2e-6)
            assert len(set(got)) == len(got)
            assert set(got) <= set(there)
            if not steps:
                assert got == wanted


def test_equal_cosines_come_by_their_place(small_tiles):
    slide, patient = places()
    n = len(slide)
    same = np.tile(np.float32([0.6, 0.8]), (n, 1))
    found = run((same, same), np.zeros((n, 0), np.float32), 3, small_tiles)
    best = np.concatenate([one.best for one in found])
    for i in range(n):
        for zone in range(3):
            there = [j for j in range(n) if j != i and zone_of(slide, patient, i, j) == zone][:3]
            assert [j for j in best[i, zone] if j >= 0] == there


def test_blocks_cover_queries_and_gallery_once(small_tiles):
    slide, patient = places()
    seen = []
    for block in blocks(slide, patient):
        seen += range(block.start, block.stop)
        assert len(set(slide[block.start : block.stop])) == 1
        covered = [j for first, last, _ in block.stretches for j in range(first, last)]
        assert sorted(covered) == list(range(len(slide)))
        for first, last, zone in block.stretches:
            assert {zone_of(slide, patient, block.start, j) for j in range(first, last)} == {zone}
    assert seen == list(range(len(slide)))
    sizes = zone_sizes(slide, patient)
    for i in range(len(slide)):
        zones = [zone_of(slide, patient, i, j) for j in range(len(slide))]
        assert sizes[i].tolist() == [zones.count(zone) for zone in range(3)]
