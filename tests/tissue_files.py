"""Drawn slides of H&E whose tissue is known to the pixel."""

from __future__ import annotations

import numpy as np

PINK, VIOLET, GLASS = (214, 150, 190), (110, 70, 150), (240, 238, 241)
MPP = 2.0


def stained(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Nuclei of 12 um on pink at 2 um/px, as float."""
    rng = np.random.default_rng(seed)
    tissue = np.full((height, width, 3), PINK, dtype=float)
    y, x = np.mgrid[-3:4, -3:4]
    disc = x**2 + y**2 <= 9
    for cy, cx in rng.integers(3, (height - 3, width - 3), (height * width // 150, 2)):
        tissue[cy - 3 : cy + 4, cx - 3 : cx + 4][disc] = VIOLET
    return tissue


def slide(
    height: int = 900, width: int = 1200, *, glass: tuple[int, int, int] = GLASS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (h, w, 3) at 2 um/px, and where tissue is (h, w): an ellipse in the middle."""
    y, x = np.mgrid[:height, :width]
    inside = ((x / width - 0.5) / 0.3) ** 2 + ((y / height - 0.5) / 0.3) ** 2 < 1
    light = np.array(glass) / 255
    pixels = np.where(inside[:, :, None], stained(height, width, seed=seed), 255) * light
    noise = np.random.default_rng(seed + 1).normal(0, 2, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8), inside
