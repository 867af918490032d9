"""A slide's picture: its image where the file can be read, else the overview that the store keeps."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from stamp_index.errors import ImageFormatError, QueryError, StampIndexError
from stamp_index.slides import ArrayImage, SlideImage, safe_open
from stamp_index.slides.deep_zoom import DeepZoom
from stamp_index.slides.stored import open_stored

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
    """Open the slide's image where it is still the slide's own (`open_stored`), else its stored overview.

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
        If no overview is stored either, or it is no picture.
    """
    slide_id, uri = str(slide["slide_id"]), str(slide["image_uri"] or "")
    stored, zoom = store.overview(slide_id), geometry(slide)
    if uri and zoom is not None:
        try:
            return open_stored(uri, (zoom.width_px, zoom.height_px), stored, store.place.full_name)
        except StampIndexError as error:
            _log.warning("slide %s is shown by its overview: %s", slide_id, error)
    if stored is None:
        msg = f"The file of slide {slide_id} cannot be read, and no overview of it is stored."
        raise QueryError(msg)
    try:
        return ArrayImage(safe_open(stored), uri="")
    except ImageFormatError as error:
        msg = f"The stored overview of slide {slide_id} is no picture: {error}"
        raise QueryError(msg) from error


def is_whole(picture: SlideImage) -> bool:
    """Whether a picture of `slide_picture` holds the slide's own pixels, and is not its overview enlarged."""
    return picture.uri != ""
