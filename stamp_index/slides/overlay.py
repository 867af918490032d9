"""Spots drawn on their tissue, so that a person can see whether they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stamp_index.errors import SlideError
from stamp_index.keys import Keys

if TYPE_CHECKING:
    from stamp_index.slides.slide import Slide

_RING: Final = (0, 200, 60)  # what H&E never is
_INK: Final = (20, 20, 20)
_PAPER: Final = (255, 255, 255, 220)
_MOST_RINGS: Final = 200_000  # beyond, rings cover everything and drawing takes minutes
_BAR_SHARE: Final = 0.25  # of the picture's width, at most


def draw_overlay(slide: Slide, *, max_px: int = 1600) -> Image.Image:
    """Draw a slide's spots on its image, at their true width.

    Parameters
    ----------
    slide : Slide
        With an image.
    max_px : int
        Longer side of the picture, at least 100.

    Returns
    -------
    PIL.Image.Image
        RGB. A ring for each spot, a square for bins and places on a grid; a bar of a round length.

    Raises
    ------
    SlideError
        If the slide has no image, or more than 200,000 spots.
    ImageFormatError
        If its pixels cannot be decoded.
    """
    if slide.image is None or slide.mpp is None:
        msg = (
            f"Slide {slide.slide_id} has no image, so there is nothing to draw its spots on. Give its image "
            "(--image, SlideOptions(image=...) or `image` in slide.toml)."
        )
        raise SlideError(msg)
    if slide.n_spots > _MOST_RINGS:
        msg = (
            f"Slide {slide.slide_id} has {slide.n_spots:,} spots; at most {_MOST_RINGS:,} are drawn. Read it with "
            "wider bins (--bin-um)."
        )
        raise SlideError(msg)
    picture = Image.fromarray(slide.image.overview(max(100, max_px)))
    shrink = picture.width / slide.image.size_px[0]
    pen = ImageDraw.Draw(picture, "RGBA")
    radius = max(1.0, slide.spot_diameter_um / 2 / slide.mpp * shrink)
    draw = pen.rectangle if _is_square(slide) else pen.ellipse
    for x, y in slide.spots[[Keys.X_PX, Keys.Y_PX]].to_numpy() * shrink:
        box = (x - radius, y - radius, x + radius, y + radius)
        draw(box, outline=_RING, width=max(1, round(radius / 5)))
    _write_bar(pen, picture.size, slide.mpp / shrink)
    return picture


def _is_square(slide: Slide) -> bool:
    """Whether places are squares: bins that were pooled, or a grid."""
    return bool({"bin_um", "grid_um"} & set(slide.parameters))


def _write_bar(pen: ImageDraw.ImageDraw, size: tuple[int, int], mpp: float) -> None:
    """Draw a bar of 1, 2 or 5 times a power of ten microns at the lower left."""
    longest_um = size[0] * _BAR_SHARE * mpp
    power = 10.0 ** np.floor(np.log10(longest_um))
    length_um = max(digit * power for digit in (1, 2, 5) if digit * power <= longest_um)
    text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    letters_px = max(12, size[1] // 50)
    font = ImageFont.load_default(size=letters_px)
    left, foot = size[0] // 40, size[1] - size[1] // 40
    high = letters_px + 14
    pen.rectangle((left - 6, foot - high - 6, left + length_um / mpp + 6, foot + 6), fill=_PAPER)
    pen.rectangle((left, foot - 6, left + length_um / mpp, foot), fill=_INK)
    pen.text((left, foot - high - 2), text, fill=_INK, font=font)
