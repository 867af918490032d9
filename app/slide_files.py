"""A slide as files: figure, spots, outlines; of the selected region where there is one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from app import annotations, components, downloads, sharing
from app.api import images
from app.markup import plain
from app.predictions import needs_prediction, prediction
from app.selections import places
from stamp_index.errors import QueryError
from stamp_index.export import (
    SlideFigure,
    SpotValues,
    geojson_bytes,
    label_values,
    measured_values,
    selection_geojson,
    spots_csv,
    spots_geojson,
    spots_h5ad,
)
from stamp_index.export.chosen_spots import MAX_SHAPES, MAX_SPOTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shapely import MultiPolygon, Polygon

    from app.selections import Selection
    from app.stores import Opened

WHOLE, SEEN = "Whole slide", "What is seen now"


def show(
    opened: Opened, slide_id: str, layer: Mapping[str, str] | None, chosen: Selection | None
) -> None:
    """The row of buttons below the viewer."""
    rows = places(opened, slide_id).rows if chosen is None else chosen.rows
    genes = _measured_gene(opened, slide_id, layer)
    sharing.link(None)
    _figure(opened, slide_id, layer, chosen)
    of = "every spot" if chosen is None else f"the {len(rows):,} selected spots"
    if not len(rows):
        return
    downloads.button(
        "Spots CSV",
        partial(spots_csv, opened.store, rows, genes),
        "spots.csv",
        help=f"Ids, places, counts and labels of {of}.",
    )
    _geojson(opened, slide_id, rows, (genes, chosen))
    if len(rows) <= MAX_SPOTS:
        downloads.button(
            "h5ad",
            partial(spots_h5ad, opened.store, rows),
            "spots.h5ad",
            help=f"Counts and embeddings of {of}, as AnnData.",
        )


def _measured_gene(
    opened: Opened, slide_id: str, layer: Mapping[str, str] | None
) -> tuple[str, ...]:
    gene = (layer or {}).get("gene")
    return (gene,) if gene and not needs_prediction(opened, slide_id, gene) else ()


# ---- figure --------------------------------------------------------------------------------------


def _figure(
    opened: Opened, slide_id: str, layer: Mapping[str, str] | None, chosen: Selection | None
) -> None:
    popover = st.popover("Figure PNG", on_change="rerun", key="figure")
    if not popover.open:
        return  # where the viewer was moved to is asked of the browser when it opens
    with popover:
        shown = st.container()  # above the component, which takes a line of its own
        box = components.here("figureaddress", shown=False)
    with shown:
        if box is not None:
            part = st.segmented_control(
                "Part of the slide", [WHOLE, SEEN], default=WHOLE, required=True, key="figurepart"
            )
            box = box if part == SEEN else None
        why = why_bare(opened, slide_id, layer)
        if why:
            st.caption(plain(f"{why} The figure shows tissue and outlines."))
            layer = None
        shapes = shapes_of(slide_id, chosen)  # a file is made where no session is known
        made = partial(figure, opened, slide_id, layer, (shapes, box))
        downloads.button("Download figure", lambda: made().png(), "slide.png")
        downloads.button("Download SVG", lambda: made().svg(), "slide.svg")


def figure(
    opened: Opened,
    slide_id: str,
    layer: Mapping[str, str] | None,
    part: tuple[Sequence[Polygon | MultiPolygon], tuple[float, float, float, float] | None],
) -> SlideFigure:
    """Figure with scale bar and legend: the layer, outlines, and the part of the slide that is given."""
    shapes, box = part
    return SlideFigure(
        opened.store,
        slide_id,
        spots=values_of(opened, slide_id, layer),
        outlines=shapes,
        box_px=box,
        image=images.image_of(opened, slide_id) if box else None,
    )


def shapes_of(slide_id: str, chosen: Selection | None) -> list[Polygon | MultiPolygon]:
    """The slide's annotations in this session, and the selection."""
    shapes = [one.shape() for one in annotations.held(slide_id)[: annotations.MAX_DRAWN]]
    return shapes if chosen is None else [*shapes, chosen.shape()]


def why_bare(opened: Opened, slide_id: str, layer: Mapping[str, str] | None) -> str:
    """Why the spots of a figure cannot have a label's colours; "" where they can, or no label is asked for."""
    if not layer or "label" not in layer:
        return ""
    try:
        label_values(opened.store, slide_id, layer["label"])
    except QueryError as error:
        return str(error)
    return ""


def values_of(opened: Opened, slide_id: str, layer: Mapping[str, str] | None) -> SpotValues | None:
    """What the spots of a figure are coloured by; None for bare tissue.

    Raises
    ------
    QueryError
        As `label_values`.
    """
    if not layer:
        return None
    if "label" in layer:
        return label_values(opened.store, slide_id, layer["label"])
    gene = layer["gene"]
    if not needs_prediction(opened, slide_id, gene):
        return measured_values(opened.store, slide_id, gene)
    xy = np.asarray(places(opened, slide_id).xy_px, np.float64)
    return SpotValues(xy, prediction(opened, slide_id, gene).values, gene, origin="predicted")


# ---- shapes --------------------------------------------------------------------------------------


def _geojson(
    opened: Opened,
    slide_id: str,
    rows: np.ndarray,
    what: tuple[tuple[str, ...], Selection | None],
) -> None:
    genes, chosen = what
    has_size = bool(np.isfinite(opened.slides.loc[slide_id, "mpp"]))
    can_shape = has_size and len(rows) <= MAX_SHAPES
    with st.popover("GeoJSON", disabled=chosen is None and not can_shape):
        with_spots = chosen is None
        if chosen is not None:
            with_spots = st.toggle(
                "With its spots as detections", key="withspots", disabled=not can_shape
            )
        if not can_shape:
            st.caption(
                f"Spots become shapes on slides with a pixel size, at most {MAX_SHAPES:,} at once."
            )
        downloads.button(
            "Download GeoJSON",
            lambda: shapes_bytes(opened, slide_id, chosen, (rows if with_spots else None, genes)),
            "selection.geojson" if chosen is not None else "spots.geojson",
        )


def shapes_bytes(
    opened: Opened,
    slide_id: str,
    chosen: Selection | None,
    spots: tuple[np.ndarray | None, tuple[str, ...]],
) -> bytes:
    """The selection as an annotation, and spots as detections, for QuPath."""
    rows, genes = spots
    features: list[dict[str, Any]] = []
    if chosen is not None:
        features += selection_geojson([chosen.shape()], [chosen.name])["features"]
    if rows is not None:
        features += spots_geojson(opened.store, slide_id, rows, genes)["features"]
    return geojson_bytes({"type": "FeatureCollection", "features": features})
