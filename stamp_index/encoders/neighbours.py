"""Spots around a spot, by distance on the tissue in microns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.sparse import csr_matrix, eye
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Neighbourhood:
    """Which spots around a spot are averaged, and how much the spot itself weighs.

    Attributes
    ----------
    k : int
        At most this many nearest spots; 0: the spot itself alone.
    radius_um : float
        None farther than this.
    self_weight : float
        Weight of the spot itself in [0, 1]; its neighbours share the rest. A spot without neighbours
        stands for itself.

    Notes
    -----
    SEAL (arXiv 2602.14177, released ``omics_preprocess.py``) averages within sqrt(2) array steps, which on
    Visium's hexagonal array reaches four of six neighbours, and counts the spot among them; here distance is in
    microns and a spot is not its own neighbour. ST-Align (arXiv 2411.16793, Eq. 1-2) takes the three nearest.
    """

    k: int
    radius_um: float = 0.0
    self_weight: float = 0.5

    def __post_init__(self) -> None:
        wide = self.k == 0 or self.radius_um > 0
        if self.k < 0 or not wide or not 0 <= self.self_weight <= 1:
            msg = (
                f"A neighbourhood of k = {self.k}, radius_um = {self.radius_um:g}, self_weight = "
                f"{self.self_weight:g} means nothing; expected k >= 0, radius_um > 0 and self_weight in [0, 1]."
            )
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def weights(self, xy_um: NDArray[np.float64]) -> csr_matrix:
        """Averaging matrix (n, n) over spots at `xy_um` (n, 2); every row sums to 1."""
        n = len(xy_um)
        if n < 2 or self.k == 0:
            return csr_matrix(eye(n))
        distance, found = cKDTree(xy_um).query(xy_um, k=min(self.k + 1, n))  # (n, k + 1)
        other = np.asarray(found)
        row = np.repeat(np.arange(n), other.shape[1]).reshape(other.shape)
        near = (distance <= self.radius_um) & (other != row)
        # Two spots at one place may push a spot itself out of its own list: no more than k others count.
        near &= np.cumsum(near, axis=1) <= self.k
        n_near = near.sum(axis=1)
        share = np.where(n_near > 0, (1 - self.self_weight) / np.maximum(n_near, 1), 0.0)
        own = np.where(n_near > 0, self.self_weight, 1.0)
        rows = np.concatenate([row[near], np.arange(n)])
        columns = np.concatenate([other[near], np.arange(n)])
        values = np.concatenate([np.repeat(share, n_near), own])
        return csr_matrix((values, (rows, columns)), shape=(n, n))


ITSELF: Final = Neighbourhood(0, 0.0, 1.0)
