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

    from stamp_index.index.card import IndexCard
    from stamp_index.index.engine import Engine
    from stamp_index.store import Modality, Store
    from stamp_index.store.view import StoreView


def held_out(
    store: StoreView,
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
    store : StoreView
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


def held_out_again(
    store: Store,
    card: IndexCard,
    rows: NDArray[np.int64],
    vectors: NDArray[np.float16],
    *,
    n: int,
) -> dict[str, HeldOut]:
    """Draw queries of each modality after a fold: half of the spots folded in since the build, half of before.

    Parameters
    ----------
    store : Store
        Where queries of the other modality are read.
    card : IndexCard
        Of the index before the fold.
    rows : ndarray of shape (m,), int64
        Row ids of the index after it.
    vectors : ndarray of shape (m, d), float16
        What is indexed after it.
    n : int
        Queries of each modality.

    Returns
    -------
    dict of str to HeldOut
        Of the indexed modality those of before are some that the build held out and reported with: they neither
        trained the index nor chose its settings. Of the other they are of any spots that the build had.
    """
    before, modality = card.n_trained, card.modality
    drawn = held_out(
        store, modality, rows[:before], vectors[:before], n=card.recipe["n_queries"], seed=card.seed
    )
    out: dict[str, HeldOut] = {}
    for stream, name in enumerate(MODALITIES):
        rng = np.random.default_rng([card.seed, len(rows), stream])
        at = [np.arange(before), np.arange(before, len(rows))]
        if name == modality:
            known = drawn[name].half(1).own if name in drawn else None
            at[0] = at[0][:0] if known is None else known
        else:
            has = here(store.has_vector(name), rows)
            at = [part[has[part]] for part in at]
        chosen = np.concatenate(
            [rng.choice(part, min(n // 2, len(part)), replace=False) for part in at]
        )
        if len(chosen) >= 2:
            queries = vectors[chosen] if name == modality else store.vectors(name, rows[chosen])
            out[name] = HeldOut(queries.astype(np.float32), chosen if name == modality else None)
    return out


def write_backgrounds(
    store: Store,
    modality: Modality,
    rows: NDArray[np.int64],
    engine: Engine,
    *,
    folder: Path,
    seed: int,
) -> None:
    """Ask an index with random rows of each modality, and keep what was found: see `Background`.

    Parameters
    ----------
    store : Store
        Where the queries are read.
    modality : {"image", "gene"}
        That is indexed.
    rows : ndarray of shape (m,), int64
        Row ids of the index. Those that the store does not have any more are neither drawn nor found.
    engine : Engine
        Finds positions.
    folder : Path
        Gets a file for each modality of queries; none where there are fewer than two rows.
    seed : int
        Of the draw.
    """
    live = np.flatnonzero(here(store.has_vector(modality), rows))
    if len(live) < 2:
        return
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(live, min(SAMPLE_ROWS, len(live)), replace=False))
    sample = np.asarray(engine.vectors[drawn])
    searched = np.zeros(store.n_rows, np.bool_)
    searched[rows[live]] = True

    def search(
        queries: NDArray[np.float32], allowed: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores, at = engine.search(queries, 2, allowed=engine.prepare(here(allowed, rows)))
        return scores, rows[at]

    for name in MODALITIES:
        if store.has_vector(name).any():
            background = background_of_rows(
                store, name, sample, searched=searched, search=search, seed=seed
            )
            background.save(folder / f"{name}{BACKGROUND}")
