"""Stores of vectors for tests of searching, and slow obvious searches to hold against."""

from __future__ import annotations

import numpy as np

from stamp_index.search.vector_searcher import VectorSearcher
from stamp_index.store import Store
from tests.support import random_store

DIM = 16


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def clustered(n, seed, dim=DIM):
    """Vectors around 12 centres that are the same for every seed."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(12, dim))
    return unit(centres[rng.integers(0, 12, n)] + 0.6 * rng.normal(size=(n, dim)))


def vector_store(folder, n=600, n_slides=6):
    """Spots 10 um apart along a line on every slide; image and gene embeddings that disagree."""
    return random_store(folder, clustered(n, 1), clustered(n, 2), n_slides=n_slides)


def opened(store, indexes=None):
    return VectorSearcher(Store.open(store.path, version=store.version), indexes)


def cosines(store, modality, queries):
    """Every cosine, (q, n_rows), in double precision; -inf for rows without the embedding."""
    scores = np.full((len(queries), store.n_rows), -np.inf)
    has = np.flatnonzero(store.has_vector(modality))
    vectors = store.vectors(modality, has).astype(np.float64)
    scores[:, has] = np.asarray(queries, np.float64) @ vectors.T
    return scores


def slow_greedy(scores, k, may_follow):
    """Rows by descending score, each taken if `may_follow(row, taken)` for all taken before it."""
    taken = []
    for row in np.argsort(-scores, kind="stable"):
        if scores[row] > -np.inf and all(may_follow(int(row), other) for other in taken):
            taken.append(int(row))
        if len(taken) == k:
            break
    return taken


def assert_same_hits(scores, rows, truth, expected):
    """Rows are the expected ones; rows that tie in float32 may change places."""
    assert len(rows) == len(expected)
    np.testing.assert_allclose(scores, truth[expected], atol=2e-6)
    np.testing.assert_allclose(truth[rows], truth[expected], atol=2e-6)
    assert len(set(rows.tolist())) == len(rows)
