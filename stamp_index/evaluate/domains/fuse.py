"""What is clustered: image and gene embeddings side by side, and their mean over a spot's surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Which spots lie around each spot on its own slide.

    Attributes
    ----------
    radius_um : float
    weights : csr_matrix of shape (n, n), float64
        Row i averages over spot i and the spots at most `radius_um` away; every row sums to 1.
    """

    radius_um: float
    weights: csr_matrix

    @property
    def own_weight(self) -> float:
        """Weight that a spot itself has in its mean, on average over the spots."""
        return float(self.weights.diagonal().mean())


def find_surroundings(
    slide: NDArray[np.int64], xy_um: NDArray[np.float64], radius_um: float
) -> Surroundings:
    """Spots within a radius of each spot, never those of another slide.

    Parameters
    ----------
    slide : ndarray of shape (n,), int64
        Number of each spot's slide.
    xy_um : ndarray of shape (n, 2), float64
    radius_um : float
        Spots that are just so far away belong to it.

    Raises
    ------
    ValueError
        If the radius is not above 0, or a position is not known.
    """
    from scipy.sparse import coo_matrix, csr_matrix
    from scipy.spatial import cKDTree

    if not 0 < radius_um < np.inf:
        msg = f"radius_um is {radius_um}; it must be above 0."
        raise ValueError(msg)
    if not np.isfinite(xy_um).all():
        msg = "Spots without positions in um have no surroundings. Leave out slides of unknown pixel size."
        raise ValueError(msg)
    n = len(slide)
    parts = [np.column_stack([np.arange(n), np.arange(n)])]
    for one in np.unique(slide):
        here = np.flatnonzero(slide == one)
        pairs = here[cKDTree(xy_um[here]).query_pairs(radius_um, output_type="ndarray")]
        parts += [pairs, pairs[:, ::-1]]
    at = np.concatenate(parts)
    weight = 1.0 / np.bincount(at[:, 0], minlength=n)
    linked = coo_matrix((weight[at[:, 0]], (at[:, 0], at[:, 1])), shape=(n, n))
    return Surroundings(float(radius_um), csr_matrix(linked))


def smoothing_name(radius_um: float | None) -> str:
    """Say how vectors were smoothed, as every result does."""
    return "none" if radius_um is None else f"mean within {radius_um:g} um"


def fuse(
    sides: Sequence[NDArray[Any]], around: Surroundings | None = None, *, unit: bool = True
) -> NDArray[np.float32]:
    """Put vectors of the same spots side by side, each averaged over its surroundings first.

    Parameters
    ----------
    sides : sequence of ndarray of shape (n, d)
        Image embeddings, gene embeddings, or both.
    around : Surroundings, optional
        Nothing is averaged by default.
    unit : bool
        Bring every side to unit length after averaging, so that both weigh the same. Not for principal components,
        whose lengths mean something.

    Returns
    -------
    ndarray of shape (n, sum of d), float32
    """
    parts = []
    for side in sides:
        held = side if around is None else around.weights @ side
        if unit:
            length = np.linalg.norm(held, axis=1, keepdims=True)
            held = held / np.where(length > 0, length, 1.0)
        parts.append(np.asarray(held, np.float32))
    return np.concatenate(parts, axis=1)
