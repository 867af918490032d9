"""A slide's picture: its image where the file can be read, else the overview that the store keeps."""

from __future__ import annotations

import io
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from stamp_index.errors import QueryError, StampIndexError
from stamp_index.slides import ArrayImage, SlideImage, open_image
from stamp_index.slides.deep_zoom import DeepZoom

if TYPE_CHECKING:
    import pandas as pd

    from stamp_index.store.view import StoreView

_log = logging.getLogger(__name__)


def geometry(slide: pd.Series[Any]) -> DeepZoom | None:
    """Size of a slide's picture as tiles; None where neither image nor overview is known.

    Parameters
    ----------
    slide : Series
        A row of ``store.slides()``.
    """
    width, height = float(slide["width_px"]), float(slide["height_px"])
    if not (math.isfinite(width) and math.isfinite(height) and width >= 1 and height >= 1):
        return None
    return DeepZoom(int(width), int(height))


def slide_picture(store: StoreView, slide: pd.Series[Any]) -> SlideImage:
    """Open the slide's image where its file can be read and still has the slide's size, else its stored overview.

    Parameters
    ----------
    store : Store
    slide : Series
        A row of ``store.slides()``.

    Returns
    -------
    SlideImage
        A stored overview has the `uri` "", and fewer pixels than the slide (see `is_whole`).

    Raises
    ------
    QueryError
        If no overview is stored either.
    """
    slide_id, uri = str(slide["slide_id"]), str(slide["image_uri"] or "")
    if uri:
        try:
            image = open_image(uri)
            if geometry(slide) == DeepZoom(*image.size_px):
                return image
            _log.warning("%s has another size than when slide %s was added", uri, slide_id)
        except StampIndexError as error:
            _log.warning("slide %s is shown by its overview: %s", slide_id, error)
    stored = store.overview(slide_id)
    if stored is None:
        msg = f"The file of slide {slide_id} cannot be read, and no overview of it is stored."
        raise QueryError(msg)
    with Image.open(io.BytesIO(stored), formats=["JPEG"]) as picture:
        return ArrayImage(np.asarray(picture.convert("RGB")), uri="")


def is_whole(picture: SlideImage) -> bool:
    """Whether a picture of `slide_picture` holds the slide's own pixels, and is not its overview enlarged."""
    return picture.uri != ""
