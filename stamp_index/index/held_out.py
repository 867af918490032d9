"""A store's own rows as queries: to measure an index with, and to know what scores are usual."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.index.background import SAMPLE_ROWS, background_of_rows
from stamp_index.index.difference import here
from stamp_index.index.engine import HeldOut
from stamp_index.index.folder import BACKGROUND
from stamp_index.store.schema import MODALITIES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.index.engine import Engine
    from stamp_index.store import Modality, Store


def held_out(
    store: Store,
    modality: Modality,
    rows: NDArray[np.int64],
    vectors: NDArray[np.float16],
    *,
    n: int,
    seed: int,
) -> dict[str, HeldOut]:
    """Draw queries of each modality, at most a quarter of what there is.

    Parameters
    ----------
    store : Store
        Where queries of the other modality are read.
    modality : {"image", "gene"}
        That is indexed: its queries are rows of the index, and do not count as their own hits.
        A spot's other embedding lies in the index on its own merits: it may be found.
    rows : ndarray of shape (m,), int64
        Row ids of the index.
    vectors : ndarray of shape (m, d), float16
        What is indexed.
    n : int
        Queries of each modality.
    seed : int
        Of the draw.

    Returns
    -------
    dict of str to HeldOut
        A modality of which there are fewer than eight rows is left out.
    """
    out: dict[str, HeldOut] = {}
    for stream, name in enumerate(MODALITIES):
        rng = np.random.default_rng([seed, stream])
        if name == modality:
            own = np.sort(rng.choice(len(rows), min(n, len(rows) // 4), replace=False))
            queries, known = np.asarray(vectors[own]), own
        else:
            other = np.flatnonzero(store.has_vector(name))
            other = np.sort(rng.choice(other, min(n, len(other) // 4), replace=False))
            queries, known = store.vectors(name, other), None
        if len(queries) >= 2:
            order = rng.permutation(len(queries))  # halves that do not follow the slides
            itself = None if known is None else known[order]
            out[name] = HeldOut(queries[order].astype(np.float32), itself)
    return out


def write_backgrounds(
    store: Store, rows: NDArray[np.int64], engine: Engine, folder: Path, *, seed: int
) -> list[Path]:
    """Ask an index with random rows of each modality, and keep what was found: see `Background`.

    Parameters
    ----------
    store : Store
        Where the queries are read.
    rows : ndarray of shape (m,), int64
        Row ids of the index.
    engine : Engine
        Finds positions.
    folder : Path
        Gets a file for each modality of queries.
    seed : int
        Of the draw.

    Returns
    -------
    list of Path
        The files; none where there are fewer than two rows.
    """
    if len(rows) < 2:
        return []
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(len(rows), min(SAMPLE_ROWS, len(rows)), replace=False))
    sample = np.asarray(engine.vectors[drawn])
    searched = np.zeros(max(store.n_rows, int(rows.max()) + 1), np.bool_)
    searched[rows] = True

    def search(
        queries: NDArray[np.float32], allowed: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores, at = engine.search(queries, 2, allowed=engine.prepare(here(allowed, rows)))
        return scores, rows[at]

    files = []
    for name in MODALITIES:
        if store.has_vector(name).any():
            background = background_of_rows(
                store, name, sample, searched=searched[: store.n_rows], search=search, seed=seed
            )
            files.append(folder / f"{name}{BACKGROUND}")
            background.save(files[-1])
    return files
