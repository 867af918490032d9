"""Whether a picture is like those of a store: what its best hit scores against what stored spots reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.search.filtering import field_not_in
from stamp_index.search.reliability import MAX_SLIDES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.search.vector_searcher import VectorSearcher
    from stamp_index.store import Modality

N_SPOTS: Final = 500
FAR: Final = 0.01  # share of the store's own spots that are farther from other slides


@dataclass(frozen=True, eq=False)
class Reach:
    """Best cosine of a sample of stored spots' pictures on slides other than their own.

    Attributes
    ----------
    best : ndarray of shape (n,), float32
        Ascending.
    """

    best: NDArray[np.float32]

    @property
    def far(self) -> float:
        """Cosine that all but 1 % of the store's own spots reach."""
        return float(np.quantile(self.best, FAR))

    def is_far(self, score: float) -> bool:
        """Whether a picture whose best hit has this cosine is farther from the store than its own spots are."""
        return score < self.far


def store_reach(
    searcher: VectorSearcher, *, against: Modality, n_spots: int = N_SPOTS, seed: int = 0
) -> Reach:
    """Measure how near stored spots' pictures come to other slides.

    Parameters
    ----------
    searcher : VectorSearcher
    against : {"image", "gene"}
        What pictures are compared with.
    n_spots : int
        Spots that are drawn, at most, from at most 24 slides.
    seed : int
        Of the draw.

    Raises
    ------
    QueryError
        If no spot with a picture has another slide to be compared with.
    """
    store = searcher.store
    slides = store.slides()
    rng = np.random.default_rng(seed)
    has_target = store.has_vector(against)
    first = slides["first_spot"].to_numpy(np.int64)
    rows = store.rows()
    rows = rows[store.has_vector("image")[rows]]
    slide_of = np.searchsorted(first, rows, side="right") - 1
    chosen = np.unique(slide_of)
    if len(chosen) > MAX_SLIDES:
        chosen = rng.choice(chosen, MAX_SLIDES, replace=False)
    rows = rows[np.isin(slide_of, chosen)]
    if len(rows) > n_spots:
        rows = np.sort(rng.choice(rows, n_spots, replace=False))
    slide_of = np.searchsorted(first, rows, side="right") - 1
    all_rows = store.rows()
    target_slides = np.searchsorted(first, all_rows[has_target[all_rows]], side="right") - 1
    best = []
    for slide in np.unique(slide_of):
        if not (target_slides != slide).any():
            continue
        vectors = store.vectors("image", rows[slide_of == slide]).astype(np.float32)
        others = field_not_in("slide", [str(slides["slide_id"].iloc[slide])])
        scores, _ = searcher.nearest(vectors, against=against, k=1, filters=others)
        best.append(scores[:, 0])
    if not best:
        msg = "No spot has another slide to be compared with, so nothing is known of how near pictures come."
        raise QueryError(msg)
    return Reach(np.sort(np.concatenate(best)))
