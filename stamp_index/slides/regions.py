"""Pieces, holes and squares of masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def drop_small(mask: NDArray[np.bool_], min_px: float) -> NDArray[np.bool_]:
    """Keep the pieces (joined over edges) of a mask (h, w) that have at least `min_px` pixels."""
    from scipy.ndimage import label

    labels, _ = label(mask)
    large = np.bincount(labels.ravel()) >= min_px
    large[0] = False
    kept: NDArray[np.bool_] = large[labels]
    return kept


def drop_mostly(
    mask: NDArray[np.bool_], other: NDArray[np.bool_], share: float
) -> NDArray[np.bool_]:
    """Keep the pieces of a mask (h, w) of which at most `share` lies in another mask (h, w)."""
    from scipy.ndimage import label

    labels, _ = label(mask)
    areas = np.bincount(labels.ravel())
    inside = np.bincount(labels.ravel(), weights=other.ravel())
    keep = inside <= share * areas
    keep[0] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def fill_small_holes(mask: NDArray[np.bool_], max_px: float) -> NDArray[np.bool_]:
    """Fill the holes of a mask (h, w) that have at most `max_px` pixels and do not touch its border."""
    from scipy.ndimage import label

    labels, _ = label(~mask)
    small = np.bincount(labels.ravel()) <= max_px
    small[0] = False
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        small[border] = False
    filled: NDArray[np.bool_] = mask | small[labels]
    return filled


def share_of_squares(
    mask: NDArray[np.bool_],
    centres_px: tuple[NDArray[np.floating], NDArray[np.floating]],
    width_px: float,
    per_px: tuple[float, float],
) -> NDArray[np.float32]:
    """Share of squares that a mask covers, by its integral image.

    Parameters
    ----------
    mask : ndarray of shape (h, w), bool
        What lies outside counts as False.
    centres_px : two ndarrays of shape (n,)
        x and y in level-0 pixels.
    width_px : float
        Width of the squares in level-0 pixels, above 0.
    per_px : (float, float)
        Pixels of the mask per level-0 pixel, across and down.

    Returns
    -------
    ndarray of shape (n,), float32
    """
    if not width_px > 0:
        msg = f"width_px is {width_px}; a square must be wider than 0."
        raise ValueError(msg)
    if not mask.any():
        return np.zeros(np.shape(centres_px[0]), dtype=np.float32)
    height, width = mask.shape
    sums = np.zeros((height + 1, width + 1), dtype=np.int64)
    mask.cumsum(axis=0, dtype=np.int64, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    edges = []
    for centre, scale, limit in zip(centres_px, per_px, (width, height), strict=True):
        middle = np.asarray(centre, dtype=np.float64)
        edges.append([np.clip((middle + s * width_px / 2) * scale, 0, limit) for s in (-1, 1)])
    (left, right), (top, bottom) = edges
    covered = (
        _between(sums, right, bottom)
        - _between(sums, left, bottom)
        - _between(sums, right, top)
        + _between(sums, left, top)
    )
    area = width_px**2 * per_px[0] * per_px[1]
    return np.clip(covered / area, 0, 1).astype(np.float32)


def _between(
    sums: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integral image at places between its pixels; exact, as it is bilinear within one pixel."""
    column = np.minimum(x.astype(np.int64), sums.shape[1] - 2)
    row = np.minimum(y.astype(np.int64), sums.shape[0] - 2)
    fx, fy = x - column, y - row
    upper = sums[row, column] * (1 - fx) + sums[row, column + 1] * fx
    lower = sums[row + 1, column] * (1 - fx) + sums[row + 1, column + 1] * fx
    between: NDArray[np.float64] = upper * (1 - fy) + lower * fy
    return between
