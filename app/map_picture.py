"""A gene over a slide: its places coloured on the slide's picture, with colour bar and scale bar.

Nothing here knows Streamlit or the store: arrays and bytes in, bytes out.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app import drawing
from app.drawing import INK, PAPER

if TYPE_CHECKING:
    from numpy.typing import NDArray

FADE = 0.62  # how much of the tissue's picture gives way to white, so that colours stand out
LOW, HIGH = 0.01, 0.99  # quantiles at the ends of the colours: one place must not take them all
OVERSAMPLE = 2  # Pillow draws circles without smoothing
UNIT = "log1p CP10K"


@dataclass(frozen=True)
class Places:
    """Places of a slide with a value each."""

    xy: NDArray[np.float64]  # (n, 2), shares of the picture's width and height
    values: NDArray[np.float64]  # (n,); NaN is not drawn
    spacing: float  # between neighbours, as a share of the picture's width


def colour_range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Values at the two ends of the colours; apart from each other even where all are the same."""
    known = values[np.isfinite(values)]
    low, high = (float(v) for v in np.quantile(known, (LOW, HIGH))) if len(known) else (0.0, 1.0)
    return (low, high) if high - low > 1e-6 else (low, low + 1.0)


def colours(values: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.uint8]:
    """RGB (n, 3) of values: viridis, which is read in grey and by the colour-blind too."""
    from matplotlib import colormaps

    share = np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)
    return (colormaps["viridis"](share)[:, :3] * 255).round().astype(np.uint8)


def map_picture(jpeg: bytes, places: Places, *, title: str, bar: tuple[float, str]) -> bytes:
    """JPEG of a slide with coloured places, `title` and a colour bar under it, and a scale bar.

    Parameters
    ----------
    jpeg : bytes
        The slide, or a part of it.
    places : Places
        Where values are known.
    title : str
        Stands in the picture, so that it goes where the picture goes.
    bar : (float, str)
        Scale bar: length as a share of the width, and label.
    """
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as stored:
        picture = stored.convert("RGB")
    picture = Image.blend(picture.convert("L").convert("RGB"), _white(picture.size), FADE)
    ends = colour_range(places.values)
    _draw_places(picture, places, ends)
    foot = _legend(picture.width, ends, title)
    drawing.draw_scale_bar(foot, bar)  # there, as it would hide places
    whole = _white((picture.width, picture.height + foot.height))
    whole.paste(picture, (0, 0))
    whole.paste(foot, (0, picture.height))
    return drawing.to_jpeg(whole)


def _white(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, PAPER)


def _draw_places(picture: Image.Image, places: Places, ends: tuple[float, float]) -> None:
    known = np.isfinite(places.values)
    size = np.array(picture.size) * OVERSAMPLE
    centres = places.xy[known] * size
    radius = max(places.spacing * size[0] * 0.45, 1.5)
    layer = picture.resize(size.tolist(), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(layer)
    for (x, y), colour in zip(
        centres.tolist(), colours(places.values[known], ends).tolist(), strict=True
    ):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colour))
    picture.paste(layer.resize(picture.size, Image.Resampling.BOX))


def _legend(width: int, ends: tuple[float, float], title: str) -> Image.Image:
    """White strip with the title, and colours from low to high with their values."""
    size = max(13, round(width / 26))
    font = ImageFont.load_default(size=size)
    pad = round(size * 0.5)
    foot = _white((width, round(size * 6.4)))
    pen = ImageDraw.Draw(foot)
    while pen.textlength(title, font=font) > width - 2 * pad and font.size > 8:
        font = ImageFont.load_default(size=font.size - 1)
    pen.text((pad, pad * 0.6), title, fill=INK, font=font)
    font = ImageFont.load_default(size=size)
    low, high = f"{ends[0]:.1f}", f"{ends[1]:.1f} {UNIT}"
    top = round(size * 1.9)
    pen.text((pad, top), low, fill=INK, font=font)
    left = round(pad * 2 + pen.textlength(low, font=font))
    right = round(width - pad * 2 - pen.textlength(high, font=font))
    pen.text((right + pad, top), high, fill=INK, font=font)
    if right - left > 2:
        steps = np.linspace(*ends, right - left)
        strip = np.repeat(colours(steps, ends)[None], size, axis=0)
        foot.paste(Image.fromarray(strip), (left, top + round(size * 0.12)))
    return foot
