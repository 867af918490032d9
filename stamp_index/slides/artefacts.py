"""Ink, folds and blur on H&E slides, by rules whose thresholds stand in `TissueSettings`.

The rules follow published ideas: ink by colours that haematoxylin and eosin never have, folds by saturation minus
intensity (Palokangas et al. 2007), focus by the variance of the Laplacian (Pech-Pacheco et al. 2000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.slides.glass import brightest, grey, saturation
from stamp_index.slides.regions import drop_small, share_of_squares

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stamp_index.slides.images import SlideImage
    from stamp_index.slides.tissue import TissueSettings

# Hues in degrees. After division by the glass's colour, haematoxylin lies near 235 to 280, eosin near 310 to 360
# and muscle and blood up to 20. Red ink shares eosin's hue and is told by a saturation that eosin never reaches.
_BLUE_AND_GREEN: Final = (60.0, 228.0)
_RED: Final = (340.0, 25.0)
_RED_SATURATION: Final = 0.8
_RED_BRIGHTNESS: Final = 0.6  # blood and necrosis are as saturated, but darker
_GREY_SATURATION: Final = 0.25
_MIN_CONTRAST: Final = 4.0  # variance of grey levels; below it a square shows nothing to focus on
_MIN_CELL_TISSUE: Final = 0.5  # a square on the tissue's edge shows the edge's sharpness
_MIN_CELLS: Final = 8  # fewer squares tell no median


def find_ink(
    balanced: NDArray[np.uint8], mpp: float, settings: TissueSettings
) -> NDArray[np.bool_]:
    """Find blue, green, red and black ink.

    Parameters
    ----------
    balanced : ndarray of shape (h, w, 3), uint8
        RGB divided by the glass's colour.
    mpp : float
        Microns per pixel.
    settings : TissueSettings
        Its ``ink_*`` and ``min_ink_um2``.

    Returns
    -------
    ndarray of shape (h, w), bool
    """
    from scipy.ndimage import binary_closing, binary_dilation

    strength = saturation(balanced)
    brightness = brightest(balanced) / np.float32(255)
    candidates = (strength >= settings.ink_saturation) | (brightness <= settings.ink_black)
    ink = np.zeros(strength.shape, dtype=bool)
    if not candidates.any():
        return ink
    hue = _hue(balanced[candidates])
    strong, bright = strength[candidates], brightness[candidates]
    coloured = (hue >= _BLUE_AND_GREEN[0]) & (hue <= _BLUE_AND_GREEN[1])
    red = (
        ((hue >= _RED[0]) | (hue <= _RED[1]))
        & (strong >= _RED_SATURATION)
        & (bright >= _RED_BRIGHTNESS)
    )
    black = (bright <= settings.ink_black) & (strong <= _GREY_SATURATION)
    ink[candidates] = (coloured & (strong >= settings.ink_saturation)) | red | black
    ink = drop_small(binary_closing(ink, iterations=2), settings.min_ink_um2 / mpp**2)
    return np.asarray(binary_dilation(ink, iterations=max(1, round(24 / mpp))))


def find_folds(
    balanced: NDArray[np.uint8], tissue: NDArray[np.bool_], mpp: float, settings: TissueSettings
) -> NDArray[np.bool_]:
    """Find tissue that lies on itself: darker and more saturated than the rest.

    Parameters
    ----------
    balanced : ndarray of shape (h, w, 3), uint8
        RGB divided by the glass's colour.
    tissue : ndarray of shape (h, w), bool
    mpp : float
        Microns per pixel.
    settings : TissueSettings
        Its ``fold_excess`` and ``min_fold_um2``.

    Returns
    -------
    ndarray of shape (h, w), bool
    """
    if not tissue.any():
        return np.zeros_like(tissue)
    darkness = saturation(balanced) - grey(balanced) / np.float32(255)
    excess = darkness - np.median(darkness[tissue])
    return drop_small(tissue & (excess > settings.fold_excess), settings.min_fold_um2 / mpp**2)


def find_blur(
    image: SlideImage, tissue: NDArray[np.bool_], mpp: float, settings: TissueSettings
) -> NDArray[np.bool_]:
    """Find squares of tissue that are out of focus against the rest of their slide.

    Parameters
    ----------
    image : SlideImage
        Its tissue is read row by row of squares.
    tissue : ndarray of shape (h, w), bool
        Covers the whole image.
    mpp : float
        Microns per level-0 pixel.
    settings : TissueSettings
        Its ``blur_*``.

    Returns
    -------
    ndarray of shape (h, w), bool
        All False where the image is too coarse, or too few squares are full of tissue.
    """
    blur = np.zeros_like(tissue)
    if mpp > settings.blur_max_mpp or not tissue.any():
        return blur
    cell_px = settings.blur_cell_um / mpp
    across, down = (max(1, int(size // cell_px)) for size in image.size_px)
    height, width = tissue.shape
    rows = np.minimum(np.arange(down + 1) * cell_px * height / image.size_px[1], height).astype(int)
    columns = np.minimum(np.arange(across + 1) * cell_px * width / image.size_px[0], width)
    columns = columns.astype(int)
    edges, sharpness = (np.full((down, across), np.nan) for _ in range(2))
    out_px = max(8, round(settings.blur_cell_um / max(settings.blur_mpp, mpp)))
    for row, start, stop in _runs(tissue, (down, across), cell_px, image.size_px):
        size = ((stop - start) * cell_px, cell_px)
        corner = (start * cell_px, row * cell_px)
        pixels = image.read_box(*corner, size, ((stop - start) * out_px, out_px))
        edges[row, start:stop], sharpness[row, start:stop] = _sharpness(pixels, out_px)
    known = np.isfinite(sharpness)
    if known.sum() < _MIN_CELLS:
        return blur
    # Pale tissue has few edges but sharp ones; beside glass, edges are few against the contrast.
    limits = [settings.blur_ratio * np.median(values[known]) for values in (edges, sharpness)]
    dull = known & (edges < limits[0]) & (sharpness < limits[1])
    for row, column in np.argwhere(dull):
        blur[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = True
    return blur & tissue


def _runs(
    tissue: NDArray[np.bool_], shape: tuple[int, int], cell_px: float, size_px: tuple[int, int]
) -> Iterator[tuple[int, int, int]]:
    """Yield (row, start, stop) of neighbouring squares that are mostly tissue."""
    row, column = (index.ravel() + 0.5 for index in np.indices(shape))
    per_px = (tissue.shape[1] / size_px[0], tissue.shape[0] / size_px[1])
    shares = share_of_squares(tissue, (column * cell_px, row * cell_px), cell_px, per_px)
    for index, full in enumerate(shares.reshape(shape) >= _MIN_CELL_TISSUE):
        edges = np.flatnonzero(np.diff([0, *full.astype(int).tolist(), 0]))
        for start, stop in edges.reshape(-1, 2).tolist():
            yield index, start, stop


def _sharpness(
    pixels: NDArray[np.uint8], cell: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of the Laplacian per square, and as a share of the variance (NaN where all is even)."""
    from scipy.ndimage import laplace

    light = grey(pixels)
    edges = laplace(light)

    def variances(values: NDArray[np.float32]) -> NDArray[np.float64]:
        squares = values.reshape(cell, -1, cell).transpose(1, 0, 2).reshape(-1, cell * cell)
        return np.asarray(squares.var(axis=1, dtype=np.float64))

    contrast, sharp = variances(light), variances(edges)
    return sharp, np.where(contrast < _MIN_CONTRAST, np.nan, sharp / np.maximum(contrast, 1e-9))


def _hue(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Hue in degrees, shape (n,), of colours (n, 3)."""
    red, green, blue = (pixels[:, channel].astype(np.float32) for channel in range(3))
    high, low = pixels.max(axis=1).astype(np.float32), pixels.min(axis=1).astype(np.float32)
    span = np.maximum(high - low, 1)
    degrees = np.where(
        high == red,
        (green - blue) / span % 6,
        np.where(high == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    return np.asarray(degrees * 60, dtype=np.float32)
