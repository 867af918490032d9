"""Expression at spots whose slide did not measure a gene: predicted from measured neighbours.

A spot's picture asks for the profiles that fit it best on slides that measured the gene, as
`stamp_index.search.predict_map` does for a whole slide. What comes out is never a measurement, and
whatever shows it says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.stores import Opened
from stamp_index.errors import QueryError, ShardError
from stamp_index.search import field_in, predict_expression_batch
from stamp_index.search.maps import N_NEIGHBOURS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

NOT_MEASURED = "predicted, not measured"  # the words that stand wherever a prediction does


@dataclass(frozen=True)
class Guess:
    """Predicted log1p CP10K at one spot."""

    mean: float
    sd: float  # weighted standard deviation over the neighbours
    n: int  # neighbours, all of which measured the gene
    n_slides: int  # that they lie on


def guesses(opened: Opened, rows: ArrayLike, genes: Iterable[str]) -> dict[tuple[int, str], Guess]:
    """Predictions by row and gene, where the row's slide did not measure the gene.

    Missing are rows without a picture, and genes that no slide measured. All rows ask at once: 48
    tiles take some 30 ms in a store of 20,000 spots, exactly searched.
    """
    at = np.unique(np.asarray(rows, np.int64))
    if not len(at):
        return {}
    slide_of_row = opened.store.spots(["slide_id"], at)["slide_id"].to_numpy()
    has_picture = opened.store.has_vector("image")[at]
    found: dict[tuple[int, str], Guess] = {}
    for gene in genes:
        if gene not in opened.measured:
            continue
        slides = tuple(opened.slides.index[opened.store.has_gene(gene)])
        lacking = at[has_picture & ~np.isin(slide_of_row, slides)]
        if len(lacking):
            found |= _of_gene(opened, gene, lacking, slides)
    return found


def why_unknown(opened: Opened, gene: str) -> tuple[str, str]:
    """What stands in the place of a value that is neither measured nor predicted, and why."""
    if gene not in opened.measured:
        return "not measured on any slide", (
            f"{gene} was not measured on any slide of this store, so it cannot be predicted either"
        )
    return "not measured here", (
        f"{gene} was not measured on this slide, and there is nothing to predict it from: the spot "
        "has no picture, or no measured spot can be compared with it"
    )


def _of_gene(
    opened: Opened, gene: str, rows: NDArray[np.int64], slides: tuple[str, ...]
) -> dict[tuple[int, str], Guess]:
    try:
        near = _neighbours(opened, rows, slides)
    except ShardError:  # the hits say that shards do not answer; the next look may have predictions
        return {}
    if near is None:
        return {}
    scores, found = near
    used, at = np.unique(found, return_inverse=True)
    at = at.reshape(found.shape)
    values = opened.store.expression([gene], used).astype(np.float64)
    mean, square = predict_expression_batch(at, scores, np.hstack([values, values**2])).T
    sd = np.sqrt(np.maximum(square - mean**2, 0.0))
    slide_of_used = opened.store.spots(["slide_id"], used)["slide_id"].to_numpy()
    return {
        (int(row), gene): Guess(
            float(mean[i]), float(sd[i]), found.shape[1], len(set(slide_of_used[at[i]]))
        )
        for i, row in enumerate(rows)
    }


# The slides are those that measured the gene, and a row's own is none of them: nothing is left out
# besides. Genes that the same slides measured share their neighbours.
@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def _neighbours(
    opened: Opened, rows: NDArray[np.int64], slides: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """Scores and rows (q, k) of measured spots; None where no measured spot can be compared."""
    vectors = opened.store.vectors("image", rows).astype(np.float32)
    try:
        return opened.searcher.nearest(
            vectors,
            against="gene",
            k=min(N_NEIGHBOURS, opened.store.n_spots),
            filters=field_in("slide", slides),
        )
    except QueryError:
        return None
