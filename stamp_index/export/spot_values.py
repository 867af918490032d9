"""Values of a slide's spots that a figure is coloured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.export.choosing import choose_slides, each, rows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.store.view import StoreView

UNIT: Final = "log1p CP10k"
_ENDS: Final = (0.01, 0.99)  # quantiles where colours end: one spot must not take them all


@dataclass(frozen=True)
class SpotValues:
    """What spots are coloured by.

    Attributes
    ----------
    xy_px : ndarray of shape (n, 2), float64
        Centres in level-0 pixels.
    values : ndarray of shape (n,), float64
        NaN is not drawn.
    name : str
        Such as a gene's.
    unit : str
        Stands at the colour bar.
    is_predicted : bool
        False where the values were measured. The title says which.
    """

    xy_px: NDArray[np.float64]
    values: NDArray[np.float64]
    name: str
    unit: str = UNIT
    is_predicted: bool = False

    def __post_init__(self) -> None:
        if self.xy_px.shape != (len(self.values), 2):
            msg = f"{len(self.values)} values stand at places of shape {self.xy_px.shape}; expected (n, 2)."
            raise ValueError(msg)


def measured_values(store: StoreView, slide_id: str, gene: str) -> SpotValues:
    """Measured expression of a gene on a slide, to be drawn.

    Parameters
    ----------
    store : Store
    slide_id : str
    gene : str
        A symbol of the store.

    Raises
    ------
    QueryError
        If the store has no such slide, or the slide did not measure the gene.
    MissingGenesError
        If no slide measured the gene.
    """
    slide = next(each(choose_slides(store, slide_id)))
    values = store.expression([gene], rows_of(slide))[:, 0].astype(np.float64)
    if not np.isfinite(values).any():
        msg = f"{gene} was not measured on slide '{slide_id}'. Predict it with predict_map, or choose another gene."
        raise QueryError(msg)
    return SpotValues(centres_of(store, slide), values, gene)


def centres_of(store: StoreView, slide: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """Patch centres (n, 2) of a slide in level-0 pixels."""
    return store.spots(["x_px", "y_px"], rows_of(slide)).to_numpy(np.float64)


def pitch_of(xy: NDArray[np.float64]) -> float:
    """Usual distance of a spot from its nearest neighbour, in level-0 pixels."""
    from scipy.spatial import KDTree

    if len(xy) < 2:
        return 100.0
    some = xy[:: max(1, len(xy) // 1000)]
    distance = np.asarray(KDTree(xy).query(some, k=2)[0])[:, 1]
    return float(np.median(distance)) or 1.0


def colour_ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """Values where the colours end, NaN aside; apart from each other even where all are the same."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = (float(value) for value in np.quantile(known, _ENDS))
    return (low, high) if high - low > 1e-6 else (low, low + 1.0)
