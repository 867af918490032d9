"""What a query's best hits are like: of its label, and expressing what it expresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.evaluate.retrieval.zones import N_ZONES, zone_sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.evaluate.spots import EvaluatedSpots


def label_share(
    best: NDArray[np.int64], own: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Share of labelled hits that carry the query's label: precision@k.

    Parameters
    ----------
    best : ndarray of shape (b, z, k), int64
        Hits of b queries in each zone, -1 for none.
    own : ndarray of shape (b,), int64
        Label of each query; below 0 for none.
    labels : ndarray of shape (n,), int64
        Label of each target; below 0 for none.

    Returns
    -------
    ndarray of shape (b, z), float64
        NaN where the query has no label, or no hit has one.
    """
    found = np.where(best >= 0, labels[best], -1)  # (b, z, k)
    known = (found >= 0).sum(axis=2)
    same = (found == own[:, None, None]).sum(axis=2)
    share = np.full(known.shape, np.nan)
    np.divide(same, known, out=share, where=(known > 0) & (own >= 0)[:, None])
    return share


def label_chance(spots: EvaluatedSpots, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give what `label_share` is on average where hits are drawn at random, (n, 3); NaN where it is not defined."""
    n_labels = int(labels.max(initial=-1)) + 1
    labelled, same = np.zeros((2, len(labels), N_ZONES))
    groups = (spots.slide, spots.patient, np.zeros(len(labels), np.int64))
    for zone, group in enumerate(groups):
        held = np.zeros((int(group.max(initial=0)) + 1, n_labels))
        np.add.at(held, (group[labels >= 0], labels[labels >= 0]), 1)
        labelled[:, zone] = held.sum(axis=1)[group]
        same[:, zone] = held[group, np.maximum(labels, 0)] if n_labels else 0
    labelled[:, 1:] -= labelled[:, :-1].copy()  # zones instead of galleries that grow
    same[:, 1:] -= same[:, :-1].copy()
    labelled[:, 0] -= 1  # the query's own spot is no hit
    same[:, 0] -= 1
    chance = np.full(labelled.shape, np.nan)
    fits = (labelled > 0) & (labels >= 0)[:, None]
    np.divide(same, labelled, out=chance, where=fits)
    return chance


def mean_expression(best: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean expression of the hits in each zone.

    Parameters
    ----------
    best : ndarray of shape (b, z, k), int64
        Hits, -1 for none.
    values : ndarray of shape (n, g), float32
        Expression of the targets; NaN where a gene was not measured, which is left out of the mean.

    Returns
    -------
    ndarray of shape (b, z, g), float32
        NaN where no hit measured the gene.
    """
    b, zones, k = best.shape
    total = np.zeros((b, zones, values.shape[1]), np.float32)
    count = np.zeros_like(total)
    for at in range(k):
        found = values[best[:, :, at]]
        known = np.isfinite(found) & (best[:, :, at] >= 0)[:, :, None]
        total += np.where(known, found, 0)
        count += known
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def has_zone(spots: EvaluatedSpots) -> NDArray[np.bool_]:
    """Whether each query has another spot in each zone, (n, 3)."""
    sizes = zone_sizes(spots.slide, spots.patient)
    sizes[:, 0] -= 1
    found: NDArray[np.bool_] = sizes > 0
    return found
