"""Prototypes: what a query region is made of, and how much of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Prototypes:
    """Kinds of spots in a region.

    Attributes
    ----------
    vectors : ndarray of shape (p, d), float32
        Unit vectors, the largest kind first.
    weights : ndarray of shape (p,), float64
        Share of the region's spots; sums to 1.
    of_spot : ndarray of shape (m,), int64
        Kind of each spot of the region.
    """

    vectors: NDArray[np.float32]
    weights: NDArray[np.float64]
    of_spot: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.vectors)

    def cosines(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Cosine of spots (n, d) with each prototype, (n, p)."""
        return np.asarray(vectors.astype(np.float32) @ self.vectors.T)


def make_prototypes(vectors: NDArray[np.float32], n: int, *, seed: int = 0) -> Prototypes:
    """Divide the spots of a region into at most `n` kinds by k-means.

    Parameters
    ----------
    vectors : ndarray of shape (m, d), float32
        Unit vectors of the region's spots, by ascending row: their order decides the start of k-means.
    n : int
        Kinds wanted. Where there are no more different vectors than that, each is a kind of its own.
    seed : int
        Of k-means.
    """
    distinct, of_spot = np.unique(vectors, axis=0, return_inverse=True)
    centres = distinct.astype(np.float64)
    if len(distinct) > n:
        from sklearn.cluster import KMeans

        means = KMeans(n, n_init=4, random_state=seed).fit(vectors.astype(np.float64))
        centres, of_spot = means.cluster_centers_, means.labels_
    kinds, of_spot = np.unique(of_spot, return_inverse=True)  # k-means may leave a kind empty
    centres, sizes = centres[kinds], np.bincount(of_spot)
    order = np.argsort(-sizes, kind="stable")
    place = np.argsort(order)
    lengths = np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    unit = (centres / lengths)[order].astype(np.float32)
    return Prototypes(unit, sizes[order] / len(vectors), place[of_spot])
