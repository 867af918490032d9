"""Vectors, indexes and slow searches for the tests of the index engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stamp_index.index.engine import Engine, Settings, build
from stamp_index.index.recipes import HnswSq8Recipe, IvfPqRecipe, IvfRabitqRecipe, IvfSq8Recipe

ROOT = Path(__file__).resolve().parents[1]
N, DIM = 6_000, 32
RECIPES = {
    "ivf_pq": IvfPqRecipe(opq_rounds=1, nlist=64),
    "ivf_rabitq": IvfRabitqRecipe(nlist=64),
    "ivf_sq8": IvfSq8Recipe(nlist=64),
    "hnsw_sq8": HnswSq8Recipe(links=16, ef_construction=60),
}


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(n=N, seed=0, dim=DIM):
    """Rows around 40 centres in runs: row i belongs to cluster i * 40 // n."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, dim))
    return unit(centres[np.arange(n) * 40 // n] + 0.6 * rng.normal(size=(n, dim)))


def slow_search(vectors, queries, k, mask=None):
    """Scores in double precision, one sort per query: (q, k) positions, and all scores (q, n)."""
    queries = np.asarray(queries, np.float64)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    scores = queries @ np.asarray(vectors, np.float64).T
    if mask is not None:
        scores[:, ~mask] = -np.inf
    k = min(k, scores.shape[1] if mask is None else int(mask.sum()))
    return np.argsort(-scores, axis=1, kind="stable")[:, :k], scores


def share_found(found, exact):
    """Share of the exact hits that were found."""
    return np.mean([np.isin(truth, hits).mean() for hits, truth in zip(found, exact, strict=True)])


def engine_of(kind, folder, vectors, settings=None):
    """Engine over a built index of one kind."""
    index = build(vectors, RECIPES[kind], folder / kind)
    return Engine(index, vectors, settings=settings or Settings(16, 200))
