"""What a viewer of slides draws: places of spots and their values, as small binary arrays."""

from __future__ import annotations

from stamp_index.view.layers import Layer, gene_layer, label_layer, predicted_layer
from stamp_index.view.spots import SpotPlaces, spot_places

__all__ = [
    "Layer",
    "SpotPlaces",
    "gene_layer",
    "label_layer",
    "predicted_layer",
    "spot_places",
]
