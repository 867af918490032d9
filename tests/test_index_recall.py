"""The recall that a card states, against an independent measurement on fresh queries."""

from __future__ import annotations

import numpy as np
import pytest

from stamp_index.index import IndexRecipe, ann_recall_at_k, exact_search
from stamp_index.index.build import HeldOut, build_from_vectors

N, DIM, QUERIES = 50_000, 64, 400


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class World:
    """Clustered latents seen by two towers: gene vectors lie off the image manifold."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.scale = np.arange(1, 17) ** -0.5
        self.centres = self.rng.normal(size=(400, 16)) * self.scale
        self.map = self.rng.normal(size=(16, DIM))
        self.offsets = {"image": self.rng.normal(size=DIM), "gene": self.rng.normal(size=DIM)}

    def draw(self, modality, n):
        """Unit vectors (n, d) and their clusters (n,)."""
        cluster = self.rng.integers(0, len(self.centres), n)
        latent = self.centres[cluster] + 0.35 * self.rng.normal(size=(n, 16)) * self.scale
        noise = {"image": 0.15, "gene": 0.25}[modality] * self.rng.normal(size=(n, DIM))
        return unit(latent @ self.map + 0.6 * self.offsets[modality] + noise), cluster


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def table(world):
    vectors, cluster = world.draw("image", N)
    return vectors.astype(np.float16), cluster


@pytest.fixture(scope="module")
def built(world, table):
    held_out = {
        name: HeldOut(world.draw(name, QUERIES)[0], np.full(QUERIES, -1))
        for name in ("image", "gene")
    }
    return build_from_vectors(table[0], held_out, IndexRecipe.load("ivf_pq"))


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["image", "gene"])
def test_stated_recall_is_what_fresh_queries_see(world, table, built, modality):
    queries, _ = world.draw(modality, QUERIES)
    _, rows = built.core.search(
        queries, 10, allowed=None, nprobe=built.nprobe, n_rerank=built.n_rerank
    )
    _, exact = exact_search(table[0], queries, 10)
    measured = ann_recall_at_k(rows, exact)
    assert built.reached
    assert built.nprobe < built.core.n_lists / 4  # or it would be exact search with detours
    assert abs(measured - built.ann_recall_at_10[modality]) <= 0.02
    assert measured >= built.recipe.target_recall


@pytest.mark.slow
@pytest.mark.parametrize("follows_clusters", [True, False])
@pytest.mark.parametrize("share", [0.5, 0.25])
def test_filters_keep_their_recall(world, table, built, follows_clusters, share):
    vectors, cluster = table
    allowed = cluster < 400 * share if follows_clusters else world.rng.random(N) < share
    assert allowed.sum() > built.recipe.exact_below  # through the lists, not exactly
    for modality in ("image", "gene"):
        queries, _ = world.draw(modality, 200)
        _, rows = built.core.search(
            queries, 10, allowed=allowed, nprobe=built.nprobe, n_rerank=built.n_rerank
        )
        _, exact = exact_search(vectors, queries, 10, allowed=allowed)
        assert allowed[rows].all()
        assert ann_recall_at_k(rows, exact) >= 0.97


@pytest.mark.slow
def test_a_target_that_is_not_reached_is_said(table):
    rng = np.random.default_rng(3)
    noise = unit(rng.normal(size=(5_000, DIM))).astype(np.float16)  # nothing to compress
    queries = HeldOut(unit(rng.normal(size=(100, DIM))), np.full(100, -1))
    recipe = IndexRecipe(
        name="shallow", kind="ivf_pq", rerank_ladder=(20,), opq_iterations=2, dims_per_byte=32
    )
    built = build_from_vectors(noise, {"image": queries}, recipe)
    assert not built.reached
    assert built.ann_recall_at_10["image"] < 0.99
