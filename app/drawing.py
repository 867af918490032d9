"""Pictures of the app, drawn with Pillow: overview with rings, scale bars, crops, quality checks.

Nothing here knows Streamlit or the store: bytes and arrays in, bytes and arrays out.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

INK = (16, 32, 44)
PAPER = (255, 255, 255)
RING = (0, 122, 255)  # blue stands out on haematoxylin and eosin, also for the colour-blind
TISSUE_OD = 0.10  # mean optical density above which a pixel counts as tissue, glass is about 0.03


@dataclass(frozen=True)
class Mark:
    """A place to mark. Its unit is the caller's: level-0 pixels, or shares of a picture."""

    x: float
    y: float
    label: str = ""


def round_length(longest_um: float) -> float:
    """Longest of 1, 2, 5 times a power of ten that is not longer than `longest_um`."""
    if not math.isfinite(longest_um) or longest_um <= 0:
        msg = f"A scale bar needs a positive length, got {longest_um}."
        raise ValueError(msg)
    power = 10.0 ** math.floor(math.log10(longest_um))
    for digit in (5.0, 2.0):
        if digit * power <= longest_um * (1 + 1e-9):
            return digit * power
    return power


def length_text(length_um: float) -> str:
    """A length for a person: microns up to 999, then millimetres."""
    return f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"


def scale_bar(width_um: float, *, share: float = 0.34) -> tuple[float, str]:
    """Length of a bar as a share of a picture `width_um` wide, and its label."""
    length_um = round_length(width_um * share)
    return length_um / width_um, length_text(length_um)


def to_jpeg(image: Image.Image | NDArray[np.uint8], *, quality: int = 88) -> bytes:
    """JPEG bytes of a picture."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def data_uri(jpeg: bytes) -> str:
    """Address that carries a JPEG inside itself, so that nothing is fetched for it.

    Pictures that are handed to Streamlit as bytes are files which it forgets as soon as the script
    has run again; a browser that is slower than that shows a gap.
    """
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def enlarge(jpeg: bytes, side_px: int) -> Image.Image:
    """A stored thumbnail at another size."""
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
        return picture.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS)


def draw_scale_bar(picture: Image.Image, bar: tuple[float, str]) -> None:
    """Draw a bar, given as a share of the width and a label, at the lower left."""
    width, height = picture.size
    bar_px, text = bar[0] * width, bar[1]
    pen = ImageDraw.Draw(picture, "RGBA")
    size = max(11, round(width / 22))
    font = ImageFont.load_default(size=size)
    pad, thick = round(size * 0.5), max(3, round(size / 5))
    box_w = max(bar_px, pen.textlength(text.replace("µ", "u"), font=font)) + 2 * pad
    box_h = size * 1.25 + thick + 1.7 * pad
    left, bottom = pad, height - pad
    pen.rounded_rectangle(
        (left, bottom - box_h, left + box_w, bottom), radius=pad / 2, fill=(*PAPER, 225)
    )
    _write(pen, text, at=(left + pad, bottom - box_h + pad * 0.45), size=size)
    bar_y = bottom - pad * 0.8
    pen.rectangle((left + pad, bar_y - thick, left + pad + bar_px, bar_y), fill=INK)


def _write(pen: ImageDraw.ImageDraw, text: str, *, at: tuple[float, float], size: int) -> None:
    """Write text whose µ is drawn as a u with a tail: Pillow's own font has no µ."""
    font = ImageFont.load_default(size=size)
    pen.text(at, text.replace("µ", "u"), fill=INK, font=font)
    place = text.find("µ")
    if place < 0:
        return
    left, _, _, foot = pen.textbbox(
        (at[0] + pen.textlength(text[:place], font=font), at[1]), "u", font
    )
    stem = max(1, round(size * 0.09))
    pen.rectangle((left, foot - size * 0.2, left + stem - 1, foot + size * 0.2), fill=INK)


def patch_picture(jpeg: bytes, *, width_um: float, side_px: int = 336) -> bytes:
    """A patch at display size with its scale bar."""
    picture = enlarge(jpeg, side_px)
    draw_scale_bar(picture, scale_bar(width_um))
    return to_jpeg(picture)


def marked_picture(
    jpeg: bytes, *, mark: Mark, others: Sequence[Mark], bar: tuple[float, str]
) -> bytes:
    """A slide with a ring and label at `mark`, a dot at each of `others`, and a scale bar.

    Parameters
    ----------
    jpeg : bytes
        The slide, or a part of it.
    mark, others : Mark, sequence of Mark
        Places as shares of the picture's width and height.
    bar : (float, str)
        Scale bar: length as a share of the width, and label.
    """
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as stored:
        picture = stored.convert("RGB")
    pen = ImageDraw.Draw(picture, "RGBA")
    radius = max(9.0, picture.width / 40)
    for other in others:
        _dot(pen, other.x * picture.width, other.y * picture.height, radius * 0.34)
    _ring(pen, mark.x * picture.width, mark.y * picture.height, radius)
    if mark.label:
        _tag(pen, mark, radius=radius, size=picture.size)
    draw_scale_bar(picture, bar)
    return to_jpeg(picture)


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    pen.ellipse(
        (x - radius, y - radius, x + radius, y + radius),
        fill=(*RING, 220),
        outline=(*PAPER, 255),
        width=2,
    )


def _ring(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    line = max(3, round(radius / 4))
    for grow, colour, width in ((line * 0.6, PAPER, line * 2), (0.0, RING, line)):
        r = radius + grow
        pen.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=round(width))


def _tag(pen: ImageDraw.ImageDraw, mark: Mark, *, radius: float, size: tuple[int, int]) -> None:
    font = ImageFont.load_default(size=max(12, round(size[0] / 24)))
    x, y = mark.x * size[0], mark.y * size[1]
    left, top, right, bottom = pen.textbbox((0, 0), mark.label, font=font)
    wide, high, pad = right - left, bottom - top, 5
    at_x = x + radius * 1.6
    if at_x + wide + 2 * pad > size[0]:  # no room to the right: the label goes to the left
        at_x = x - radius * 1.6 - wide - 2 * pad
    at_y = min(max(y - high / 2 - pad, 0), size[1] - high - 2 * pad)
    pen.rounded_rectangle(
        (at_x, at_y, at_x + wide + 2 * pad, at_y + high + 2 * pad), radius=4, fill=(*RING, 255)
    )
    pen.text((at_x + pad - left, at_y + pad - top), mark.label, fill=PAPER, font=font)


def square_crop(
    image: NDArray[np.uint8], *, centre: tuple[float, float], side_px: int
) -> NDArray[np.uint8]:
    """Square of `side_px` around `centre` (x, y), pushed inside the image where it sticks out."""
    height, width = image.shape[:2]
    if side_px > min(height, width):
        msg = f"A crop {side_px} px wide does not fit an image of {width} x {height} px."
        raise ValueError(msg)
    left = min(max(round(centre[0] - side_px / 2), 0), width - side_px)
    top = min(max(round(centre[1] - side_px / 2), 0), height - side_px)
    return image[top : top + side_px, left : left + side_px]


def tissue_share(image: NDArray[np.uint8]) -> float:
    """Share of pixels that absorb light, in [0, 1]; glass and blank paper give about 0."""
    density = -np.log10((image.astype(np.float32) + 1.0) / 256.0).mean(axis=2)
    return float((density > TISSUE_OD).mean())


def contrast(image: NDArray[np.uint8]) -> float:
    """Standard deviation of the grey values; a picture of one colour gives 0."""
    return float(image.astype(np.float32).mean(axis=2).std())


def png_uri(png: bytes) -> str:
    """Address that carries a PNG inside itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
