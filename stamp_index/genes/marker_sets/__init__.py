"""Marker sets of our own, each with the papers or databases that its genes are from."""

from __future__ import annotations

from stamp_index.genes.marker_sets.marker_sets import (
    Citation,
    MarkerSet,
    available_marker_sets,
    load_marker_sets,
)

__all__ = ["Citation", "MarkerSet", "available_marker_sets", "load_marker_sets"]
