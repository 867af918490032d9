"""Spots as objects that QuPath reads: GeoJSON in level-0 pixels.

Source: https://qupath.readthedocs.io, "Importing objects" (objectType, classification, measurements).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stamp_index.errors import MissingPixelSizeError
from stamp_index.export.choosing import choose_slides, each, rows_of
from stamp_index.export.files import draft

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.store.view import StoreView

_CORNERS: Final = 24
_PART: Final = 4096  # spots that are made at once
# Okabe and Ito's colours, which people with any colour vision tell apart; black, the last of them, is left out.
COLOURS: Final = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip


def to_geojson(
    store: StoreView,
    slide_id: str,
    path: Path | str,
    *,
    label: str | None = None,
    genes: Sequence[str] = (),
    outline: Literal["circle", "square"] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the spots of a slide as detections, whole or not at all.

    Parameters
    ----------
    store : Store
    slide_id : str
    path : path
    label : str, optional
        Becomes the objects' classification where it is text, and a measurement where it is a number.
    genes : sequence of str
        Their expression (log1p of counts per 10,000) becomes measurements, beside `n_counts` and `n_genes`.
    outline : {"circle", "square"}, optional
        By default squares for Visium HD's bins, and polygons of 24 corners, all on the circle, for spots.
    overwrite : bool
        Whether a file may be there already.

    Raises
    ------
    FileExistsError
        If there is a file and `overwrite` is False.
    OSError
        If it cannot be written.
    QueryError
        If the slide or the label is not in the store.
    MissingGenesError
        If a gene is not in the store; close names are offered.
    MissingPixelSizeError
        If the slide has no pixel size.
    """
    slide = next(each(choose_slides(store, slide_id)))
    ring = spot_ring(slide, outline)
    symbols = _symbols(store, genes)
    # Once for the whole slide: a part of it may hold numbers only, or nothing, and come as another type.
    values = None if label is None else store.label(label, rows_of(slide))
    colours = {} if values is None else _colours(values)
    with draft(path, overwrite=overwrite) as file, file.open("w", encoding="utf-8") as stream:
        stream.write('{"type":"FeatureCollection","features":[')
        for start in range(0, slide.n_spots, _PART):
            rows = rows_of(slide)[start : start + _PART]
            part = None if values is None else values.iloc[start : start + _PART]
            features = _features(store, rows, ring, (label, part, symbols, colours))
            stream.write(",\n" if start else "\n")
            stream.write(",\n".join(json.dumps(f, allow_nan=False) for f in features))
        stream.write("\n]}\n")


def qupath_feature(
    geometry: Mapping[str, Any],
    kind: Literal["annotation", "detection"],
    *,
    name: str,
    measured: Mapping[str, float],
    said: Mapping[str, str],
) -> dict[str, Any]:
    """GeoJSON feature as QuPath reads it: an object with a name, measurements and metadata."""
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {
            "objectType": kind,
            "name": name,
            "measurements": dict(measured),
            "metadata": dict(said),
        },
    }


def spot_ring(
    slide: Any,  # noqa: ANN401 - a row of the slides table
    outline: Literal["circle", "square"] | None = None,
) -> NDArray[np.float64]:
    """Corners (c, 2) of a spot around its centre, in level-0 pixels; the first again at the end.

    Raises
    ------
    MissingPixelSizeError
        If the slide has no pixel size.
    """
    if not np.isfinite(slide.mpp):
        msg = (
            f"Slide {slide.slide_id} has no microns per pixel, so its spots have no size in pixels. Read it again with "
            "mpp."
        )
        raise MissingPixelSizeError(msg)
    if outline is None:
        outline = "square" if is_square(slide.platform, slide.provenance) else "circle"
    return _ring(outline, slide.spot_diameter_um / slide.mpp)


def spot_features(
    store: StoreView,
    slide: Any,  # noqa: ANN401 - a row of the slides table
    rows: NDArray[np.int64],
    genes: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Make GeoJSON features of some spots of a slide: detections, with expression of genes as measurements.

    Raises
    ------
    MissingGenesError
        If a gene is not in the store.
    MissingPixelSizeError
        If the slide has no pixel size.
    """
    ring, symbols = spot_ring(slide), _symbols(store, genes)
    return _features(store, rows, ring, (None, None, symbols, {})) if len(rows) else []


def _ring(outline: str, width_px: float) -> NDArray[np.float64]:
    """Corners around (0, 0), (c, 2), the first again at the end."""
    if outline == "square":
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * width_px / 2
        return np.asarray(corners, np.float64)
    if outline != "circle":
        msg = f"outline is {outline!r}; expected 'circle' or 'square'."
        raise ValueError(msg)
    angle = np.arange(_CORNERS + 1) % _CORNERS * 2 * np.pi / _CORNERS
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * width_px / 2


def _symbols(store: StoreView, genes: Sequence[str]) -> list[str]:
    """Genes of the store by any of their names."""
    from stamp_index.genes import GeneResolver

    if not genes:
        return []
    found = GeneResolver(store.genes, store.gene_ids).resolve(list(genes))
    return list(dict.fromkeys(found.values()))


def is_square(platform: str, provenance: str) -> bool:
    """Say whether a slide's spots are bins or places of a grid."""
    if platform.lower().startswith("visium hd"):
        return True
    parameters = json.loads(provenance or "{}").get("parameters", {})
    return bool({"bin_um", "grid_um"} & set(parameters))


def _colours(values: pd.Series[Any]) -> dict[str, tuple[int, int, int]]:
    """Colour of each value of a text label; empty for numbers."""
    if values.dtype != object:
        return {}
    names = sorted({str(value) for value in values.dropna()})
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def _features(
    store: StoreView,
    rows: NDArray[np.int64],
    ring: NDArray[np.float64],
    shown: tuple[str | None, pd.Series[Any] | None, list[str], dict[str, tuple[int, int, int]]],
) -> list[dict[str, Any]]:
    label, values, genes, colours = shown
    spots = store.spots(["slide_id", "barcode", "x_px", "y_px", "n_counts", "n_genes"], rows)
    measured = spots[["n_counts", "n_genes"]].astype(float)
    if genes:
        measured[genes] = store.expression(genes, rows).astype(float)
    classes: list[str | None] = [None] * len(rows)
    if values is not None and colours:
        known_values = values.notna()
        classes = [
            str(v) if is_known else None for v, is_known in zip(values, known_values, strict=True)
        ]
    elif label is not None and values is not None:
        measured[label] = values.to_numpy(np.float64, na_value=np.nan)
    corners = np.round(spots[["x_px", "y_px"]].to_numpy()[:, None] + ring, 3)  # (m, c, 2)
    found = []
    for i, said in enumerate(measured.to_dict("records")):
        known = {str(name): value for name, value in said.items() if np.isfinite(value)}
        whose = {"slide_id": spots["slide_id"][i], "barcode": spots["barcode"][i]}
        polygon = {"type": "Polygon", "coordinates": [corners[i].tolist()]}
        one = qupath_feature(
            polygon, "detection", name=spots["barcode"][i], measured=known, said=whose
        )
        text = classes[i]
        if text is not None:
            one["properties"]["classification"] = {"name": text, "color": list(colours[text])}
        found.append(one)
    return found
