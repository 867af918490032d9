"""Slides that follow from their number alone, so that whoever knows which are there knows every answer."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.genes import GenePanel
from stamp_index.slides import PatchSpec, Slide
from stamp_index.store import EncoderCard, SlideRows, Store

if TYPE_CHECKING:
    from pathlib import Path
    from stamp_index.encoders.ridge_encoder import RidgeEncoder

DIM, PER_SLIDE, SIDE, PITCH_UM = 128, 500, 25, 100.0
GENES = tuple(f"GENE{number}" for number in range(30))
ORGANS = ("breast", "liver", "skin", "lung", "colon")
N_PATIENTS = 8
KEPT = 10  # slides that are never deleted, so that every organ and patient stays
SIGNATURES = tuple(
    f"GENE{i} high, GENE{(7 * i + 3) % 30} low" if i % 2 else f"GENE{i} 2, GENE{(i + 11) % 30}"
    for i in range(30)
)
_CENTRES = np.random.default_rng(99).normal(size=(64, DIM))


def slide_id(number: int) -> str:
    return f"L{number:06d}"


def organ(number: int) -> str:
    return ORGANS[number % len(ORGANS)]


def patient(number: int) -> str:
    return f"P{number % N_PATIENTS}"


@dataclass(frozen=True)
class Content:
    """What a slide holds: vectors (n, d) as they are stored, and counts (n, g)."""

    image: np.ndarray
    gene: np.ndarray
    counts: np.ndarray

    @property
    def expression(self) -> np.ndarray:
        """log1p of counts per 10,000, (n, g) float32."""
        total = np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        return np.log1p(self.counts * (10_000 / total)).astype(np.float32)


@lru_cache(maxsize=256)
def content(number: int) -> Content:
    """Everything about a slide follows from its number."""
    rng = np.random.default_rng([5, number])
    cluster = rng.integers(0, len(_CENTRES), PER_SLIDE)
    parts = []
    for shift in (0, 7):  # the two modalities agree on clusters, not on where these lie
        rows = np.roll(_CENTRES, shift, axis=1)[cluster] + 0.7 * rng.normal(size=(PER_SLIDE, DIM))
        parts.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16))
    counts = rng.poisson(rng.gamma(1.0, 2.0, size=(1, len(GENES))), size=(PER_SLIDE, len(GENES)))
    return Content(parts[0], parts[1], counts.astype(np.float32))


def places() -> np.ndarray:
    """(x, y) of every spot, which are the same on every slide: a square grid, (n, 2)."""
    at = np.arange(PER_SLIDE)
    return np.column_stack([at % SIDE, at // SIDE]) * PITCH_UM


def thumbnail(number: int, spot: int) -> bytes:
    """Make a JPEG of which no two are the same."""
    return _jpeg() + f"{number} {spot}".encode()


def overview(number: int) -> bytes:
    return _jpeg() + f"overview {number}".encode()


@lru_cache(maxsize=1)
def _jpeg() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 120, 180)).save(file, format="JPEG")
    return file.getvalue()


def slide_rows(number: int, fingerprint: str) -> SlideRows:
    """Make a slide as `Store.add` takes it."""
    held, xy = content(number), places()
    slide = Slide(
        slide_id=slide_id(number),
        spots=pd.DataFrame(
            {"x_px": xy[:, 0], "y_px": xy[:, 1]},
            index=pd.Index([f"B{i}" for i in range(PER_SLIDE)], name="barcode"),
        ),
        counts=csr_matrix(held.counts),
        genes=GENES,
        image=None,
        mpp=1.0,
        spot_diameter_um=55.0,
        patient_id=patient(number),
        organ=organ(number),
    )
    jpegs = [thumbnail(number, spot) for spot in range(PER_SLIDE)]
    image, gene = (part.astype(np.float32) for part in (held.image, held.gene))
    return SlideRows(slide, image, gene, jpegs, overview(number), fingerprint)


def make_encoder(folder: Path) -> RidgeEncoder:
    """Write the checkpoint of a closed-form encoder with random axes, and return it."""
    from stamp_index.encoders import save_encoder
    from stamp_index.encoders.gene_input import GeneInput
    from stamp_index.encoders.ridge_encoder import RidgeEncoder

    rng, g, c = np.random.default_rng(3), len(GENES), 320
    panel = GenePanel(genes=GENES, means=(100.0,) * g)
    statistics = np.ones(g, np.float32), np.ones((1, g), np.float32)
    arrays = {
        "axes": rng.normal(size=(g, DIM)),
        "patch_weights": rng.normal(size=(c, DIM)),
        "feature_mean": np.zeros(c),
        "feature_std": np.ones(c),
    }
    encoder = RidgeEncoder(
        GeneInput(panel, *statistics, context=16),
        {name: value.astype(np.float32) for name, value in arrays.items()},
        (PatchSpec(112.0, 224), PatchSpec(336.0, 224)),
        name="load",
    )
    save_encoder(encoder, folder)
    return encoder


def make_store(folder: Path, n_slides: int) -> tuple[Store, np.ndarray]:
    """Make a store of slides 0 to n - 1 with its encoder, and the vectors of `SIGNATURES`, (s, d)."""
    from stamp_index.genes import parse_signature

    encoder = make_encoder(folder / "encoder")
    card = EncoderCard.of(encoder)
    store = Store.create(folder / "store", card, checkpoint=folder / "encoder")
    for number in range(n_slides):
        store.add(slide_rows(number, card.fingerprint))
    vectors = [encoder.encode_signature(parse_signature(one).weights) for one in SIGNATURES]
    return store, np.stack(vectors)
