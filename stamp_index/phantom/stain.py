"""From two dyes to a scanner's RGB: Beer-Lambert, white balance, tone curve, noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.phantom.style import ScanStyle

H_FULL = 1.30
"""Optical concentration of haematoxylin at level 255 of its map."""
E_FULL = 0.95
"""Optical concentration of eosin at level 255 of its map."""
_STRIP = 512


def colour_table(style: ScanStyle) -> NDArray[np.uint8]:
    """Colour of every pair of dye levels.

    Parameters
    ----------
    style : ScanStyle
        Stain vectors, strengths and scanner.

    Returns
    -------
    ndarray of shape (65536, 3), uint8
        Row 256 * h + e is the RGB of haematoxylin level h and eosin level e.

    Notes
    -----
    Beer-Lambert: I = I0 * 10 ** -(sum of concentration * vector), Ruifrok & Johnston 2001.
    Above eosin level 205 the pigment turns to that of red cells, which absorb blue as well.
    """
    h = np.arange(256, dtype=np.float64)[:, None, None] / 255 * H_FULL * style.h_gain
    level = np.arange(256, dtype=np.float64)[None, :, None] / 255
    e = level * E_FULL * style.e_gain
    blood = np.clip((level - 0.80) / 0.12, 0, 1) * 0.34
    density = h * np.array(style.haematoxylin) + e * np.array(style.eosin)
    density = density + blood * np.array([0.05, 0.35, 0.94])
    shown = np.array(style.white) * (10.0 ** (-density)) ** style.gamma
    table: NDArray[np.uint8] = np.clip(np.rint(shown), 0, 255).astype(np.uint8).reshape(-1, 3)
    return table


def develop(
    h_map: NDArray[np.uint8],
    e_map: NDArray[np.uint8],
    style: ScanStyle,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Turn dye maps into the picture that the scanner saves.

    Parameters
    ----------
    h_map, e_map : ndarray of shape (h, w), uint8
        Levels of haematoxylin and eosin.
    style : ScanStyle
        Stain and scanner.
    rng : numpy.random.Generator
        Source of the sensor noise.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB.
    """
    table = colour_table(style)
    height, width = h_map.shape
    out = np.empty((height, width, 3), dtype=np.uint8)
    grain = rng.normal(0, style.noise, (_STRIP + 64, width + 64, 3)).astype(np.int8)
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        index = h_map[rows].astype(np.uint16) << 8
        index |= e_map[rows]
        strip = table.take(index, axis=0).astype(np.int16)
        dy, dx = rng.integers(0, 64, 2)
        strip += grain[dy : dy + strip.shape[0], dx : dx + width]
        np.clip(strip, 0, 255, out=strip)
        out[rows] = strip
    return out
