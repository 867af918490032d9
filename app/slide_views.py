"""One slide as the app shows it: its stored overview, cut to where the spots are."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import streamlit as st
from PIL import Image

from app import drawing
from app.stores import Opened

MARGIN = 0.06  # around the spots, as a share of the longer side
LONGER_PX = 720


@dataclass(frozen=True)
class SlideView:
    """Part of a slide that holds its spots, and the way between it and level-0 pixels."""

    slide_id: str
    jpeg: bytes
    left_px: float
    top_px: float
    width_px: float
    height_px: float
    mpp: float | None

    def share(self, x_px: float, y_px: float) -> tuple[float, float]:
        """Place of a level-0 pixel as shares of the view's width and height."""
        return (x_px - self.left_px) / self.width_px, (y_px - self.top_px) / self.height_px

    def level0(self, at: tuple[float, float]) -> tuple[float, float]:
        """Inverse of `share`."""
        return self.left_px + at[0] * self.width_px, self.top_px + at[1] * self.height_px

    def bar(self) -> tuple[float, str]:
        """Scale bar: length as a share of the width, and label."""
        if self.mpp is not None:
            return drawing.scale_bar(self.width_px * self.mpp)
        length = drawing.round_length(self.width_px * 0.3)
        return length / self.width_px, f"{length:g} px"


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def slide_view(opened: Opened, slide_id: str) -> SlideView | None:
    """The view of a slide; None where the store keeps no overview of it."""
    stored = opened.store.overview(slide_id)
    slide = opened.slides.loc[slide_id]
    if stored is None or not math.isfinite(slide["width_px"]):
        return None
    first = int(slide["first_spot"])
    rows = np.arange(first, first + int(slide["n_spots"]))
    xy = opened.store.spots(["x_px", "y_px"], rows=rows).to_numpy()
    size = np.array([slide["width_px"], slide["height_px"]], dtype=float)
    margin = MARGIN * float(size.max())
    low = np.clip(np.floor(xy.min(axis=0) - margin), 0, size)
    high = np.clip(np.ceil(xy.max(axis=0) + margin), 0, size)
    with Image.open(io.BytesIO(stored), formats=["JPEG"]) as whole:
        shrink = np.array(whole.size) / size  # overview pixels per level-0 pixel
        part = whole.convert("RGB").crop([round(v) for v in (*low * shrink, *high * shrink)])
    grow = LONGER_PX / max(part.size)
    part = part.resize([max(1, round(side * grow)) for side in part.size], Image.Resampling.LANCZOS)
    mpp = float(slide["mpp"]) if math.isfinite(slide["mpp"]) else None
    jpeg = drawing.to_jpeg(part)
    return SlideView(slide_id, jpeg, *low.tolist(), *(high - low).tolist(), mpp)
