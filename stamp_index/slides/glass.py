"""The colour of bare glass at every place of a slide, so that stains can be told from it.

Glass is seldom white: it may be grey, tinted by the lamp, or pink where eosin ran over it. Such a tint changes
slowly over millimetres and has no texture, which tissue has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELL_UM: Final = 32.0  # glass is looked for in squares of this width
# Mean of the local standard deviation over a square, as a share of its brightness. Measured on 20 slides at
# 8 um/px: glass 0.001 to 0.005 (median of a slide), tissue 0.03 to 0.1.
MAX_TEXTURE: Final = 0.015
_VOTERS: Final = 3  # squares of a neighbourhood's side
_VOTES: Final = 0.6  # share of even squares around; single even squares also lie in pale tissue
_MIN_SHARE: Final = 0.01  # of all squares; less is no glass to go by
MAX_SATURATION: Final = 0.2  # eosin on glass reaches 0.17; pale pink tissue begins near it
MIN_BRIGHTNESS: Final = 0.7  # of the slide's brightest glass
_REACH_UM: Final = (150.0, 1000.0)  # how far a square tells its neighbours about the glass
_WIDE_UM: Final = (2000.0,)
MIN_RED: Final = 0.96  # of the glass around: pale layers of the brain reach 0.94
_ROUNDS: Final = 4
_ENOUGH: Final = 1e-3  # weight below which nothing is known


@dataclass(frozen=True)
class Balanced:
    """A slide divided by the colour of its glass.

    Attributes
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        255 where the light passed as through glass.
    even : ndarray of shape (h, w), bool
        Pale places without texture: glass, and shadows on it.
    has_glass : bool
        Where there is none, the image was divided by its brightest grey.
    """

    pixels: NDArray[np.uint8]
    even: NDArray[np.bool_]
    has_glass: bool


def balance(pixels: NDArray[np.uint8], painted: NDArray[np.bool_], mpp: float) -> Balanced:
    """Divide an image by the colour of its glass, so that glass becomes white.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        RGB at some 8 um/px.
    painted : ndarray of shape (h, w), bool
        Pixels that no microscope saw.
    mpp : float
        Microns per pixel.

    Returns
    -------
    Balanced
    """
    cell = max(1, round(CELL_UM / mpp))
    colour, even = _even_cells(pixels, painted, cell)
    is_glass = _glass_like(colour, even)
    if is_glass.any():
        is_glass = _without_haematoxylin(colour, is_glass, cell * mpp)
        surface = _spread(colour, is_glass, cell * mpp)
    else:
        seen = pixels[::4, ::4][~painted[::4, ::4]]
        lightest = float(np.percentile(seen.max(axis=1), 99)) if len(seen) else 255.0
        surface = np.full_like(colour, max(lightest, 1.0))
    balanced = np.empty_like(pixels)
    height, width = painted.shape
    box = (0.0, 0.0, width / cell, height / cell)  # the last squares may reach over the edge
    for channel in range(3):
        small = Image.fromarray(np.ascontiguousarray(surface[:, :, channel]))
        glass = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR, box=box))
        light = pixels[:, :, channel] * (np.float32(255.0) / np.maximum(glass, 1.0))
        balanced[:, :, channel] = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    balanced[painted] = 255
    even_px = even.repeat(cell, axis=0)[:height].repeat(cell, axis=1)[:, :width]
    return Balanced(balanced, even_px, bool(is_glass.any()))


def saturation(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return 1 - min / max of the three channels, shape (h, w); 0 for black."""
    low, high = darkest(pixels), brightest(pixels)
    return np.asarray((high - low) / np.maximum(high, 1), dtype=np.float32)


def darkest(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Smallest of the three channels, shape (h, w); ten times as fast as `min` over three."""
    return np.minimum(np.minimum(pixels[:, :, 0], pixels[:, :, 1]), pixels[:, :, 2])


def brightest(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Largest of the three channels, shape (h, w)."""
    return np.maximum(np.maximum(pixels[:, :, 0], pixels[:, :, 1]), pixels[:, :, 2])


def grey(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean of the three channels, shape (h, w)."""
    total = pixels[:, :, 0] + np.float32(0)
    total += pixels[:, :, 1]
    total += pixels[:, :, 2]
    return total / np.float32(3)


def _even_cells(
    pixels: NDArray[np.uint8], painted: NDArray[np.bool_], cell: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return mean colour (r, c, 3) of squares of `cell` pixels, and which are pale and without texture."""
    from scipy.ndimage import uniform_filter

    light = grey(pixels)
    spread = uniform_filter(light**2, 3) - uniform_filter(light, 3) ** 2
    colour = np.stack([_cell_means(pixels[:, :, c], cell) for c in range(3)], axis=2)
    texture = _cell_means(np.sqrt(np.maximum(spread, 0)), cell)
    clean = _cell_means(painted, cell) == 0
    low, high = colour.min(axis=2), np.maximum(colour.max(axis=2), 1.0)
    return colour, clean & (texture <= MAX_TEXTURE * high) & (1 - low / high <= MAX_SATURATION)


def _glass_like(colour: NDArray[np.float32], even: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep even squares among their like that are about as bright as the brightest glass."""
    from scipy.ndimage import uniform_filter

    votes = uniform_filter(even.astype(np.float32), _VOTERS, mode="nearest")
    among = even & (votes >= _VOTES)
    if among.mean() < _MIN_SHARE:
        return np.zeros_like(even)
    low = colour.min(axis=2)
    return np.asarray(among & (low >= MIN_BRIGHTNESS * np.percentile(low[among], 95)))


def _without_haematoxylin(
    colour: NDArray[np.float32], is_glass: NDArray[np.bool_], cell_um: float
) -> NDArray[np.bool_]:
    """Drop squares that let less red through than their surroundings, as pale, even tissue does.

    Eosin that ran over the glass takes green and leaves red.
    """
    for _ in range(_ROUNDS):
        red = _spread(colour[:, :, :1], is_glass, cell_um, _WIDE_UM)[:, :, 0]
        kept = is_glass & (colour[:, :, 0] >= MIN_RED * red)
        if not kept.any() or np.array_equal(kept, is_glass):
            break
        is_glass = kept
    return is_glass


def _cell_means(values: NDArray[np.generic], cell: int) -> NDArray[np.float32]:
    """Means over squares of `cell` pixels; those at the right and lower edge over what there is."""
    height, width = values.shape
    rows, columns = np.arange(0, height, cell), np.arange(0, width, cell)
    sums = np.add.reduceat(values, rows, axis=0, dtype=np.float64)
    sums = np.add.reduceat(sums, columns, axis=1)
    heights, widths = np.diff([*rows, height]), np.diff([*columns, width])
    return np.asarray(sums / np.outer(heights, widths), dtype=np.float32)


def _spread(
    colour: NDArray[np.float32],
    is_glass: NDArray[np.bool_],
    cell_um: float,
    reaches_um: tuple[float, ...] = _REACH_UM,
) -> NDArray[np.float32]:
    """Carry the colour of glass to where there is none: the nearest wins, then the slide's median."""
    from scipy.ndimage import gaussian_filter

    surface = np.empty_like(colour)
    surface[:] = np.median(colour[is_glass], axis=0)
    for reach in reversed(reaches_um):
        sigma = reach / cell_um
        weight = gaussian_filter(is_glass.astype(np.float32), sigma)
        share = weight / (weight + _ENOUGH)
        for channel in range(colour.shape[2]):
            known = gaussian_filter(np.where(is_glass, colour[:, :, channel], 0), sigma)
            mean = known / np.maximum(weight, 1e-12)
            surface[:, :, channel] += share * (mean - surface[:, :, channel])
    return surface
