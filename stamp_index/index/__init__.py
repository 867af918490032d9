"""Indexes: exact and approximate nearest neighbours over the vectors of a store."""

from stamp_index.index.card import IndexCard
from stamp_index.index.exact import ann_recall_at_k, exact_search
from stamp_index.index.index import Index, index_folder
from stamp_index.index.recipe import IndexRecipe

__all__ = [
    "Index",
    "IndexCard",
    "IndexRecipe",
    "ann_recall_at_k",
    "exact_search",
    "index_folder",
]
