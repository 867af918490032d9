"""Spots inside a polygon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.stores import Opened
from stamp_index.view import SpotPlaces, spot_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.viewer import Polygon


@dataclass(frozen=True)
class Selection:
    """Spots whose centre lies inside a polygon on a slide."""

    slide_id: str
    polygon: Polygon
    rows: NDArray[np.int64]
    others: NDArray[np.int64]  # of the same slide
    area_px: float

    def area_mm2(self, mpp: float) -> float:
        """Area of the polygon."""
        return self.area_px * (mpp / 1000) ** 2


@st.cache_data(max_entries=16, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def places(opened: Opened, slide_id: str) -> SpotPlaces:
    """Places of a slide's spots; kept, as a lasso asks for them again."""
    return spot_places(opened.store, slide_id)


def select(opened: Opened, slide_id: str, polygon: Polygon) -> Selection:
    """The spots inside a polygon; of one that crosses itself, what lies inside by the even-odd rule."""
    import shapely

    held = places(opened, slide_id)
    shape = shapely.make_valid(shapely.Polygon(polygon))
    shapely.prepare(shape)
    inside = shapely.contains_xy(shape, held.xy_px[:, 0], held.xy_px[:, 1])
    return Selection(slide_id, polygon, held.rows[inside], held.rows[~inside], float(shape.area))


def others_of(opened: Opened, slide_id: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The spots of a slide besides some of them."""
    held = places(opened, slide_id).rows
    return held[~np.isin(held, rows)]
