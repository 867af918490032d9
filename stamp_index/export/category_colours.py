"""Colours of categories, the same as in the viewer (`categoryColour` of its colours.js).

The first seven are those of Okabe and Ito (2008), "Color Universal Design", https://jfly.uni-koeln.de/color/, in their
order and without black, which is the ink of outlines: colour-blind people tell them apart. Later ones have hues a golden
angle (137.508 degrees) apart in three lightnesses, so that neighbours in the order are unlike each other.
"""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CATEGORIES: Final = 200  # more are not told apart, by colour or by name
_OKABE_ITO: Final = ("e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7")
_GOLDEN_ANGLE: Final = 137.508  # degrees
_LIGHTNESS: Final = (0.42, 0.62, 0.3)
_SATURATION: Final = 0.7


def category_colours(n: int) -> NDArray[np.uint8]:
    """Red, green and blue of the first `n` categories.

    Returns
    -------
    ndarray of shape (n, 3), uint8
    """
    return np.array([_colour(i) for i in range(n)], np.uint8).reshape(n, 3)


def _colour(i: int) -> tuple[int, ...]:
    if i < len(_OKABE_ITO):
        return tuple(bytes.fromhex(_OKABE_ITO[i]))
    hue = i * _GOLDEN_ANGLE % 360 / 360
    channels = colorsys.hls_to_rgb(hue, _LIGHTNESS[i % 3], _SATURATION)
    return tuple(math.floor(255 * channel + 0.5) for channel in channels)  # as JavaScript rounds
