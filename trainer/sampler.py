"""Batches of spots, mixed or of one slide, in groups: a spot alone, with a partner of its slide, or with negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.clusters import cluster_partners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainer.recipe import Sampler


def epoch_batches(
    sampler: Sampler,
    levels: Sequence[NDArray[np.int64]],
    slide_of: NDArray[np.int64],
    rng: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """One epoch of batches of spot numbers.

    Parameters
    ----------
    sampler : Sampler
        See there.
    levels : sequence of ndarray of shape (n,), int64
        What is balanced, coarse first: organ and slide number of each spot, or its slide's; none where nothing is.
    slide_of : ndarray of shape (n,), int64
        Slide number of each spot.
    rng : Generator
        Decides the order.

    Returns
    -------
    list of ndarray of shape (b,), int64
        Anchors of each step. A last batch of less than an eighth of the others joins the one before it: it would
        have few negatives, and too little for every process. Of ``one_slide``, slides of one spot are left out.
    """
    if sampler.kind == "one_slide":
        return _by_slide(sampler.batch_size, slide_of, rng)
    order = np.arange(len(slide_of))
    if levels:
        order = _drawn(order, len(order), levels, rng)
    order = rng.permutation(order)
    starts = range(0, len(order), sampler.batch_size)
    parts = [order[start : start + sampler.batch_size] for start in starts]
    if len(parts) > 1 and len(parts[-1]) < max(2, sampler.batch_size // 8):
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def _by_slide(
    most: int, slide_of: NDArray[np.int64], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Every slide's spots in as few batches of equal size as `most` allows; the slides' batches in random order."""
    parts = []
    for slide in np.unique(slide_of):
        members = rng.permutation(np.flatnonzero(slide_of == slide))
        parts += np.array_split(members, -(-len(members) // most))
    parts = [part for part in parts if len(part) > 1]
    return [parts[at] for at in rng.permutation(len(parts))]


def _drawn(
    members: NDArray[np.int64],
    count: int,
    levels: Sequence[NDArray[np.int64]],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """`count` of `members`, every value of a level equally often; all spots of one before any again."""
    if not levels:
        rounds = -(-count // len(members))
        return np.concatenate([members[:0], *(rng.permutation(members) for _ in range(rounds))])[
            :count
        ]
    level = levels[0][members]
    names = np.unique(level)
    quota = np.full(len(names), count // len(names))
    quota[rng.permutation(len(names))[: count % len(names)]] += 1
    parts = [
        _drawn(members[level == name], share, levels[1:], rng)
        for name, share in zip(names, quota.tolist(), strict=True)
    ]
    return np.concatenate(parts)


def group_size(sampler: Sampler) -> int:
    """Spots that each anchor brings, itself included."""
    extra = {"same_slide_partner": 1, "cluster_negatives": sampler.clusters - 1}
    return 1 + extra.get(sampler.kind, 0)


def with_company(  # noqa: PLR0917 - one draw and all that decides it
    sampler: Sampler,
    anchors: NDArray[np.int64],
    slide_of: NDArray[np.int64],
    cluster_of: NDArray[np.int64] | None,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw groups (b, m) of spot numbers: the anchor, then its partner or its negatives."""
    if sampler.kind in ("uniform", "one_slide"):
        return anchors[:, None]
    if sampler.kind == "same_slide_partner":
        return np.stack([anchors, partners(anchors, slide_of, rng)], axis=1)
    if cluster_of is None:
        msg = "cluster_negatives needs the clusters of the spots."
        raise ValueError(msg)
    others = cluster_partners(anchors, slide_of, cluster_of, sampler.clusters, rng)
    return np.concatenate([anchors[:, None], others], axis=1)


def partners(
    spots: NDArray[np.int64], slide_of: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Another spot of the same slide for each of `spots` (b,), so that every spot has a hard negative.

    `slide_of` (n,) never decreases.

    As in STAMP (``src/data/datamodules.py``), but never the spot itself; a slide's only spot is its own
    partner, which the loss masks.
    """
    mine = slide_of[spots]
    first = np.searchsorted(slide_of, mine)  # spots of a slide stand together
    size = np.searchsorted(slide_of, mine, side="right") - first
    draw = rng.integers(0, np.maximum(size - 1, 1))
    found: NDArray[np.int64] = first + draw + (draw >= spots - first)  # skips over the spot itself
    return np.where(size > 1, found, spots)
