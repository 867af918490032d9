"""Stores for the app's benchmark: one slide of 50,000 spots with an image, and a million spots without."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import csr_matrix

import slide_reading
from stamp_index.genes import GeneReference
from stamp_index.index import build_index, has_index
from stamp_index.slides import Slide, open_image
from stamp_index.store import EncoderCard, SlideRows, Store
from tests.support import TOY_GENES, ToyEncoder

if TYPE_CHECKING:
    from pathlib import Path
    from numpy.typing import NDArray

SIDE_PX = 12_288
N_GENES = 36_601  # as in the reference of 10x Genomics of 2020
MPP = slide_reading.MPP
POOL = 64  # pictures that patches are drawn from
MEASURED_PER_SPOT = 60


def gene_names() -> tuple[str, ...]:
    """As many symbols as a whole transcriptome has: the toy encoder's and the reference's."""
    known = [one for one in GeneReference.load().table("human").symbols if one not in TOY_GENES]
    made = [f"AC{number:06d}.1" for number in range(N_GENES)]
    return tuple([*TOY_GENES, *known, *made][:N_GENES])


def slide_store(folder: Path, n_spots: int = 50_000, *, n_genes: int = N_GENES) -> Store:
    """One slide with a pyramid of 12,288 px and places on a grid; made once."""
    path = folder / f"slide-{n_spots}"
    encoder = ToyEncoder()
    if not path.exists():
        image = open_image(slide_reading.draw_slide(folder, SIDE_PX))
        slide, kinds = _slide(image, n_spots, gene_names()[:n_genes])
        store = Store.create(path, EncoderCard.of(encoder))
        store.add(_rows(slide, kinds, encoder, image))
    return Store.open(path)


def _slide(image, n_spots: int, genes: tuple[str, ...]) -> tuple[Slide, NDArray]:  # noqa: ANN001
    rng = np.random.default_rng(0)
    line = int(np.ceil(np.sqrt(n_spots)))
    at = np.arange(n_spots)
    xy = np.stack([at % line, at // line], axis=1) * ((SIDE_PX - 400) / line) + 200.0
    centres = rng.uniform(0, SIDE_PX, (24, 2))
    nearest = np.argmin(((xy[:, None] - centres) ** 2).sum(axis=2), axis=1)
    kinds = nearest % 4
    toy = rng.poisson(np.where(np.arange(48) // 12 == kinds[:, None], 6.0, 0.4)).astype(np.float32)
    columns = rng.integers(48, len(genes), (n_spots, MEASURED_PER_SPOT))
    others = csr_matrix(
        (
            np.ones(columns.size, np.float32),
            (np.repeat(at, MEASURED_PER_SPOT), columns.ravel()),
        ),
        (n_spots, len(genes)),
    )
    counts = csr_matrix((n_spots, len(genes)), dtype=np.float32) + others
    counts = counts.tolil()
    counts[:, :48] = toy
    spots = pd.DataFrame(
        {"x_px": xy[:, 0], "y_px": xy[:, 1], "domain": [f"domain {kind}" for kind in kinds]},
        index=pd.Index([f"B{i:06d}-1" for i in at], name="barcode"),
    )
    return (
        Slide(
            "large", spots, csr_matrix(counts), genes, image, MPP, 20.0,
            patient_id="P1", organ="breast", platform="benchmark",
        ),
        kinds,
    )  # fmt: skip


def _rows(slide: Slide, kinds: NDArray, encoder: ToyEncoder, image) -> SlideRows:  # noqa: ANN001
    rng = np.random.default_rng(1)
    around = encoder._domains[kinds] + rng.normal(0, 0.6, (len(kinds), encoder.dim))
    image_side, gene_side = (around + rng.normal(0, 0.3, around.shape) for _ in range(2))
    pool = [_jpeg(image.read(x, y, 224, 112)) for x, y in rng.uniform(0, SIDE_PX - 300, (POOL, 2))]
    return SlideRows(
        slide, _unit(image_side), _unit(gene_side),
        [pool[at % POOL] for at in range(len(kinds))], _jpeg(image.overview(1024)), encoder.fingerprint,
    )  # fmt: skip


def million_store(folder: Path, n: int = 1_000_000, dim: int = 512) -> Store:
    """Spots without pictures, 5,000 a slide, with indexes; made once, and gone on with where it was interrupted."""
    path = folder / f"spots-{n}-{dim}"
    encoder = ToyEncoder(dim)
    if not path.exists():
        Store.create(path, EncoderCard.of(encoder))
    store = Store.open(path)
    for number in range(store.n_spots // 5_000, n // 5_000):
        rng = np.random.default_rng(number)
        at = np.arange(5_000)
        kinds = rng.integers(0, 4, 5_000)
        around = encoder._domains[kinds] + rng.normal(0, 0.6, (5_000, dim))
        slide = Slide(
            f"slide{number:04d}",
            pd.DataFrame(
                {"x_px": at % 71 * 200.0, "y_px": at // 71 * 200.0},
                index=pd.Index([f"B{i:05d}" for i in at], name="barcode"),
            ),
            csr_matrix(rng.poisson(1.0, (5_000, len(TOY_GENES))).astype(np.float32)),
            TOY_GENES, None, MPP, 55.0, patient_id=f"P{number // 4}",
            organ=("breast", "liver", "skin")[number % 3],
        )  # fmt: skip
        vectors = [_unit(around + rng.normal(0, 0.3, around.shape)) for _ in range(2)]
        store.add(SlideRows(slide, *vectors, None, None, encoder.fingerprint))
    if len(store.versions) > 50:
        store.compact()
        store.clean_up()
    for side in ("image", "gene"):
        if not has_index(store, side):
            build_index(store, side)
    return Store.open(path)


def _unit(vectors: NDArray) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return stream.getvalue()
