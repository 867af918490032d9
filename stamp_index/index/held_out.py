"""A store's own rows as queries to measure an index with."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np

from stamp_index.index.engine import HeldOut
from stamp_index.store import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.store import Store


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
    names: tuple[Modality, ...] = get_args(Modality)
    for name in names:
        rng = np.random.default_rng([seed, names.index(name)])
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
