"""Batches of spots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from trainer.recipe import Sampler


def batches(
    sampler: Sampler, slide_of: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """One epoch of batches of spot numbers.

    Parameters
    ----------
    sampler : Sampler
        ``uniform`` gives `batch_size` spots; ``same_slide_partner`` adds to each another spot of its slide,
        so that every spot has a hard negative (STAMP, ``src/data/datamodules.py``), never itself.
    slide_of : ndarray of shape (n,), int64
        Slide number of each spot.
    rng : Generator
        Decides the order.

    Yields
    ------
    ndarray of shape (b,) or (2b,), int64
        A last batch of a single spot is left out: it has no negatives.
    """
    order = rng.permutation(len(slide_of))
    for start in range(0, len(order), sampler.batch_size):
        batch = order[start : start + sampler.batch_size]
        if sampler.kind == "same_slide_partner":
            batch = np.concatenate([batch, partners(batch, slide_of, rng)])
        if len(batch) > 1:
            yield batch


def partners(
    spots: NDArray[np.int64], slide_of: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Another spot of the same slide for each of `spots` (b,); a slide's only spot is its own partner."""
    found = spots.copy()
    for slide in np.unique(slide_of[spots]):
        mine = np.flatnonzero(slide_of[spots] == slide)
        members = np.flatnonzero(slide_of == slide)
        if len(members) == 1:
            continue
        # A draw among the others: skip over the spot itself.
        draw = rng.integers(0, len(members) - 1, size=len(mine))
        own = np.searchsorted(members, spots[mine])
        found[mine] = members[draw + (draw >= own)]
    return found
