"""Retrieval over a store against a slow, obvious one: identity, nearness, labels and expression in three galleries."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from stamp_index.evaluate.metrics import average_precision
from stamp_index.evaluate.retrieval import zones
from stamp_index.evaluate.retrieval.asked import Asked, Known
from stamp_index.evaluate.retrieval.rows import GALLERIES, K_NEIGHBOURS, ZONES
from stamp_index.evaluate.retrieval.runner import evaluate_retrieval
from stamp_index.evaluate.spots import EvaluatedSpots

SLIDES = [(0, 60), (0, 37), (1, 80), (2, 25)]  # patient, spots
GENES = 4


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    patient = np.concatenate([np.full(n, who) for who, n in SLIDES])
    slide = np.concatenate([np.full(n, at) for at, (_, n) in enumerate(SLIDES)])
    n = len(slide)
    xy = np.concatenate([grid(m) for _, m in SLIDES])
    xy[slide == 3] = np.nan
    true = rng.normal(size=(n, 8)) + np.eye(3, 8)[patient]
    image = unit(true + 0.6 * rng.normal(size=true.shape))
    gene = unit(true + 0.6 * rng.normal(size=true.shape))
    gene[5] = gene[6]  # a tie
    labels = rng.integers(-1, 3, n)
    expression = (true[:, :GENES] + rng.normal(size=(n, GENES))).astype(np.float32)
    expression[slide == 1, 2] = np.nan
    spots = EvaluatedSpots(
        np.arange(n), slide, patient, ("a", "b", "c", "d"), ("A", "B", "C"), xy,
        {"image": image, "gene": gene},
    )  # fmt: skip
    return Asked(spots, Known(labels, expression, tuple("wxyz"[:GENES])), radius_um=150.0)


def grid(n):
    return np.column_stack([np.arange(n) % 6, np.arange(n) // 6]) * 100.0


@pytest.fixture(scope="module")
def found(world):
    spots = world.spots
    return evaluate_retrieval({"x": (spots.vectors["image"], spots.vectors["gene"])}, world)


def galleries(spots, i):
    n = np.arange(len(spots))
    return (
        n[spots.slide == spots.slide[i]],
        n[spots.patient == spots.patient[i]],
        n,
    )


def slow_ranks(world, at):
    """Ranks of the own spot, and of the first near one, by sorting."""
    spots = world.spots
    cosines = spots.vectors["image"].astype(float) @ spots.vectors["gene"].T.astype(float)
    own, near, sizes = [], [], []
    for i in range(len(spots)):
        there = galleries(spots, i)[at]
        away = np.hypot(*(spots.xy_um[there] - spots.xy_um[i]).T)
        right = (there == i) | ((away <= world.radius_um) & (spots.slide[there] == spots.slide[i]))
        best = cosines[i, there[right]].max()
        own.append((cosines[i, there] >= cosines[i, i] - 1e-6).sum())
        near.append(1 + (cosines[i, there[~right]] >= best - 1e-6).sum())
        sizes.append(len(there))
    return np.array(own), np.array(near), np.array(sizes)


@pytest.mark.parametrize("at", range(3))
def test_identity_and_nearness_equal_sorting(world, found, at):
    own, near, sizes = slow_ranks(world, at)
    row = found.identity[at]
    assert (row["gallery"], row["direction"]) == (GALLERIES[at], "image_to_gene")
    placed = world.spots.slide != 3
    for k in (1, 5, 10, 50):
        assert row[f"R@{k}"] == pytest.approx((own <= k).mean(), abs=1e-12)
    one = np.maximum(1, np.round(0.01 * sizes))
    assert row["R@1%"] == pytest.approx((own <= one).mean(), abs=1e-12)
    assert row["R@10 near"] == pytest.approx((near <= 10)[placed].mean(), abs=1e-12)
    assert row["R@1% near"] == pytest.approx((near <= one)[placed].mean(), abs=1e-12)
    assert row["chance R@10"] == pytest.approx((10 / sizes).mean(), abs=1e-12)
    assert row["median rank"] == np.median(own)
    assert row["R@10 low"] <= row["R@10"] <= row["R@10 high"]
    assert (row["patients"], row["interval by"]) == (3, "patients")
    assert row["R@10 near"] > row["R@10"]


def test_each_slide_has_its_row(world, found):
    own, _, _ = slow_ranks(world, 0)
    rows = [row for row in found.slides if row["direction"] == "image_to_gene"]
    assert [row["slide"] for row in rows] == ["a", "b", "c", "d"]
    for at, row in enumerate(rows):
        here = world.spots.slide == at
        assert row["N"] == here.sum()
        assert row["R@10"] == pytest.approx((own[here] <= 10).mean(), abs=1e-12)


@pytest.mark.parametrize("zone", range(3))
def test_labels_and_expression_of_the_best_hits_equal_a_loop(world, found, zone):
    spots, known = world.spots, world.known
    cosines = spots.vectors["image"].astype(float) @ spots.vectors["gene"].T.astype(float)
    shares, chances, precisions, queries = [], [], [], []
    predicted = np.full((len(spots), GENES), np.nan)
    for i in range(len(spots)):
        slide, patient, every = galleries(spots, i)
        there = (
            np.setdiff1d(slide, [i]),
            np.setdiff1d(patient, slide),
            np.setdiff1d(every, patient),
        )[zone]
        if not len(there):
            continue
        queries.append(i)
        best = there[np.argsort(-cosines[i, there], kind="stable")][:K_NEIGHBOURS]
        with np.errstate(all="ignore"):
            values = known.expression[best]
            predicted[i] = [
                np.mean(v[np.isfinite(v)]) if np.isfinite(v).any() else np.nan for v in values.T
            ]
        if known.labels[i] < 0:
            continue
        labelled = known.labels[best][known.labels[best] >= 0]
        if len(labelled):
            shares.append((labelled == known.labels[i]).mean())
        every = known.labels[there][known.labels[there] >= 0]
        chances.append((every == known.labels[i]).mean())
        if (every == known.labels[i]).any():
            score = cosines[i, there][known.labels[there] >= 0]
            precisions.append(average_precision_score(every == known.labels[i], score))
    row = found.neighbours[zone]
    assert (row["hits from"], row["direction"]) == (ZONES[zone], "image_to_gene")
    assert row["queries"] == len(queries)
    assert row[f"label precision@{K_NEIGHBOURS}"] == pytest.approx(np.mean(shares), abs=1e-9)
    assert row["chance precision"] == pytest.approx(np.mean(chances), abs=1e-9)
    assert row["label mAP"] == pytest.approx(np.mean(precisions), abs=1e-9)
    correlations = []
    for gene in range(GENES):
        both = np.isfinite(predicted[queries, gene]) & np.isfinite(known.expression[queries, gene])
        at = np.array(queries)[both]
        if len(at) > 1:
            correlations.append(np.corrcoef(predicted[at, gene], known.expression[at, gene])[0, 1])
    assert row[f"Pearson of the top {K_NEIGHBOURS}"] == pytest.approx(
        np.mean(correlations), abs=1e-6
    )
    assert row["genes"] == len(correlations)


def test_the_other_way_is_the_first_with_the_halves_exchanged(world, found):
    pair = world.spots.vectors["gene"], world.spots.vectors["image"]
    turned = evaluate_retrieval({"x": pair}, world)
    for one, other in zip(found.identity[:3], turned.identity[3:], strict=True):
        assert {**one, "direction": ""} == {**other, "direction": ""}


def test_small_blocks_and_progress_change_nothing(world, found, monkeypatch):
    monkeypatch.setattr(zones, "BLOCK", 7)
    told = []
    pair = world.spots.vectors["image"], world.spots.vectors["gene"]
    again = evaluate_retrieval({"x": pair}, world, progress=lambda *at: told.append(at))
    for one, other in zip(
        again.identity + again.neighbours, found.identity + found.neighbours, strict=True
    ):
        assert one == pytest.approx(other, nan_ok=True)
    n = 2 * len(world.spots)
    assert told[-1] == (n, n)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_average_precision_equals_scikit_learn_where_nothing_ties():
    rng = np.random.default_rng(0)
    scores, relevant = rng.normal(size=(40, 30)), rng.random((40, 30)) < 0.2
    relevant[0] = False
    found = average_precision(scores, relevant)
    assert np.isnan(found[0])
    wanted = [average_precision_score(r, s) for r, s in zip(relevant[1:], scores[1:], strict=True)]
    np.testing.assert_allclose(found[1:], wanted, atol=1e-12)
    ranked = label_ranking_average_precision_score(relevant[1:], scores[1:])
    assert np.mean(found[1:]) == pytest.approx(ranked, abs=1e-12)


def test_average_precision_puts_the_wrong_of_equal_scores_first_and_leaves_out_minus_infinity():
    scores = np.array([[1.0, 1.0, 0.5, -np.inf]])
    relevant = np.array([[True, False, True, True]])
    assert average_precision(scores, relevant) == pytest.approx([(1 / 2 + 2 / 3) / 2])
