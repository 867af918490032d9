"""Spots inside a lasso or an annotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.stores import Opened
from stamp_index.view import SpotPlaces, spot_places
from stamp_index.view.shapes import even_odd, points_inside

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon


@dataclass(frozen=True)
class Selection:
    """Spots whose centre lies inside a shape on a slide."""

    slide_id: str
    wkb: bytes  # of the valid shape
    name: str
    rows: NDArray[np.int64]
    others: NDArray[np.int64]  # of the same slide

    def shape(self) -> Polygon | MultiPolygon:
        """The shape itself, in level-0 pixels."""
        import shapely

        found: Polygon | MultiPolygon = shapely.from_wkb(self.wkb)
        return found

    def area_mm2(self, mpp: float) -> float:
        """Area of the shape."""
        return float(self.shape().area) * (mpp / 1000) ** 2


@st.cache_data(max_entries=16, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def places(opened: Opened, slide_id: str) -> SpotPlaces:
    """Places of a slide's spots; kept, as a lasso asks for them again."""
    return spot_places(opened.store, slide_id)


def select(
    opened: Opened, slide_id: str, drawn: Polygon | MultiPolygon, name: str = "Lasso"
) -> Selection:
    """The spots inside a shape; of one that crosses itself, what lies inside by the even-odd rule."""
    import shapely

    held = places(opened, slide_id)
    shape = even_odd(drawn)
    inside = points_inside(shape, held.xy_px)
    wkb: bytes = shapely.to_wkb(shape)
    return Selection(slide_id, wkb, name, held.rows[inside], held.rows[~inside])


def others_of(opened: Opened, slide_id: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The spots of a slide besides some of them."""
    held = places(opened, slide_id).rows
    return held[~np.isin(held, rows)]
