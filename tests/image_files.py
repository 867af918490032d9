"""Pictures and pyramids that several test files write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tifffile

from stamp_index.slides import ArrayImage
from stamp_index.slides.array_image import halve

if TYPE_CHECKING:
    from pathlib import Path

MPP = 0.5


def texture(height: int, width: int) -> np.ndarray:
    """Smooth colours with some noise, like tissue: JPEG keeps them within a few grey levels."""
    y, x = np.mgrid[:height, :width]
    base = np.stack(
        [128 + 90 * np.sin(x / 40), 128 + 90 * np.cos(y / 30), 128 + 60 * np.sin((x + y) / 50)], 2
    )
    noise = np.random.default_rng(0).normal(0, 6, base.shape)
    return np.clip(base + noise, 0, 255).astype(np.uint8)


PIXELS = texture(700, 900)


IMAGE = ArrayImage(PIXELS, MPP)


def write_pyramid(
    path: Path, pixels: np.ndarray, *, subifds: bool = False, **options: object
) -> Path:
    options = {
        "tile": (256, 256),
        "compression": "jpeg",
        "photometric": "rgb",
        "mpp": MPP,
        "n": 2,
        **options,
    }
    mpp, n = options.pop("mpp"), options.pop("n")
    with tifffile.TiffWriter(path) as writer:
        for level in range(n + 1):
            writer.write(
                pixels,
                resolution=(1e4 / (mpp * 2**level),) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                subifds=n if subifds and not level else None,
                **options,
            )
            pixels = halve(pixels)
    return path


def slow_crop(pixels: np.ndarray, x: int, y: int, width: int) -> np.ndarray:
    """Every pixel by itself; white outside."""
    out = np.full((width, width, 3), 255, dtype=np.uint8)
    for j in range(width):
        for i in range(width):
            if 0 <= y + j < pixels.shape[0] and 0 <= x + i < pixels.shape[1]:
                out[j, i] = pixels[y + j, x + i]
    return out
