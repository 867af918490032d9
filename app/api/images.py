"""Slide images that are open for tiles, and the overview where a slide's file cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.api.answers import NotThereError
from stamp_index.errors import QueryError
from stamp_index.search.kept import Kept
from stamp_index.view import pictures

if TYPE_CHECKING:
    from app.stores import Opened
    from stamp_index.slides import SlideImage
    from stamp_index.slides.deep_zoom import DeepZoom

MAX_OPEN = 4
MAX_DECODED_BYTES = 16 * 1024 * 1024  # of each image
MAX_TILE_BYTES = 32 * 1024 * 1024  # some 600 tiles as JPEG

_images: Kept[SlideImage] = Kept(MAX_OPEN)
_tiles: Kept[bytes] = Kept(MAX_TILE_BYTES, len)


def geometry(opened: Opened, slide_id: str) -> DeepZoom | None:
    """Size of a slide's picture as tiles; None where neither image nor overview is known."""
    return pictures.geometry(opened.slides.loc[slide_id])


def tile(opened: Opened, slide_id: str, place: tuple[int, int, int]) -> bytes:
    """JPEG of a slide's tile at (level, column, row).

    Raises
    ------
    NotThereError
        If the slide has no picture.
    QueryError
        If it has no such tile.
    """
    zoom = geometry(opened, slide_id)
    if zoom is None:
        msg = f"Slide {slide_id} has no picture."
        raise NotThereError(msg)
    zoom.box(*place)  # raises where there is no such tile, before anything is opened
    key = (*opened.key, slide_id, place)
    return _tiles.get(key, lambda: zoom.tile(image_of(opened, slide_id), *place))


def image_of(opened: Opened, slide_id: str) -> SlideImage:
    """The slide's image where its file can be read and has the slide's size, else its stored overview.

    Raises
    ------
    NotThereError
        If there is no overview either.
    """
    return _images.get((*opened.key, slide_id), lambda: _open(opened, slide_id))


def is_whole(opened: Opened, slide_id: str) -> bool:
    """Whether tiles show the slide's own pixels, and not its overview enlarged."""
    try:
        return pictures.is_whole(image_of(opened, slide_id))
    except NotThereError:
        return False


def _open(opened: Opened, slide_id: str) -> SlideImage:
    try:
        return pictures.slide_picture(opened.store, opened.slides.loc[slide_id])
    except QueryError as error:
        raise NotThereError(str(error)) from error
