"""How well each gene is predicted in a store: measured spots are predicted from other slides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError
from stamp_index.keys import Keys, Nums
from stamp_index.search.asking import DEFAULT_K
from stamp_index.search.filtering import field_not_in
from stamp_index.search.predict import TEMPERATURE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.search.selection import Own
    from stamp_index.search.vector_searcher import VectorSearcher
    from stamp_index.store import Modality, Store

N_SPOTS: Final = 600  # the standard error of a correlation of 0.3 is then 0.04
MAX_SLIDES: Final = 24  # each is a search of its own
MIN_SPOTS: Final = 20  # fewer tell no correlation
RELIABLE: Final = 0.3  # BLEEP's and HEST-bench's better genes lie above it
_CHUNK: Final = 32  # queries whose neighbours' counts are held at once


def held_out(store: Store) -> Own:
    """Say what a prediction is not to rest on: the patient where several were measured, else the slide.

    Returns
    -------
    {"patient", "slide", "nothing"}
        "nothing" where fewer than two slides measured anything, so that nothing can be held out.
    """
    slides = _measured(store)
    if len(slides) < 2:
        return "nothing"
    patients = set(slides[Keys.PATIENT_ID])
    return "patient" if len(patients) > 1 and "" not in patients else "slide"


def prediction_reliability(
    searcher: VectorSearcher,
    genes: Sequence[str],
    *,
    against: Modality = "gene",
    k: int = DEFAULT_K,
    n_spots: int = N_SPOTS,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlate prediction and measurement of genes at a sample of the store's spots.

    Each spot's picture asks for its k neighbours, as `search_spot` and `predict_expression` do, where the spot's own
    patient (see `held_out`) is left out: neighbours from the same section would flatter.

    Parameters
    ----------
    searcher : VectorSearcher
    genes : sequence of str, length g
        Of the store.
    against : {"image", "gene"}
        What pictures are compared with.
    k : int
        Neighbours of each spot, at most.
    n_spots : int
        Spots with a picture and counts that are drawn, at most, from at most 24 slides.
    seed : int
        Of the draw.

    Returns
    -------
    DataFrame with g rows
        gene; r, Pearson's correlation over the sampled spots (NaN of fewer than 20 spots, or where one side is constant);
        n, spots that it is over; slides, that these lie on.

    Raises
    ------
    QueryError
        If fewer than two slides with counts have pictures, so that nothing can be held out.
    ValueError
        If no gene is named, or one is not the store's.
    """
    store = searcher.store
    own = held_out(store)
    if own == "nothing":
        msg = "Fewer than two slides of the store have counts, so no slide can be predicted from others. Add slides."
        raise QueryError(msg)
    columns = _columns(store, genes)
    sample = _sample(store, n_spots, seed)
    if not len(sample):
        msg = "No slide with counts has pictures, so no prediction can be held against them. Add slides with images."
        raise QueryError(msg)
    slide_of = _slide_numbers(store, sample)
    predicted = np.full((len(sample), len(genes)), np.nan)
    for slide in np.unique(slide_of):
        here = np.flatnonzero(slide_of == slide)
        where = field_not_in(Keys.SLIDE_ID.removesuffix("_id"), _left_out(store, int(slide), own))
        for start in range(0, len(here), _CHUNK):
            part = here[start : start + _CHUNK]
            vectors = store.vectors("image", sample[part]).astype(np.float32)
            scores, rows = searcher.nearest(vectors, against=against, k=k, filters=where)
            predicted[part] = _predict(store, scores, rows, columns)
    measured, known = _expression(store, sample, columns)
    values = np.where(known, measured.toarray(), np.nan)
    table = pd.DataFrame({"gene": list(genes)})
    return table.assign(**_correlations(predicted, values, slide_of))


def _measured(store: Store) -> pd.DataFrame:
    slides = store.slides()
    return slides[slides["n_genes"] > 0]


def _columns(store: Store, genes: Sequence[str]) -> NDArray[np.int64]:
    place = {gene: column for column, gene in enumerate(store.genes)}
    missing = [gene for gene in genes if gene not in place]
    if missing or not genes:
        msg = (
            f"genes are {list(genes)[:5]}; expected genes of the store, which lacks {missing[:5]}."
        )
        raise ValueError(msg)
    return np.array([place[gene] for gene in genes], np.int64)


def _sample(store: Store, n_spots: int, seed: int) -> NDArray[np.int64]:
    """Rows, ascending, with picture and counts."""
    rng = np.random.default_rng(seed)
    is_measured = (store.slides()["n_genes"] > 0).to_numpy()
    chosen = np.flatnonzero(is_measured)
    if len(chosen) > MAX_SLIDES:
        chosen = rng.choice(chosen, MAX_SLIDES, replace=False)
    drawn = np.zeros(len(is_measured), np.bool_)
    drawn[chosen] = True
    rows = store.rows()
    rows = rows[store.mask_of(drawn)[rows] & store.has_vector("image")[rows]]
    if len(rows) > n_spots:
        rows = rng.choice(rows, n_spots, replace=False)
    return np.sort(rows)


def _slide_numbers(store: Store, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    first = store.slides()["first_spot"].to_numpy(np.int64)
    return np.searchsorted(first, rows, side="right") - 1


def _left_out(store: Store, slide: int, own: Own) -> list[str]:
    """Slides that a spot of a slide must not be predicted from."""
    slides = store.slides()
    if own == "slide":
        return [str(slides[Keys.SLIDE_ID].iloc[slide])]
    same = slides[Keys.PATIENT_ID] == slides[Keys.PATIENT_ID].iloc[slide]
    return [str(name) for name in slides.loc[same, Keys.SLIDE_ID]]


def _predict(
    store: Store,
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """`predict_expression_batch` for many genes at once, by sparse products; (q, g)."""
    from scipy.sparse import csr_matrix

    used, at = np.unique(rows, return_inverse=True)
    best = scores.max(axis=1, keepdims=True)
    weights = np.exp((scores.astype(np.float64) - best) / TEMPERATURE)  # (q, k)
    pairs = (np.repeat(np.arange(len(rows)), rows.shape[1]), at.ravel())
    spread = csr_matrix((weights.ravel(), pairs), shape=(len(rows), len(used)))  # (q, m)
    values, known = _expression(store, used, columns)
    total = (spread @ values).toarray()
    weight = spread @ known.astype(np.float64)  # (q, g); of the neighbours that measured each gene
    predicted: NDArray[np.float64] = np.full_like(total, np.nan)
    np.divide(total, weight, out=predicted, where=weight > 0)
    return predicted


def _expression(
    store: Store, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[csr_matrix, NDArray[np.bool_]]:
    """log1p CP10K (m, g) as a sparse matrix, 0 where not measured, and (m, g) where it was."""
    from scipy.sparse import csr_matrix, diags

    counts = csr_matrix(store.sparse_counts(rows), dtype=np.float64)  # spot by spot: cost of m
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scale = diags(Nums.COUNTS_PER_SPOT / np.where(totals > 0, totals, 1.0))
    values = csr_matrix(scale @ counts).log1p()[:, columns]
    slides, at = np.unique(_slide_numbers(store, rows), return_inverse=True)
    ids = store.slides()[Keys.SLIDE_ID]
    names = np.array(store.genes, object)[columns]
    known = np.array([np.isin(names, list(store.genes_of(str(ids.iloc[one])))) for one in slides])
    return csr_matrix(values), known[at]


def _correlations(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], slide_of: NDArray[np.int64]
) -> dict[str, NDArray[np.generic]]:
    """Pearson's r per column over the rows where both are known, how many these are, and on how many slides."""
    both = np.isfinite(predicted) & np.isfinite(measured)  # (n, g)
    n = both.sum(axis=0)
    first, second = (np.where(both, values, 0.0) for values in (predicted, measured))
    first, second = (
        np.where(both, values - values.sum(axis=0) / np.maximum(n, 1), 0.0)
        for values in (first, second)
    )
    spread = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    known = (n >= MIN_SPOTS) & (spread > 1e-12)
    r = np.full(len(n), np.nan)
    r[known] = (first * second).sum(axis=0)[known] / spread[known]
    on = np.array([both[slide_of == slide].any(axis=0) for slide in np.unique(slide_of)])
    return {"r": r, "n": n, "slides": on.sum(axis=0)}
