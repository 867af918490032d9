"""Spots and genes of a store that expression is predicted for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.evaluate.errors import EvaluationError
from stamp_index.evaluate.expression.genes import (
    GeneLevels,
    GeneList,
    all_genes,
    given_genes,
    highly_expressed,
    highly_variable,
)
from stamp_index.evaluate.spots import EvaluatedSpots, read_spots

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scipy.sparse import csr_matrix

    from stamp_index.evaluate.split import Split
    from stamp_index.store.view import StoreView


@dataclass(frozen=True, eq=False)
class PredictedSpots:
    """Training and test spots with image and gene embeddings, and the levels of genes that can be predicted.

    Attributes
    ----------
    train, test : EvaluatedSpots
    levels : GeneLevels
        Over the training spots, of genes that every training slide and at least one test slide measured.
    """

    train: EvaluatedSpots
    test: EvaluatedSpots
    levels: GeneLevels


def read_predicted(store: StoreView, split: Split) -> PredictedSpots:
    """Read what `evaluate_expression` needs.

    Raises
    ------
    EvaluationError
        If there is no training slide, a side has no spot with both embeddings, one of them is not finite, or the two
        sides share no gene.
    """
    if not split.train:
        msg = (
            f"The split has no training slides in the store at {store.place}, so there is nothing to predict from. Add the "
            "slides that the encoder learnt from, or name training slides in the split."
        )
        raise EvaluationError(msg)
    train = read_spots(store, ("image", "gene"), split.train)
    test = read_spots(store, ("image", "gene"), split.test)
    everywhere = set(store.genes_of(train.slide_ids[0]))
    for slide_id in train.slide_ids[1:]:
        everywhere &= set(store.genes_of(slide_id))
    tested = set().union(*(store.genes_of(slide_id) for slide_id in test.slide_ids))
    shared = everywhere & tested
    if not shared:
        msg = (
            f"No gene was measured on every training slide ({len(everywhere):,} genes) and on a test slide "
            f"({len(tested):,} genes). Name slides of one species and platform in the split."
        )
        raise EvaluationError(msg)
    levels = GeneLevels.of(_counts_by_slide(store, train), store.genes).among(shared)
    return PredictedSpots(train, test, levels)


def _counts_by_slide(store: StoreView, spots: EvaluatedSpots) -> Iterator[csr_matrix]:
    for number in range(len(spots.slide_ids)):
        yield store.sparse_counts(spots.rows[spots.slide == number])


def gene_lists(levels: GeneLevels, genes: Sequence[str] | None) -> tuple[GeneList, ...]:
    """List the given genes alone, or else those that vary most, those that are highest, and all.

    Raises
    ------
    MissingGenesError
        If a given gene cannot be predicted.
    EvaluationError
        If none is given or expressed, or one is given twice.
    """
    if genes is not None:
        return (given_genes(genes, levels.genes),)
    return highly_variable(levels), highly_expressed(levels), all_genes(levels)


def slide_parts(spots: EvaluatedSpots) -> list[slice]:
    """Where each slide's spots lie; they follow each other."""
    ends = np.searchsorted(spots.slide, np.arange(len(spots.slide_ids)), side="right").tolist()
    return [slice(start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
