"""Smooth random fields and their resampling: the raw material of every organic shape here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rng_for(*key: int) -> np.random.Generator:
    """Return the generator of one named stage, so that stages do not disturb each other.

    Parameters
    ----------
    *key : int
        Seed, patient, slide, stage and so on; all non-negative.

    Returns
    -------
    numpy.random.Generator
        The same for the same key on every machine.
    """
    return np.random.default_rng(np.random.SeedSequence(list(key)))


def resize(field: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resample a field bicubically to `shape` (rows, columns)."""
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    out = image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.array(out, dtype=np.float32)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: float | tuple[float, float]
) -> NDArray[np.float32]:
    """Gaussian noise of unit variance, correlated over about `sigma` grid cells.

    Wide fields are drawn on a coarser grid and resampled: a blur of 100 cells on the full grid
    costs hundreds of times more and looks the same.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    shape : tuple of int
        Rows and columns.
    sigma : float or tuple of float
        Width of the blur in grid cells, one number or (rows, columns).

    Returns
    -------
    ndarray of shape `shape`, float32
        Mean 0, standard deviation 1.
    """
    sigmas = np.broadcast_to(np.asarray(sigma, dtype=float), (2,))
    steps = np.maximum(1, (sigmas / 3.0).astype(int))
    small = tuple(int(np.ceil(n / s)) + 2 for n, s in zip(shape, steps, strict=True))
    field = rng.standard_normal(small, dtype=np.float32)
    field = ndimage.gaussian_filter(field, tuple(sigmas / steps), mode="reflect")
    if steps.max() > 1:
        full = (small[0] * int(steps[0]), small[1] * int(steps[1]))
        field = resize(field, full)
    field = field[: shape[0], : shape[1]]
    return cast(
        "NDArray[np.float32]", (field - field.mean()) / max(float(field.std()), 1e-6)
    ).astype(np.float32, copy=False)


def wrapped_noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: float | tuple[float, float]
) -> NDArray[np.float32]:
    """Like `smooth_noise`, but it repeats seamlessly: for textures that are laid as tiles."""
    field = rng.standard_normal(shape, dtype=np.float32)
    field = ndimage.gaussian_filter(field, sigma, mode="wrap")
    return cast("NDArray[np.float32]", field / max(float(field.std()), 1e-6)).astype(
        np.float32, copy=False
    )


def rank01(field: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Replace values by their rank among those in `where`, in [0, 1]: all levels equally frequent.

    Parameters
    ----------
    field : ndarray, float32
        Values.
    where : ndarray of the same shape, bool
        Cells to compare with; all cells if none is marked.

    Returns
    -------
    ndarray, float32
        Share of the marked cells with a lower value.
    """
    known = np.sort(field[where] if where.any() else field.ravel())
    ranks = np.searchsorted(known, field) / known.size
    return ranks.astype(np.float32)


def sample(
    field: NDArray[Any], x_px: NDArray[np.floating], y_px: NDArray[np.floating], cell_px: float
) -> NDArray[Any]:
    """Values of a grid with cells of `cell_px` level-0 pixels at points, nearest cell, clamped."""
    rows = np.clip((np.asarray(y_px) / cell_px).astype(np.intp), 0, field.shape[0] - 1)
    cols = np.clip((np.asarray(x_px) / cell_px).astype(np.intp), 0, field.shape[1] - 1)
    return field[rows, cols]
