"""A slide of 60,000 x 60,000 px with two pieces of tissue, written tile by tile.

``python -m tests.large_slide PATH {flat,pyramid} SIDE`` reads it as a slide of H&E and prints what that took.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE_PX = 60_000
MPP = 0.5
TILE_PX = 512
GLASS = 244
# Left, top, right, bottom as shares of the side.
PIECES = ((0.10, 0.10, 0.25, 0.20), (0.60, 0.50, 0.70, 0.75))


def tissue_tile() -> np.ndarray:
    """Violet nuclei of about 8 um on pink, as one tile of level 0."""
    rng = np.random.default_rng(0)
    tile = np.full((TILE_PX, TILE_PX, 3), (214, 150, 190), dtype=np.float64)
    y, x = np.mgrid[:TILE_PX, :TILE_PX]
    for cx, cy in rng.uniform(0, TILE_PX, (180, 2)):
        near = (x - cx) ** 2 + (y - cy) ** 2 < 8**2
        tile[near] = (110, 70, 150)
    return np.clip(tile + rng.normal(0, 6, tile.shape), 0, 255).astype(np.uint8)


def write_large(path: Path, *, pyramid: bool, side_px: int = SIDE_PX) -> Path:
    """Write a tiled TIFF: JPEG with three levels, or deflate with level 0 alone.

    Each kind of tile is compressed once, so that billions of pixels take seconds.
    """
    factors = (1, 4, 16) if pyramid else (1,)
    compression = "jpeg" if pyramid else "deflate"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for factor in factors:
            side = side_px // factor
            writer.write(
                _tiles(side, factor, compression),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression=compression,
                compressionargs={"outcolorspace": "rgb"} if pyramid else None,
                subfiletype=1 if factor > 1 else 0,
                resolution=(1e4 / (MPP * factor),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


def _tiles(side: int, factor: int, compression: str) -> Iterator[bytes]:
    """Compressed tiles of a level; each is put together of `factor` x `factor` tiles of level 0."""
    tissue = tissue_tile().reshape(TILE_PX // factor, factor, TILE_PX // factor, factor, 3)
    tissue = tissue.mean(axis=(1, 3)).astype(np.uint8)
    kinds = (np.full_like(tissue, GLASS), tissue)
    packed: dict[tuple[bool, ...], bytes] = {}
    across = -(-side // TILE_PX)
    shares = (np.arange(across * factor) + 0.5) * TILE_PX / (side * factor)
    inside = np.zeros((across * factor,) * 2, dtype=bool)
    for x0, y0, x1, y1 in PIECES:
        inside |= np.outer((y0 < shares) & (shares < y1), (x0 < shares) & (shares < x1))
    for row in range(0, across * factor, factor):
        for column in range(0, across * factor, factor):
            parts = inside[row : row + factor, column : column + factor]
            key = tuple(parts.ravel().tolist())
            if key not in packed:
                tile = np.concatenate(
                    [
                        np.concatenate([kinds[part] for part in line], axis=1)
                        for line in parts.astype(int)
                    ]
                )
                packed[key] = _packed(tile, compression)
            yield packed[key]


def _packed(tile: np.ndarray, compression: str) -> bytes:
    if compression == "jpeg":
        return imagecodecs.jpeg8_encode(tile, level=85, outcolorspace="rgb")
    return imagecodecs.zlib_encode(np.ascontiguousarray(tile), level=1)


def tissue_mm2(side_px: int = SIDE_PX) -> float:
    """Area of the pieces."""
    shares = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in PIECES)
    return shares * (side_px * MPP / 1000) ** 2


def main(path: Path, kind: str, side_px: int) -> None:
    """Write the slide, read it, and print seconds, spots and peak memory as JSON."""
    from stamp_index.readers import read

    start = time.perf_counter()
    write_large(path, pyramid=kind == "pyramid", side_px=side_px)
    written = time.perf_counter()
    slide = read(path)
    # Not ru_maxrss, which begins with what the process that started this one had.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024
    report = {
        "write_s": written - start,
        "read_s": time.perf_counter() - written,
        "n_spots": slide.n_spots,
        "size_px": slide.image.size_px,
        "n_levels": len(slide.image.levels),
        "peak_bytes": peak,
        "notes": slide.notes,
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
