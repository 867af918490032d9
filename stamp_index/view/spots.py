"""Places of a slide's spots."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.export.qupath import is_square

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.slides import Slide
    from stamp_index.store.view import StoreView


UNKNOWN_SHARE: Final = 0.55  # of the pitch, as in Visium (55 of 100 um), where no diameter is known


@dataclass(frozen=True, eq=False)
class SpotPlaces:
    """Where the spots of a slide lie.

    Attributes
    ----------
    slide_id : str
    rows : ndarray of shape (n,), int64
        Row ids of the store.
    xy_px : ndarray of shape (n, 2), float32
        Centres in level-0 pixels.
    diameter_px : float
        Of the area that one spot captures, in level-0 pixels.
    shape : {"circle", "square"}
        Square for bins and for places of a grid.
    """

    slide_id: str
    rows: NDArray[np.int64]
    xy_px: NDArray[np.float32]
    diameter_px: float
    shape: Literal["circle", "square"]


def spot_places(store: StoreView, slide_id: str) -> SpotPlaces:
    """Read the places of a slide's spots.

    Raises
    ------
    QueryError
        If there is no such slide.
    """
    rows = rows_of_slide(store, slide_id)
    xy = store.spots(["x_px", "y_px"], rows).to_numpy(np.float32)
    slides = store.slides()
    slide = slides[slides["slide_id"] == slide_id].iloc[0].to_dict()
    diameter = float(slide["spot_diameter_um"]) / float(slide["mpp"])
    if not math.isfinite(diameter):
        diameter = _spacing(xy) * UNKNOWN_SHARE
    square = is_square(str(slide["platform"]), str(slide["provenance"]))
    return SpotPlaces(slide_id, rows, xy, diameter, "square" if square else "circle")


def places_on(slide: Slide) -> SpotPlaces:
    """Places of a slide that was read from its files; its rows count from 0."""
    xy = slide.xy_px.astype(np.float32)
    diameter = slide.spot_diameter_um / slide.mpp if slide.mpp else math.nan
    if not math.isfinite(diameter):
        diameter = _spacing(xy) * UNKNOWN_SHARE
    square = is_square(slide.platform, json.dumps({"parameters": dict(slide.parameters)}))
    rows = np.arange(slide.n_spots, dtype=np.int64)
    return SpotPlaces(slide.slide_id, rows, xy, diameter, "square" if square else "circle")


def rows_of_slide(store: StoreView, slide_id: str) -> NDArray[np.int64]:
    """Row ids of a slide's spots, in their order.

    Raises
    ------
    QueryError
        If there is no such slide.
    """
    slides = store.slides()
    here = slides[slides["slide_id"] == slide_id]
    if here.empty:
        msg = f"There is no slide '{slide_id}' in the store; it has {', '.join(slides['slide_id']) or 'none'}."
        raise QueryError(msg)
    first, n = int(here["first_spot"].iloc[0]), int(here["n_spots"].iloc[0])
    return np.arange(first, first + n, dtype=np.int64)


def _spacing(xy: NDArray[np.float32]) -> float:
    """Median distance to the nearest neighbour; 100 for a single spot."""
    from scipy.spatial import cKDTree

    if len(xy) < 2:
        return 100.0
    away = np.asarray(cKDTree(xy).query(xy, k=2)[0])
    return float(np.median(away[:, 1]))
