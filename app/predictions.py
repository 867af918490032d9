"""Genes predicted all over a slide; pages and routes share what was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.search.kept import Kept
from stamp_index.view import Prediction, predict_slide

if TYPE_CHECKING:
    from app.stores import Opened

MAX_BYTES = 64 * 1024 * 1024

_made: Kept[Prediction] = Kept(MAX_BYTES, lambda one: one.values.nbytes)


def prediction(opened: Opened, slide_id: str, gene: str) -> Prediction:
    """A gene on a slide that did not measure it.

    Raises
    ------
    QueryError, MissingGenesError
        As `predict_slide`.
    """
    key = (*opened.key, slide_id, gene)
    return _made.get(key, lambda: predict_slide(opened.searcher, slide_id, gene))


def needs_prediction(opened: Opened, slide_id: str, gene: str) -> bool:
    """Whether a gene of the store was not measured on a slide."""
    return not opened.store.has_gene(gene)[opened.slides.index.get_loc(slide_id)]
