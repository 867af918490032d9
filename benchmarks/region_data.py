"""Slides with spots of known kinds, for the benchmarks of region search: the phantom's truth, a store's labels, or made tissue."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stamp_index.phantom import load_truth
from stamp_index.search.regions.grid import lattice_of, make_grid
from stamp_index.slides import Slide
from stamp_index.store import SlideRows, Store

RADIUS_UM = 300.0


@dataclass(frozen=True)
class Known:
    """A slide whose spots are of known kinds."""

    slide_id: str
    patient: str
    rows: np.ndarray
    xy_um: np.ndarray
    kind: np.ndarray  # (n, kinds), 0 or 1

    @cached_property
    def discs(self):  # noqa: ANN201
        """Which spots lie within the radius of which."""
        return self.grid.within(RADIUS_UM)

    @cached_property
    def grid(self):  # noqa: ANN201
        """Which spots touch."""
        return make_grid(self.xy_um, lattice_of(self.xy_um), 1.0)

    @cached_property
    def shares(self) -> np.ndarray:
        """Share of each kind in the disc around every spot, 0 where the disc reaches off the tissue."""
        n = np.diff(self.discs.indptr)
        shares = (self.discs @ self.kind) / n[:, None]
        return np.where((n >= 0.8 * np.quantile(n, 0.9))[:, None], shares, 0.0)


def known_slides(store: Store, truth: Path | None, label: str) -> tuple[list[Known], list[str]]:
    """Slides with a kind for each spot, and the names of the kinds."""
    texts = []
    about = store.slides()
    for first, n, slide_id in about[["first_spot", "n_spots", "slide_id"]].itertuples(index=False):
        rows = first + np.arange(n)
        if truth is None:
            texts.append(store.label(label, rows).fillna("").astype(str).to_numpy(str))
        else:
            barcodes = store.spots(["barcode"], rows)["barcode"]
            table = load_truth(truth / slide_id).set_index("barcode")
            texts.append(table.loc[barcodes, "domain"].to_numpy(str))
    names = sorted(set(np.concatenate(texts)) - {""})
    slides = []
    for (_, slide), text in zip(about.iterrows(), texts, strict=True):
        rows = slide["first_spot"] + np.arange(slide["n_spots"])
        xy_um = store.spots(["x_um", "y_um"], rows).to_numpy()
        kind = (text[:, None] == np.array(names)).astype(np.float64)
        slides.append(
            Known(slide["slide_id"], slide["patient_id"] or slide["slide_id"], rows, xy_um, kind)
        )
    return slides, names


def largest_area(
    slide: Known, of_label: np.ndarray, touching: np.ndarray | None = None
) -> np.ndarray:
    """Largest connected area of a label, or the one that shares most spots with others."""
    units = np.flatnonzero(of_label)
    _, part = connected_components(slide.grid.touching[units][:, units], directed=False)
    sizes = np.bincount(part, None if touching is None else touching[units] + 1e-6)
    area = np.zeros(len(of_label), bool)
    area[units[part == sizes.argmax()]] = True
    return area


# ---- made tissue: kinds in patches, and planted mixtures ----------------------------------------

DIM, SPOTS = 128, 1_000
EVERY = 8  # slides, from one with a planted mixture to the next
COMMON, MIXED, DECOY = 10, (10, 11), 12  # kinds 0 to 9 are anywhere, 10 and 11 alone on some slides
PLANTED_UM = 350.0


def made_slide(number: int):  # noqa: ANN201
    """Return vectors, positions and planted spots (or None) of a slide that has its tissue in patches."""
    rng = np.random.default_rng([9, number])
    line, column = np.divmod(np.arange(SPOTS), 32)
    xy_um = np.stack([column + 0.5 * (line % 2), line * np.sqrt(3) / 2], axis=1) * 100.0 + 200.0
    centres = rng.uniform(200, 3_200, size=(12, 2))
    alone = {2: MIXED[:1], 6: MIXED[1:]}.get(number % EVERY, ())  # so that no border holds both
    held = [*rng.choice(COMMON, 4, replace=False), *alone]
    nearest = ((xy_um[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    kind = np.array(held)[rng.integers(len(held), size=12)][nearest]
    inside = np.hypot(*(xy_um - rng.uniform(700, 2_700, 2)).T) <= PLANTED_UM
    if number % EVERY == 0:
        kind[inside] = np.array(MIXED)[rng.permutation(inside.sum()) % 2]
    if number % EVERY == 4:
        kind[inside] = DECOY
    base = np.random.default_rng(8).normal(size=(13, DIM))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    base[DECOY] = base[list(MIXED)].sum(axis=0) / np.sqrt(2)
    slide_shift = rng.normal(size=DIM) * 0.3 / np.sqrt(DIM)
    vectors = base[kind] + slide_shift + rng.normal(size=(SPOTS, DIM)) * 0.5 / np.sqrt(DIM)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), xy_um, inside if number % EVERY == 0 else None


def add_slide(store: Store, number: int) -> None:
    """Add a made slide to a store."""
    vectors, xy_um, _ = made_slide(number)
    barcodes = pd.Index([f"B{i}" for i in range(SPOTS)], name="barcode")
    slide = Slide(
        slide_id=f"S{number:05d}", spots=pd.DataFrame({"x_px": xy_um[:, 0], "y_px": xy_um[:, 1]}, index=barcodes),
        counts=csr_matrix(np.full((SPOTS, 1), number + 1, np.float32)), genes=("ACTB",), image=None, mpp=1.0,
        spot_diameter_um=55.0, patient_id=f"P{number}",
    )  # fmt: skip
    store.add(SlideRows(slide, vectors, vectors, None, None, store.card.fingerprint))


@dataclass(frozen=True)
class NoEncoder:
    """Stands for the encoder that made the vectors."""

    fingerprint: str
    dim: int = DIM
    name: str = "made"
