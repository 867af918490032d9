"""Variation of training images: the eight symmetries of a square, and stain."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Optical densities of haematoxylin, eosin and DAB per RGB channel (Ruifrok & Johnston 2001; scikit-image's
# ``rgb_from_hed``). The third direction stands for what is neither.
_RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def turn(grid: NDArray[np.generic], which: int) -> NDArray[np.generic]:
    """One of the eight symmetries of a square, on (b, h, w, ...)."""
    turned = np.rot90(grid, which % 4, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if which >= 4 else turned)


@lru_cache(maxsize=8)
def turned_cells(which: int) -> NDArray[np.int64]:
    """Where each of the nine cells of a region lies after `turn`."""
    return np.argsort(turn(np.arange(9).reshape(1, 3, 3), which).ravel())


def vary_stain(
    images: NDArray[np.uint8], strength: float, draws: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Change the amounts of haematoxylin, eosin and rest in each image of (b, s, s, 3), RGB.

    Parameters
    ----------
    images : ndarray of shape (b, s, s, 3), uint8
    strength : float
        Amounts are multiplied by values in [1 - strength, 1 + strength] and shifted by up to a twentieth of it,
        per image and stain ("HED-light" of Tellez et al. 2018, arXiv 1808.05896).
    draws : ndarray of shape (b, 2, 3), float64
        Where in the range each factor and each shift lies, in [-1, 1].

    Returns
    -------
    ndarray of shape (b, s, s, 3), uint8
        White stays white up to the shift.
    """
    if strength <= 0:
        return images
    to_hed = np.linalg.inv(_RGB_FROM_HED)
    varied = np.empty_like(images)
    for i, (factor, shift) in enumerate(draws * strength):
        # Into stains, scaled, and back is one 3 x 3 map of optical densities.
        change = (to_hed @ np.diag(1 + factor) @ _RGB_FROM_HED).astype(np.float32)
        offset = (shift / 20 @ _RGB_FROM_HED).astype(np.float32)
        moved = _DENSITY[images[i]] @ change + offset  # (s, s, 3)
        varied[i] = np.clip(256 * np.exp(-moved) - 1, 0, 255) + 0.5
    return varied


_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
