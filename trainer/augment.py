"""Variation of training images: the eight symmetries of a square, and stain."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Optical densities of haematoxylin, eosin and DAB per RGB channel (Ruifrok & Johnston 2001; scikit-image's
# ``rgb_from_hed``). The third direction stands for what is neither.
_RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])

_MOST_INDICES: Final = 2**16  # of a gather: as many as stay in a core's cache


def turn(grid: NDArray[np.generic], which: int) -> NDArray[np.generic]:
    """View (b, h, w, ...) through one of the eight symmetries of a square."""
    turned = np.rot90(grid, which % 4, axes=(1, 2))
    return turned[:, :, ::-1] if which >= 4 else turned


def turn_each(images: NDArray[np.generic], which: NDArray[np.int64]) -> NDArray[np.generic]:
    """Turn each of b images by a symmetry of its own.

    Parameters
    ----------
    images : ndarray of shape (b, s, s, c)
        Pixels, or features on a grid.
    which : ndarray of shape (b,), int64
        Symmetry of each, 0 to 7, as `turn` numbers them.

    Returns
    -------
    ndarray of shape (b, s, s, c)
        A copy, of the same type.
    """
    b, s, _, c = images.shape
    cells = np.ascontiguousarray(images).reshape(b, s * s, c)
    turned = np.empty_like(cells)
    step = max(1, _MOST_INDICES // (s * s))
    for start in range(0, b, step):
        part = slice(start, start + step)
        # Cells of several images are numbered through: one gather takes no longer than one symmetry for all.
        first = s * s * np.arange(len(which[part]))[:, None]
        source = (_sources(s)[which[part]] + first).ravel()
        # "clip" because numpy would buffer the whole output to be able to refuse an index.
        np.take(
            cells[part].reshape(-1, c), source, axis=0, mode="clip", out=turned[part].reshape(-1, c)
        )
    return turned.reshape(images.shape)


def turned_cells(which: NDArray[np.int64], cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where cells (b,), of the nine of a region each, lie after `turn_each` by `which` (b,)."""
    return np.argsort(_sources(3), axis=1)[which, cells]


@lru_cache(maxsize=8)
def _sources(side: int) -> NDArray[np.int64]:
    """Cells that a turned grid's cells come from, by symmetry: (8, side * side)."""
    grid = np.arange(side * side).reshape(1, side, side)
    return np.stack([turn(grid, which).ravel() for which in range(8)])


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
