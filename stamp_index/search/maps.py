"""Expression predicted for every place of a slide from spots where it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.keys import Keys
from stamp_index.search.filtering import all_of, field_in, parse_filter
from stamp_index.search.predict import TEMPERATURE, predict_expression_batch
from stamp_index.search.selection import Own

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from stamp_index.search.filtering import Condition
    from stamp_index.search.vector_searcher import VectorSearcher
    from stamp_index.store import Modality, Store

N_NEIGHBOURS: Final = 50  # BLEEP (Xie et al., NeurIPS 2023) takes the 50 nearest
_BATCH: Final = 2_048  # places


@dataclass(frozen=True)
class ExpressionMap:
    """Predicted expression of some genes all over a slide. Nothing in it was measured there.

    Attributes
    ----------
    slide_id : str
    genes : tuple of str
    table : DataFrame of n rows
        spot_id, x_px, y_px (level-0 centres), ``score`` (mean cosine of the neighbours that the place's
        prediction rests on: low where the store holds nothing like it), and one column
        ``predicted(GENE)`` per gene: log1p CP10K, NaN where no neighbour measured the gene.
    n_neighbours : int
        Measured spots behind each value, at most.
    slides : tuple of str
        Slides that the neighbours were looked for on.
    """

    slide_id: str
    genes: tuple[str, ...]
    table: pd.DataFrame
    n_neighbours: int
    slides: tuple[str, ...]

    def values(self, gene: str) -> NDArray[np.float64]:
        """Predicted log1p CP10K of one gene at every place, (n,)."""
        return self.table[predicted_column(gene)].to_numpy(np.float64)


def predicted_column(gene: str) -> str:
    """Name of the column of a gene's predicted expression."""
    return f"predicted({gene})"


def predict_map(  # noqa: PLR0913 - what is asked for, of which places, from which neighbours
    searcher: VectorSearcher,
    slide_id: str,
    genes: Sequence[str],
    *,
    k: int = N_NEIGHBOURS,
    against: Modality = "gene",
    filters: Condition | str | None = None,
    exclude_own: Own = "slide",
    rows: ArrayLike | None = None,
) -> ExpressionMap:
    """Predict genes at every place of a slide: each place's picture asks for the spots that fit it best.

    Parameters
    ----------
    searcher : VectorSearcher
        Of the store that holds the slide.
    slide_id : str
        A slide with image embeddings; plain H&E, or one with counts whose prediction is to be compared.
    genes : sequence of str
        Genes that some other slide of the store measured.
    k : int
        Neighbours of each place.
    against : {"image", "gene"}
        What the picture is compared with: gene profiles, or the pictures of measured spots.
    filters : str or Condition, optional
        Where neighbours may lie, besides slides that measured one of the genes.
    exclude_own : {"nothing", "slide", "patient"}
        What is left out: the slide itself, or all slides of its patient.
    rows : array of int, optional
        Row ids of the slide's places that are wanted; all by default.

    Returns
    -------
    ExpressionMap

    Raises
    ------
    QueryError
        If there is no such slide, it has no image embeddings, no other slide measured the genes, none of
        their spots passes the filter, or the slide's patient is to be left out and not known.
    MissingGenesError
        If no slide of the store measured a gene.
    ValueError
        If `rows` is empty, or one of them is not of the slide.
    """
    if exclude_own not in get_args(Own):
        msg = f"exclude_own is {exclude_own!r}; expected one of {', '.join(get_args(Own))}."
        raise ValueError(msg)
    if not genes:
        msg = "No gene is named; give one or more, such as ['CD8A']."
        raise ValueError(msg)
    store = searcher.store
    places = _rows_with_image(store, slide_id, rows)
    names = searcher.resolve_genes(genes)
    slides = _measured_slides(store, names, slide_id, exclude_own)
    said = parse_filter(filters) if isinstance(filters, str) else filters
    where = all_of(field_in("slide", slides), said)
    predicted = np.full((len(places), len(names)), np.nan)
    score = np.empty(len(places), np.float32)
    for start in range(0, len(places), _BATCH):
        part = slice(start, start + _BATCH)
        vectors = store.vectors("image", places[part]).astype(np.float32)
        scores, found = searcher.nearest(vectors, against=against, k=k, filters=where)
        used, at = np.unique(found, return_inverse=True)
        measured = store.expression(names, used)
        predicted[part] = predict_expression_batch(
            at.reshape(found.shape), scores, measured, temperature=TEMPERATURE
        )
        score[part] = scores.mean(axis=1)
    table = store.spots([Keys.SPOT_ID, Keys.X_PX, Keys.Y_PX], places)
    columns = {predicted_column(gene): predicted[:, i] for i, gene in enumerate(names)}
    return ExpressionMap(slide_id, names, table.assign(score=score, **columns), k, slides)


def _rows_with_image(store: Store, slide_id: str, asked: ArrayLike | None) -> NDArray[np.int64]:
    slides = store.slides()
    here = slides[slides[Keys.SLIDE_ID] == slide_id]
    if here.empty:
        msg = f"There is no slide '{slide_id}' in the store; it has {', '.join(slides[Keys.SLIDE_ID])}."
        raise QueryError(msg)
    first, n = int(here["first_spot"].iloc[0]), int(here["n_spots"].iloc[0])
    rows = np.arange(first, first + n)
    if asked is not None:
        wanted = np.asarray(asked)
        if not wanted.size or not np.isin(wanted, rows).all():
            msg = f"rows holds no places, or such as are not of slide '{slide_id}', whose rows are {first} to {first + n - 1}."
            raise ValueError(msg)
        rows = np.unique(wanted).astype(np.int64)
    rows = rows[store.has_vector("image")[rows]]
    if not len(rows):
        msg = f"Slide '{slide_id}' has no image embeddings, so nothing can be predicted from its pictures."
        raise QueryError(msg)
    return rows


def _measured_slides(
    store: Store, genes: Sequence[str], slide_id: str, exclude_own: Own
) -> tuple[str, ...]:
    """Slides that measured one of the genes, without what is to be left out."""
    slides = store.slides()
    kept = np.any([store.has_gene(gene) for gene in genes], axis=0)
    if exclude_own == "patient":
        patient = slides.loc[slides[Keys.SLIDE_ID] == slide_id, Keys.PATIENT_ID].iloc[0]
        if not patient:
            msg = f"The patient of slide '{slide_id}' is not known, so it cannot be left out."
            raise QueryError(msg)
        kept &= slides[Keys.PATIENT_ID].to_numpy() != patient
    if exclude_own != "nothing":
        kept &= slides[Keys.SLIDE_ID].to_numpy() != slide_id
    if not kept.any():
        msg = (
            f"No other slide of the store measured {', '.join(genes)}, so it cannot be predicted for slide "
            f"'{slide_id}'. Add slides with counts."
        )
        raise QueryError(msg)
    return tuple(slides.loc[kept, Keys.SLIDE_ID])
