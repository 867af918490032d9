"""Indexes: exact and approximate nearest neighbours over the vectors of a store."""

from stamp_index.index.building import build_index
from stamp_index.index.card import IndexCard
from stamp_index.index.engine import Fillers, Settings
from stamp_index.index.every_recipe import MeasuredRecipe, measure_recipes
from stamp_index.index.exact import ann_recall_at_k, exact_search
from stamp_index.index.folder import has_index, index_folder
from stamp_index.index.folding import fold_index
from stamp_index.index.generation import read_card
from stamp_index.index.index import Index, Prepared
from stamp_index.index.recipes import IndexRecipe, load_recipe
from stamp_index.index.upkeep import Keeper, keep_up

__all__ = [
    "Fillers",
    "Index",
    "IndexCard",
    "IndexRecipe",
    "Keeper",
    "MeasuredRecipe",
    "Prepared",
    "Settings",
    "ann_recall_at_k",
    "build_index",
    "exact_search",
    "fold_index",
    "has_index",
    "index_folder",
    "keep_up",
    "load_recipe",
    "measure_recipes",
    "read_card",
]
