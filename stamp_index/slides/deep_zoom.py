"""Deep zoom: a slide's image as small JPEG tiles at every halving, for viewers.

Levels are numbered as OpenSeadragon does: level 0 is one pixel, the last is the whole image. See the Deep Zoom
format, https://openseadragon.github.io/examples/tilesource-dzi/.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from PIL import Image

from stamp_index.errors import QueryError

if TYPE_CHECKING:
    from stamp_index.slides.images import SlideImage

TILE_PX: Final = 510
OVERLAP_PX: Final = 1  # on every side that has a neighbour; without it browsers show seams
QUALITY: Final = 82


@dataclass(frozen=True)
class DeepZoom:
    """Tiles of an image.

    Attributes
    ----------
    width_px, height_px : int
        Level-0 size of the slide, above 0.
    """

    width_px: int
    height_px: int

    @property
    def max_level(self) -> int:
        """Number of the level that shows level-0 pixels."""
        return math.ceil(math.log2(max(self.width_px, self.height_px)))

    @property
    def tile_px(self) -> int:
        """Width of a tile without its overlap."""
        return TILE_PX

    @property
    def overlap_px(self) -> int:
        """Pixels that a tile shares with each neighbour."""
        return OVERLAP_PX

    def size(self, level: int) -> tuple[int, int]:
        """Width and height of a level in its own pixels."""
        scale = self.scale(level)
        return math.ceil(self.width_px / scale), math.ceil(self.height_px / scale)

    def scale(self, level: int) -> int:
        """Level-0 pixels that one pixel of a level covers.

        Raises
        ------
        QueryError
            If there is no such level.
        """
        if not 0 <= level <= self.max_level:
            msg = f"There is no level {level}; levels are 0 to {self.max_level}."
            raise QueryError(msg)
        scale: int = 1 << (self.max_level - level)
        return scale

    def box(self, level: int, column: int, row: int) -> tuple[int, int, int, int]:
        """Place of a tile in pixels of its level: left, top, right, bottom.

        Raises
        ------
        QueryError
            If there is no such tile.
        """
        width, height = self.size(level)
        columns, rows = math.ceil(width / TILE_PX), math.ceil(height / TILE_PX)
        if not (0 <= column < columns and 0 <= row < rows):
            msg = f"Level {level} has {columns} x {rows} tiles; there is no tile {column}, {row}."
            raise QueryError(msg)
        return (
            max(column * TILE_PX - OVERLAP_PX, 0),
            max(row * TILE_PX - OVERLAP_PX, 0),
            min((column + 1) * TILE_PX + OVERLAP_PX, width),
            min((row + 1) * TILE_PX + OVERLAP_PX, height),
        )

    def tile(self, image: SlideImage, level: int, column: int, row: int) -> bytes:
        """JPEG of a tile.

        Parameters
        ----------
        image : SlideImage
            The slide, or a smaller picture of the whole of it, which is enlarged.
        level, column, row : int

        Raises
        ------
        QueryError
            If there is no such tile.
        ImageFormatError
            If the image cannot be decoded there.
        """
        left, top, right, bottom = self.box(level, column, row)
        scale = self.scale(level)
        out = right - left, bottom - top
        held_px = image.size_px
        shrink_x, shrink_y = held_px[0] / self.width_px, held_px[1] / self.height_px
        pixels = image.read_box(
            left * scale * shrink_x,
            top * scale * shrink_y,
            (out[0] * scale * shrink_x, out[1] * scale * shrink_y),
            out,
        )
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
        return stream.getvalue()
