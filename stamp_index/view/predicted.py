"""A gene predicted all over a slide, as a viewer draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.view.layers import UNIT, Layer, continuous
from stamp_index.view.spots import rows_of_slide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.vector_searcher import VectorSearcher

MOST_PLACES: Final = 20_000  # that are predicted one by one: some 3 s on one core
NOT_MEASURED: Final = "predicted, not measured"
_STEPS: Final = 14  # halvings of the grid's width: within a thousandth of the best


@dataclass(frozen=True, eq=False)
class Prediction:
    """A gene predicted on a slide.

    Attributes
    ----------
    values : ndarray of shape (n,), float64
        log1p CP10K at every spot of the slide, in the order of its rows; NaN where it has no picture.
    n_predicted : int
        Places that were predicted; every other spot has the value of the nearest of them.
    n_with_picture : int
    slides : tuple of str
        Slides that measured the gene, on which the prediction rests.
    """

    values: NDArray[np.float64]
    n_predicted: int
    n_with_picture: int
    slides: tuple[str, ...]

    @property
    def note(self) -> str:
        """What must stand beside the values."""
        if self.n_predicted == self.n_with_picture:
            return NOT_MEASURED
        return (
            f"{NOT_MEASURED}; at {self.n_predicted:,} of {self.n_with_picture:,} spots on a grid, the others have the "
            "value of the nearest"
        )


def predict_slide(
    searcher: VectorSearcher, slide_id: str, gene: str, *, most: int = MOST_PLACES
) -> Prediction:
    """Predict a gene at every spot of a slide from its picture; see `predict_map`.

    Parameters
    ----------
    searcher : Searcher
    slide_id, gene : str
    most : int
        Of a slide with more spots, so many at most are predicted: those nearest to the middles of a grid's cells.

    Raises
    ------
    QueryError
        If there is no such slide, it has no pictures, or no other slide measured the gene.
    MissingGenesError
        If no slide of the store measured the gene.
    """
    from scipy.spatial import KDTree

    from stamp_index.search.maps import N_NEIGHBOURS, predict_map

    store = searcher.store
    rows = rows_of_slide(store, slide_id)
    with_picture = np.flatnonzero(store.has_vector("image")[rows])
    if not len(with_picture):
        msg = f"Slide '{slide_id}' has no image embeddings, so nothing can be predicted from its pictures."
        raise QueryError(msg)
    xy = store.spots(["x_px", "y_px"], rows[with_picture]).to_numpy(np.float64)
    kept = thinned(xy, most)
    k = min(N_NEIGHBOURS, store.n_spots)
    found = predict_map(searcher, slide_id, [gene], k=k, rows=rows[with_picture[kept]])
    values = np.full(len(rows), np.nan)
    if len(kept) == len(xy):
        values[with_picture] = found.values(found.genes[0])
    else:
        nearest = np.asarray(KDTree(xy[kept]).query(xy)[1])
        values[with_picture] = found.values(found.genes[0])[nearest]
    return Prediction(values, len(kept), len(xy), found.slides)


def predicted_layer(searcher: VectorSearcher, slide_id: str, gene: str) -> Layer:
    """`predict_slide` as a layer, whose note says that nothing of it was measured.

    Raises
    ------
    QueryError, MissingGenesError
        As `predict_slide`.
    """
    made = predict_slide(searcher, slide_id, gene)
    return continuous(made.values, name=gene, unit=UNIT, note=made.note)


def thinned(xy: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Which of places (n, 2) to keep: all, or the one nearest to the middle of each cell of a grid.

    The grid is the finest of those tried that has at most `most` cells with a place in them.
    """
    if len(xy) <= most:
        return np.arange(len(xy))
    low = xy.min(axis=0)
    extent = np.maximum(xy.max(axis=0) - low, 1e-9)
    too_fine, coarse = 0.0, float(extent.max()) * 2  # the second has one cell
    best = np.array([0])
    for _ in range(_STEPS):
        side = (too_fine + coarse) / 2
        cells = np.floor((xy - low) / side)
        away = np.square(xy - low - (cells + 0.5) * side).sum(axis=1)
        order = np.argsort(away, kind="stable")
        name = cells[:, 1] * (np.floor(extent[0] / side) + 1) + cells[:, 0]
        _, first = np.unique(name[order], return_index=True)
        if len(first) > most:
            too_fine = side
        else:
            coarse, best = side, np.sort(order[first])
    return best
