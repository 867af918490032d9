"""The rows that answer some queries: one embedding or several, spread or not, without the query's own row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.search.diversity import take_spread, width_for
from stamp_index.search.fusion import Fusion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stamp_index.search.asking import Ask
    from stamp_index.search.diversity import Spread
    from stamp_index.search.sources import Findable, Nearest, Sources

    # Scores and rows of each query, and which queries were searched exactly though that was not asked for.
    Find = Callable[
        [NDArray[np.float32], int, Findable],
        tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]],
    ]


def nearest_rows(
    sources: Sources,
    queries: NDArray[np.float32],
    ask: Ask,
    among: Findable,
    *,
    own: NDArray[np.int64],
    spread: Spread | None,
) -> list[tuple[Nearest, bool]]:
    """Find the hits of each query.

    Parameters
    ----------
    sources : Sources
        Where rows come from.
    queries : ndarray of shape (q, d), float32
        Unit vectors.
    ask : Ask
        What to search, and how many hits.
    among : Findable
        Rows that may be found, at least one besides each query's own.
    own : ndarray of shape (q,), int64
        Row that a query must not find; -1 for none.
    spread : Spread or None
        What a hit keeps from being hits.

    Returns
    -------
    list of ((scores, rows), bool)
        Of shape (k',), float32 and int64, best first, equal scores by ascending row. k' is `ask.k`, or
        all there are. And whether the query was searched exactly although `ask.recall` did not ask for it.
    """
    besides = int((own >= 0).any())
    width = ask.k if spread is None else width_for(ask.k, among.n)
    find = finder(sources, ask)
    scores, rows, exactly = find(queries, min(width + besides, among.n), among)
    found = [_without(*pair) for pair in zip(scores, rows, own.tolist(), strict=True)]
    if spread is None:
        short = [(values[: ask.k], here[: ask.k]) for values, here in found]
        return list(zip(short, exactly.tolist(), strict=True))
    answers = []
    for at, (query, first, row) in enumerate(zip(queries, found, own.tolist(), strict=True)):
        mask = (sources.has_vectors(ask.modalities) if among.mask is None else among.mask).copy()
        if row >= 0:
            mask[row] = False
        looks = [bool(exactly[at])]

        def look(
            m: int,
            left: Findable,
            query: NDArray[np.float32] = query,
            looks: list[bool] = looks,
        ) -> Nearest:
            values, here, all_seen = find(query[None], m, left)
            looks.append(bool(all_seen[0]))
            return _without(values[0], here[0], -1)

        taken = take_spread(first, ask.k, spread=spread, among=mask, look=look)
        answers.append((taken, any(looks)))
    return answers


def finder(sources: Sources, ask: Ask) -> Find:
    """Return what finds the best rows of one embedding or of several: ``find(queries, k, among)``."""
    if len(ask.against) > 1:
        return lambda queries, k, among: Fusion(sources, ask.against, among, ask.recall).nearest(
            queries, k
        )
    modality = ask.modalities[0]
    return lambda queries, k, among: (
        *sources.nearest(modality, queries, k, among=among, recall=ask.recall),
        np.zeros(len(queries), np.bool_),
    )


def _without(scores: NDArray[np.float32], rows: NDArray[np.int64], own: int) -> Nearest:
    keep = (rows != own) & (rows >= 0)  # -1 where shards that did not answer leave too few
    return scores[keep], rows[keep]


def table_of(found: Sequence[Nearest]) -> Nearest:
    """Hits of several queries as tables (q, k'), short ones filled up with NaN and -1."""
    width = max((len(rows) for _, rows in found), default=0)
    scores = np.full((len(found), width), np.nan, np.float32)
    rows = np.full((len(found), width), -1, np.int64)
    for at, (values, here) in enumerate(found):
        scores[at, : len(here)], rows[at, : len(here)] = values, here
    return scores, rows
