"""What a viewer of slides draws: places of spots and their values, as small binary arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stamp_index.view.layers import Layer, gene_layer, label_layer
from stamp_index.view.predicted import Prediction, predict_slide, predicted_layer
from stamp_index.view.spots import SpotPlaces, spot_places

if TYPE_CHECKING:
    from stamp_index.view.slide_viewer import SlideViewer

__all__ = [
    "Layer",
    "Prediction",
    "SlideViewer",
    "SpotPlaces",
    "gene_layer",
    "label_layer",
    "predict_slide",
    "predicted_layer",
    "spot_places",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the viewer when it is first asked for: it needs anywidget, which the app does not."""
    if name == "SlideViewer":
        from stamp_index.view.slide_viewer import SlideViewer

        return SlideViewer
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
