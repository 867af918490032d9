"""Retrieval over the spots of a store, both ways: identity, nearness, label and expression, in three galleries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.retrieval.neighbours import label_share, mean_expression
from stamp_index.evaluate.retrieval.ranks import ranks_of, right_answers
from stamp_index.evaluate.retrieval.rows import (
    GALLERIES,
    K_NEIGHBOURS,
    growing,
    identity_row,
    neighbour_rows,
    slide_rows,
    zone_precision,
)
from stamp_index.evaluate.retrieval.scan import scan
from stamp_index.evaluate.retrieval.zones import N_ZONES, blocks, zone_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from stamp_index.evaluate.retrieval.asked import Asked

    Pair = tuple[NDArray[np.float32], NDArray[np.float32]]

DIRECTIONS: Final = ("image_to_gene", "gene_to_image")
_GPU_FROM: Final = 20_000  # spots: below that a processor is done before a GPU has begun


@dataclass(frozen=True, eq=False)
class Ways:
    """Queries and targets of each direction, where they are not the same pair turned round."""

    image_to_gene: Pair
    gene_to_image: Pair


@dataclass
class Retrieval:
    """What retrieval found.

    Attributes
    ----------
    identity : list of dict
        A row for each encoder, direction and gallery: recall@k of the own spot, of a spot near it, median rank, chance.
    slides : list of dict
        The same within each slide alone.
    neighbours : list of dict
        A row for each encoder, direction and zone: precision of labels, mAP, correlation of expression.
    ranks : dict
        Rank of every query's own spot in the largest gallery, by (encoder, direction): what is compared in pairs.
    """

    identity: list[dict[str, Any]] = field(default_factory=list)
    slides: list[dict[str, Any]] = field(default_factory=list)
    neighbours: list[dict[str, Any]] = field(default_factory=list)
    ranks: dict[tuple[str, str], NDArray[np.int64]] = field(default_factory=dict)


def evaluate_retrieval(
    encoders: Mapping[str, Pair | Ways],
    asked: Asked,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> Retrieval:
    """Search every spot's other half among the halves of all spots.

    Parameters
    ----------
    encoders : mapping of str to (ndarray, ndarray) of shape (n, d), float32, or to Ways
        Image and gene embeddings of the spots, of unit length; what is to be measured, and baselines.
    asked : Asked
        The spots, which are queries and gallery, and what is known of them.
    progress : callable, optional
        Called with the queries that are done, and those that there are.

    Returns
    -------
    Retrieval
    """
    out = Retrieval()
    n, done = len(asked.spots), 0
    total = 2 * len(encoders) * n
    for name, held in encoders.items():
        ways = held if isinstance(held, Ways) else Ways(held, held[::-1])
        for direction in DIRECTIONS:
            pair = getattr(ways, direction)

            def told(queries: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + queries, total)

            _one_way(out, (name, direction), pair, asked, told=told)
            done += n
    return out


def _one_way(
    out: Retrieval,
    named: tuple[str, str],
    pair: Pair,
    asked: Asked,
    *,
    told: Callable[[int], None],
) -> None:
    spots, known = asked.spots, asked.known
    right = right_answers(*pair, spots, asked.radius_um)
    n, g = len(spots), len(known.genes)
    reached = np.empty((n, 2, N_ZONES), np.int64)
    labelled = np.full((n, N_ZONES), np.nan)
    predicted = np.full((n, N_ZONES, g), np.nan, np.float32)
    k = K_NEIGHBOURS if g or (known.labels >= 0).any() else 0
    found = scan(pair, blocks(spots.slide, spots.patient), right.thresholds, k, device=_device(n))
    for one in found:
        rows = slice(one.block.start, one.block.stop)
        reached[rows] = one.reached
        if k:
            labelled[rows] = label_share(one.best, known.labels[rows], known.labels)
            predicted[rows] = mean_expression(one.best, known.expression)
        told(one.block.stop)
    own, near = ranks_of(reached, right, N_ZONES)
    sizes = zone_sizes(spots.slide, spots.patient).cumsum(axis=1)
    head = {"encoder": named[0], "direction": named[1]}
    near = np.where(right.placed[:, None], near, 0)
    for at in growing(sizes):
        row = identity_row(
            own[:, at], near[:, at], sizes[:, at], patient=spots.patient, n_near=right.n_near
        )
        out.identity.append({"gallery": GALLERIES[at], **head, **row})
    out.slides += slide_rows(head, own[:, 0], sizes[:, 0], spots)
    out.ranks[named] = own[:, -1]
    if k:
        precision = zone_precision(pair, spots, known.labels)
        out.neighbours += neighbour_rows(head, asked, (labelled, precision, predicted))


def _device(n: int) -> str:
    if n < _GPU_FROM:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
