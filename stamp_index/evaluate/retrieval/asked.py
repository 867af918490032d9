"""What retrieval is asked about: spots, and what is known of them besides their embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stamp_index.evaluate.spots import EvaluatedSpots

RADIUS_UM: Final = 150.0


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of n spots besides their embeddings.

    Attributes
    ----------
    labels : ndarray of shape (n,), int64
        Class of each spot, below 0 for none; all below 0 where no label is asked about.
    expression : ndarray of shape (n, g), float32
        log1p CP10K of `genes`; NaN where a gene was not measured.
    genes : tuple of str
    """

    labels: NDArray[np.int64]
    expression: NDArray[np.float32]
    genes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Asked:
    """Spots that are queries and gallery.

    Attributes
    ----------
    spots : EvaluatedSpots
    known : Known
    radius_um : float
        Hits at most this far from the query's spot, on its slide, are near it.
    """

    spots: EvaluatedSpots
    known: Known
    radius_um: float = RADIUS_UM
