"""Search: queries of every kind, filters, hits, and expression predicted from hits."""

from __future__ import annotations

from stamp_index.search.filters import Filters, parse_filters
from stamp_index.search.hits import Hits
from stamp_index.search.predict import predict_expression, predict_expression_batch
from stamp_index.search.searcher import Searcher

__all__ = [
    "Filters",
    "Hits",
    "Searcher",
    "parse_filters",
    "predict_expression",
    "predict_expression_batch",
]
