"""A toy world for tests: slides with four domains, and an encoder that sees them without torch.

A patch's colour and a spot's marker genes both tell its domain, so searching one by the other has
a known answer: the hits lie in the same domain.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import csr_matrix

from stamp_index.genes import GenePanel
from stamp_index.slides.array_image import ArrayImage
from stamp_index.slides.patches import PatchSpec
from stamp_index.slides.slide import Slide
from stamp_index.store import EncoderCard, SlideRows, Store

# Markers of each domain, and its colour in the picture.
TOY_MARKERS = {
    "tumour": (
        *("EPCAM", "KRT8", "KRT18", "KRT19", "ERBB2", "MUC1", "CDH1", "ESR1", "GATA3", "MKI67"),
        *("TOP2A", "CLDN4"),
    ),
    "lymphoid": (
        *("CD8A", "CD3E", "CD3D", "CD4", "MS4A1", "CD79A", "PTPRC", "TRBC2", "CXCL13", "IL7R"),
        *("GZMB", "NKG7"),
    ),
    "stroma": (
        *("COL1A1", "COL1A2", "COL3A1", "DCN", "LUM", "FAP", "ACTA2", "VIM", "SPARC", "FN1"),
        *("POSTN", "PDGFRB"),
    ),
    "fat": (
        *("ADIPOQ", "FABP4", "PLIN1", "PLIN4", "LPL", "CD36", "LEP", "CFD", "PNPLA2", "G0S2"),
        *("CIDEC", "GPD1"),
    ),
}
TOY_HOUSEKEEPING = (
    *("ACTB", "GAPDH", "B2M", "EEF1A1", "RPLP0", "RPS18", "TMSB4X", "FTL", "UBC", "HLA-DRA"),
    *("MT-CO1", "MT-ND1"),
)
TOY_DOMAINS = tuple(TOY_MARKERS)
TOY_GENES = (*(gene for markers in TOY_MARKERS.values() for gene in markers), *TOY_HOUSEKEEPING)
TOY_COLOURS = np.array([[150, 60, 150], [60, 50, 120], [230, 150, 180], [245, 240, 245]], float)

TOY_MPP = 2.0
PITCH_PX = 50  # 100 um
COLUMNS = 10  # spots per line of a toy slide


class ToyEncoder:
    """Implements the `Encoder` protocol with colour averages and marker sums.

    Both towers estimate how much of each domain there is, add a little detail of their own, and
    map the result into d dimensions by the same fixed random projection.
    """

    def __init__(self, dim: int = 32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.name = "toy"
        self.dim = dim
        self.panel = GenePanel(genes=TOY_GENES, means=(100.0,) * len(TOY_GENES))
        self.patch = PatchSpec(width_um=112.0, size_px=16)
        self.region = PatchSpec(width_um=336.0, size_px=16)
        self.fingerprint = hashlib.sha256(f"toy {dim} {seed}".encode()).hexdigest()[:16]
        self._domains = rng.normal(size=(len(TOY_DOMAINS), dim))
        self._image_detail = rng.normal(size=(6, dim)) * 0.2
        self._gene_detail = rng.normal(size=(len(TOY_GENES), dim)) * 0.02

    def encode_images(self, patches, regions=None):
        pixels = patches.reshape(len(patches), -1, 3).astype(np.float64)
        mean, spread = pixels.mean(axis=1), pixels.std(axis=1)  # (n, 3) each
        distance = ((mean[:, None, :] - TOY_COLOURS) ** 2).sum(axis=2)  # (n, 4)
        amount = np.exp(-distance / 2_000.0)
        if regions is not None:
            around = regions.reshape(len(regions), -1, 3).mean(axis=1)
            mean = 0.9 * mean + 0.1 * around
        detail = np.concatenate([mean, spread], axis=1) / 255.0
        return self._embed(amount, detail @ self._image_detail)

    def encode_counts(self, counts, genes):
        aligned = self.panel.align(csr_matrix(counts), genes).toarray().astype(np.float64)
        total = np.maximum(aligned.sum(axis=1, keepdims=True), 1.0)
        profile = np.log1p(aligned / total * 10_000)  # (n, g)
        markers = profile[:, : 12 * len(TOY_DOMAINS)].reshape(len(profile), len(TOY_DOMAINS), 12)
        return self._embed(markers.mean(axis=2) / 6.0, profile @ self._gene_detail)

    def encode_spots(self, slide):
        return self.encode_counts(slide.counts, slide.genes)

    def encode_signature(self, weights):
        profile = np.zeros((1, len(TOY_GENES)))
        for gene, weight in weights.items():
            profile[0, TOY_GENES.index(gene)] = weight
        markers = profile[:, : 12 * len(TOY_DOMAINS)].reshape(1, len(TOY_DOMAINS), 12)
        return self._embed(markers.sum(axis=2), profile @ self._gene_detail, centre=False)[0]

    def _embed(self, amount, detail, centre=True):
        if centre:  # what matters is which domain there is more of
            amount = amount - amount.mean(axis=1, keepdims=True)
        vectors = amount @ self._domains + detail
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return (vectors / lengths).astype(np.float32)


def toy_domains(n_spots: int) -> np.ndarray:
    """Domain (0 to 3) of each spot of a toy slide: vertical bands, as wide as can be."""
    column = np.arange(n_spots) % COLUMNS
    return column * len(TOY_DOMAINS) // COLUMNS


def toy_slide(
    slide_id: str = "S1",
    n_spots: int = 40,
    seed: int = 0,
    *,
    patient_id: str = "P1",
    organ: str = "breast",
    genes: tuple[str, ...] = TOY_GENES,
    image: bool = True,
) -> Slide:
    """A slide of four vertical bands, ten spots a line, at 2 um per pixel."""
    rng = np.random.default_rng(seed)
    at = np.arange(n_spots)
    domain = toy_domains(n_spots)
    x_px = (at % COLUMNS + 1.0) * PITCH_PX
    y_px = (at // COLUMNS + 1.0) * PITCH_PX
    rate = np.full((n_spots, len(TOY_GENES)), 0.3)
    for spot, kind in enumerate(domain):
        rate[spot, 12 * kind : 12 * kind + 12] = 8.0
    rate[:, 48:] = 5.0
    counts = rng.poisson(rate * rng.gamma(20, 1 / 20, size=(n_spots, 1)))
    kept = [TOY_GENES.index(gene) for gene in genes]
    pixels = _toy_pixels(x_px, y_px, domain, rng) if image else None
    return Slide(
        slide_id=slide_id,
        spots=pd.DataFrame(
            {"x_px": x_px, "y_px": y_px, "domain": [TOY_DOMAINS[kind] for kind in domain]},
            index=pd.Index([f"B{i:04d}-1" for i in at], name="barcode"),
        ),
        counts=csr_matrix(counts[:, kept].astype(np.float32)),
        genes=tuple(genes),
        gene_ids=tuple(f"ENSG{TOY_GENES.index(gene):011d}" for gene in genes),
        image=ArrayImage(pixels, mpp=TOY_MPP) if pixels is not None else None,
        mpp=TOY_MPP if pixels is not None else None,
        spot_diameter_um=55.0,
        patient_id=patient_id,
        organ=organ,
        species="human",
        platform="toy",
        source=f"toy {slide_id}",
        reader="toy",
    )


def _toy_pixels(x_px, y_px, domain, rng) -> np.ndarray:
    width, height = int(x_px.max()) + PITCH_PX, int(y_px.max()) + PITCH_PX
    pixels = np.full((height, width, 3), 250.0)
    half = PITCH_PX // 2
    for x, y, kind in zip(x_px.astype(int), y_px.astype(int), domain, strict=True):
        colour = TOY_COLOURS[kind] + rng.normal(0, 4, size=3)
        pixels[y - half : y + half, x - half : x + half] = colour
    pixels += rng.normal(0, 6, size=pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)


def toy_rows(slide: Slide, encoder: ToyEncoder | None = None) -> SlideRows:
    """Embed a toy slide."""
    encoder = encoder or ToyEncoder()
    patches = regions = None
    if slide.image is not None:
        patches, regions = (_crops(slide, spec) for spec in (encoder.patch, encoder.region))
    return SlideRows(
        slide=slide,
        image=None if patches is None else encoder.encode_images(patches, regions),
        gene=encoder.encode_spots(slide),
        thumbnails=None if patches is None else [jpeg(patch) for patch in patches],
        overview=None if slide.image is None else jpeg(slide.image.overview(1024)),
        fingerprint=encoder.fingerprint,
    )


def _crops(slide: Slide, spec: PatchSpec) -> np.ndarray:
    width_px = spec.width_um / slide.mpp
    xy = slide.spots[["x_px", "y_px"]].to_numpy() - width_px / 2
    return np.stack([slide.image.read(x, y, width_px, spec.size_px) for x, y in xy])


def jpeg(pixels: np.ndarray) -> bytes:
    """Encode uint8 RGB as JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=85)
    return file.getvalue()


def toy_slides(n_slides: int = 3, n_spots: int = 40, seed: int = 0) -> list[Slide]:
    """Slides S1, S2, ...: two of each patient; breast and skin in turn by patient."""
    return [
        toy_slide(
            f"S{i + 1}",
            n_spots,
            seed + i,
            patient_id=f"P{i // 2 + 1}",
            organ=("breast", "skin")[i // 2 % 2],
        )
        for i in range(n_slides)
    ]


def toy_store(
    folder: Path,
    *,
    n_slides: int = 3,
    n_spots: int = 40,
    slides: list[Slide] | None = None,
    encoder: ToyEncoder | None = None,
) -> Store:
    """A store of toy slides at ``folder/store``; open it with `Searcher.open(path, encoder=...)`."""
    encoder = encoder or ToyEncoder()
    store = Store.create(Path(folder) / "store", EncoderCard.of(encoder))
    for slide in toy_slides(n_slides, n_spots) if slides is None else slides:
        store.add(toy_rows(slide, encoder))
    return store


def random_store(
    folder: Path, image: np.ndarray, gene: np.ndarray, *, n_slides: int = 2, n_genes: int = 2
) -> Store:
    """A store of given unit vectors, split into slides, without images: for index tests."""
    dim = image.shape[1]
    card = EncoderCard("vec", "0f0f", dim, 112.0, 224, 336.0, "none")
    store = Store.create(Path(folder) / "store", card)
    for number, rows in enumerate(np.array_split(np.arange(len(image)), n_slides)):
        slide = _plain_slide(f"S{number + 1}", len(rows), number, n_genes)
        store.add(SlideRows(slide, image[rows], gene[rows], None, None, card.fingerprint))
    return store


def _plain_slide(slide_id: str, n: int, number: int, n_genes: int) -> Slide:
    spots = pd.DataFrame(
        {"x_px": np.arange(n) * 10.0, "y_px": np.full(n, 5.0)},
        index=pd.Index([f"B{i}" for i in range(n)], name="barcode"),
    )
    return Slide(
        slide_id=slide_id,
        spots=spots,
        counts=csr_matrix(np.full((n, n_genes), number + 1, np.float32)),
        genes=TOY_GENES[:n_genes],
        image=None,
        mpp=1.0,
        spot_diameter_um=55.0,
        patient_id=f"P{number + 1}",
        organ=("breast", "skin")[number % 2],
    )
