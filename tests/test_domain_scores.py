"""Agreement of clusters with labels, against slow obvious counting and scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import (
    adjusted_rand_score,
    completeness_score,
    homogeneity_score,
    normalized_mutual_info_score,
)

from stamp_index.evaluate.domains import domain_scores, spatial_coherence

TOLERANCE = 1e-9  # both sides are sums of at most a few hundred terms


def slow_ari(a, b):
    """By counting pairs of spots (Hubert and Arabie 1985)."""
    pairs = list(itertools.combinations(range(len(a)), 2))
    same_a = [a[i] == a[j] for i, j in pairs]
    same_b = [b[i] == b[j] for i, j in pairs]
    both = sum(x and y for x, y in zip(same_a, same_b, strict=True))
    expected = sum(same_a) * sum(same_b) / len(pairs)
    most = (sum(same_a) + sum(same_b)) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def slow_entropy(a):
    return -sum(n / len(a) * math.log(n / len(a)) for n in Counter(a).values())


def slow_mutual(a, b):
    return slow_entropy(a) + slow_entropy(b) - slow_entropy(list(zip(a, b, strict=True)))


@pytest.mark.parametrize("seed", range(25))
def test_scores_equal_slow_counting_and_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    truth = rng.integers(0, rng.integers(1, 8), n)
    near = rng.random(n) < rng.random()  # from unrelated to equal
    clusters = np.where(near, truth + 3, rng.integers(0, rng.integers(1, 8), n))
    found = domain_scores(truth, clusters)
    a, b = truth.tolist(), clusters.tolist()
    mutual, of_a, of_b = slow_mutual(a, b), slow_entropy(a), slow_entropy(b)
    assert found["ARI"] == pytest.approx(slow_ari(a, b), abs=TOLERANCE)
    assert found["homogeneity"] == pytest.approx(mutual / of_a if of_a else 1.0, abs=TOLERANCE)
    assert found["completeness"] == pytest.approx(mutual / of_b if of_b else 1.0, abs=TOLERANCE)
    if of_a and of_b:
        assert found["NMI"] == pytest.approx(2 * mutual / (of_a + of_b), abs=TOLERANCE)
        nmi = normalized_mutual_info_score(truth, clusters, average_method="arithmetic")
        assert found["NMI"] == pytest.approx(nmi, abs=TOLERANCE)
    assert found["ARI"] == pytest.approx(adjusted_rand_score(truth, clusters), abs=TOLERANCE)
    assert found["homogeneity"] == pytest.approx(homogeneity_score(truth, clusters), abs=TOLERANCE)
    assert found["completeness"] == pytest.approx(
        completeness_score(truth, clusters), abs=TOLERANCE
    )


def test_names_of_classes_and_numbers_of_clusters_do_not_matter():
    truth = np.array(["fat", "fat", "stroma", "tumour"])
    found = domain_scores(truth, np.array([7, 7, 2, 0]))
    assert found == {"ARI": 1.0, "NMI": 1.0, "homogeneity": 1.0, "completeness": 1.0}


def test_unequal_numbers_of_labels_and_clusters_are_refused():
    with pytest.raises(ValueError, match="3 labels and 2 clusters"):
        domain_scores(np.arange(3), np.arange(2))
    with pytest.raises(ValueError, match="0 labels"):
        domain_scores(np.arange(0), np.arange(0))


def slow_coherence(clusters, slide, xy, k):
    shares = []
    for i in range(len(clusters)):
        others = [j for j in range(len(clusters)) if slide[j] == slide[i] and j != i]
        nearest = sorted(others, key=lambda j: math.dist(xy[i], xy[j]))[:k]
        if nearest:
            shares.append(sum(clusters[j] == clusters[i] for j in nearest) / len(nearest))
    return sum(shares) / len(shares)


@pytest.mark.parametrize("k", [1, 6, 50])
def test_coherence_equals_a_slow_loop_over_the_spots_of_each_slide(k):
    rng = np.random.default_rng(k)
    slide = np.sort(rng.integers(0, 3, 60))
    clusters, xy = rng.integers(0, 3, 60), rng.random((60, 2)) * 1000
    found = spatial_coherence(clusters, slide, xy, k)
    assert found == pytest.approx(slow_coherence(clusters, slide, xy, k), abs=TOLERANCE)


def test_coherence_is_one_for_one_cluster_and_not_defined_without_positions():
    slide, xy = np.zeros(9, np.int64), np.zeros((9, 2))  # all at one place
    assert spatial_coherence(np.zeros(9, np.int64), slide, xy) == 1.0
    assert math.isnan(spatial_coherence(np.zeros(9, np.int64), slide, np.full((9, 2), np.nan)))
