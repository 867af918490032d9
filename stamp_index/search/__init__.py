"""Search: queries of every kind, filters, hits, and expression predicted from hits."""

from __future__ import annotations

from stamp_index.search.filtering import all_of, field_in, field_not_in, parse_filter
from stamp_index.search.hits import Hits
from stamp_index.search.maps import ExpressionMap, predict_map
from stamp_index.search.predict import predict_expression, predict_expression_batch
from stamp_index.search.regions import Region, RegionHits, RegionSettings
from stamp_index.search.searcher import Searcher
from stamp_index.search.vector_searcher import VectorSearcher

__all__ = [
    "ExpressionMap",
    "Hits",
    "Region",
    "RegionHits",
    "RegionSettings",
    "Searcher",
    "VectorSearcher",
    "all_of",
    "field_in",
    "field_not_in",
    "parse_filter",
    "predict_expression",
    "predict_expression_batch",
    "predict_map",
]
