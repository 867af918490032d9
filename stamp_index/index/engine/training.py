"""Training an index on a sample of its rows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.index.engine import gpu
from stamp_index.index.engine.structure import empty_index
from stamp_index.index.halves import as_float32

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray

    from stamp_index.index.halves import Vectors
    from stamp_index.index.recipes import IndexRecipe


def train(
    vectors: Vectors,
    recipe: IndexRecipe,
    *,
    n_sample: int,
    seed: int = 0,
    leave_out: NDArray[np.int64] | None = None,
) -> faiss.Index:
    """Train an empty index.

    Parameters
    ----------
    vectors : ndarray of shape (n, d), float16
        Unit vectors.
    recipe : IndexRecipe
        Of a kind that has a FAISS index.
    n_sample : int
        Rows to train on.
    seed : int
        Of the sample and of all that training draws.
    leave_out : ndarray of int64, optional
        Positions of rows that measure the index later and so must not train it.

    Returns
    -------
    faiss.Index
        Trained, empty.
    """
    rows = sample_rows(len(vectors), n_sample, seed=seed, leave_out=leave_out)
    sample = as_float32(vectors[rows])
    make = partial(empty_index, recipe, *vectors.shape, seed=seed, n_sample=len(sample))
    index = make()
    try:
        with gpu.clustering(index):
            index.train(sample)
    except gpu.FAILURES as exc:
        if gpu.n_gpus() == 0:
            raise
        gpu.warn("Training an index", exc)
        index = make()
        index.train(sample)
    return index


def sample_rows(
    n: int, n_sample: int, *, seed: int, leave_out: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Draw rows without repeats, in ascending order so that a file is read in one direction.

    Returns
    -------
    ndarray of shape (min(n_sample, n less what is left out),), int64
    """
    rng = np.random.default_rng(seed)
    left_out = np.empty(0, np.int64) if leave_out is None else np.unique(leave_out)
    left_out = left_out[left_out >= 0]
    drawn = rng.choice(n, min(n, n_sample + len(left_out)), replace=False, shuffle=False)
    free = np.setdiff1d(drawn, left_out, assume_unique=True)  # ascending
    if len(free) > n_sample:
        free = np.sort(rng.choice(free, n_sample, replace=False))
    return free.astype(np.int64)
