"""Pictures of the app, drawn with Pillow: patches, scale bars, crops, quality checks.

Nothing here knows Streamlit or the store: bytes and arrays in, bytes and arrays out.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stamp_index.export.drawing import round_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

INK = (16, 32, 44)
PAPER = (255, 255, 255)
TISSUE_OD = 0.10  # mean optical density above which a pixel counts as tissue, glass is about 0.03


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
