"""The figure of what a viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.export import SlideFigure, SpotValues
from stamp_index.view.sources import SlideSource, StoredSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely import MultiPolygon, Polygon

    from stamp_index.export.spot_values import Origin
    from stamp_index.view.layers import Layer


def slide_figure(
    source: SlideSource,
    layer: Layer | None,
    *,
    origin: Origin,
    outlines: Sequence[Polygon | MultiPolygon],
    box_px: tuple[float, float, float, float] | None,
) -> SlideFigure:
    """Figure of a slide with one layer.

    Raises
    ------
    QueryError
        If the slide is in no store, whose version and encoder a figure names.
    """
    if not isinstance(source, StoredSource):
        msg = (
            f"A figure names the store and encoder that it is of, and slide {source.slide_id} is in no store. Add it to "
            "one (stamp_index.ingest, or stamp-index add), and show it from there."
        )
        raise QueryError(msg)
    spots = None if layer is None else _values_of(source, layer, origin)
    return SlideFigure(
        source.store,
        source.slide_id,
        spots,
        outlines,
        box_px=box_px,
        image=source.whole_picture,
    )


def _values_of(source: SlideSource, layer: Layer, origin: Origin) -> SpotValues:
    """Say what spots are coloured by; codes of categories begin with 0 there, and with 1 in a layer."""
    meaning = layer.meaning
    values = layer.values()
    if meaning.kind == "categories":
        values = np.where(layer.codes == 0, np.nan, layer.codes - 1.0)
    xy_px = source.places.xy_px.astype(np.float64)
    return SpotValues(xy_px, values, meaning.name, meaning.unit, origin, meaning.categories)
