"""Slides to fill stores with: spots on a square grid, counts as deep as asked for, pictures of phantom tissue."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from stamp_index.slides import Slide
from stamp_index.store import EncoderCard, SlideRows

FINGERPRINT: Final = "benchmark"
_PITCH_UM: Final = 100.0
_MPP: Final = 0.5
_THUMBNAIL_PX: Final = 128  # as `stamp_index.embed` makes them, over 112 um
_PICTURE_SPOTS: Final = 300
_SPREAD: Final = 2.0  # of the logarithm of a gene's mean: a few genes have most of the counts


def card(dim: int) -> EncoderCard:
    """Card of an encoder that is not there: vectors are given."""
    return EncoderCard("vec", FINGERPRINT, dim, 112.0, 224, 336.0, "none")


def slide_rows(number: int, n_spots: int, dim: int, *, genes: int, umi: int) -> SlideRows:
    """One slide; `umi` counts a spot over so many genes, and no pictures where that is 0.

    Every slide differs from the others; four are of one patient, organs take turns.
    """
    rng = np.random.default_rng(number)
    vectors = rng.standard_normal((n_spots, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    at, side = np.arange(n_spots), max(int(n_spots**0.5), 1)
    pitch_px = _PITCH_UM / _MPP
    counts = _counts(rng, n_spots, genes, umi or 2 * genes)
    slide = Slide(
        slide_id=f"slide{number:06d}",
        spots=pd.DataFrame(
            {"x_px": at % side * pitch_px, "y_px": at // side * pitch_px},
            index=pd.Index(
                [f"{code:016d}-1" for code in at], name="barcode"
            ),  # 18 letters, as 10x has
        ),
        counts=counts,
        genes=tuple(f"GENE{gene}" for gene in range(genes)),
        image=None,
        mpp=_MPP,
        spot_diameter_um=55.0,
        patient_id=f"P{number // 4}",
        organ=("breast", "liver", "skin", "lung", "colon")[number % 5],
    )
    pictures = None
    if umi:
        held = thumbnails()
        pictures = [held[place] for place in rng.integers(len(held), size=n_spots)]
    return SlideRows(slide, vectors, vectors[::-1].copy(), pictures, None, FINGERPRINT)


def _counts(rng: np.random.Generator, n_spots: int, genes: int, umi: int) -> csr_matrix:
    share = np.exp(_SPREAD * np.random.default_rng(0).standard_normal(genes))
    share /= share.sum()
    depth = umi * np.exp(0.5 * rng.standard_normal((n_spots, 1)))
    parts = [
        csr_matrix(rng.poisson(depth[start : start + 256] * share).astype(np.float32))
        for start in range(0, n_spots, 256)
    ]
    return vstack(parts, format="csr")


@lru_cache(maxsize=1)
def thumbnails() -> list[bytes]:
    """Pictures of spots of one phantom slide, as a store keeps them."""
    from PIL import Image

    from stamp_index.phantom.make import render_slide
    from stamp_index.slides.jpeg import jpeg_bytes

    picture = Image.fromarray(render_slide(0, 0, 0, n_spots=_PICTURE_SPOTS)[3])
    rng = np.random.default_rng(0)
    corners = rng.integers(0, min(picture.size) - _THUMBNAIL_PX, (_PICTURE_SPOTS, 2)).tolist()
    boxes = [(x, y, x + _THUMBNAIL_PX, y + _THUMBNAIL_PX) for x, y in corners]
    return [jpeg_bytes(picture.crop(box)) for box in boxes]
