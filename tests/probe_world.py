"""Stores of given vectors, labels, patients and positions, for tests of probes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.slides.slide import Slide
from stamp_index.store import EncoderCard, SlideRows, Store

GENES = ("CD8A", "EPCAM", "ACTB")
CLASSES = ("fat", "stroma", "tumour")


def unit(vectors):
    """The same directions, of length 1, as a store wants them."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def grid_px(n, columns=10, pitch=100.0):
    """Centres of n spots in lines; at 1 um per pixel."""
    at = np.arange(n)
    return np.column_stack([at % columns, at // columns]) * pitch + 50.0


def probe_slide(
    slide_id,
    labels,
    *,
    patient="",
    xy=None,
    counts=None,
    genes=GENES,
    name="region",
    mpp=1.0,
):
    """A slide without image, whose spots have the label `name`."""
    n = len(labels)
    xy = grid_px(n) if xy is None else xy
    spots = pd.DataFrame(
        {"x_px": xy[:, 0], "y_px": xy[:, 1], name: labels},
        index=pd.Index([f"B{i:05d}" for i in range(n)], name="barcode"),
    )
    if counts is None:  # unlike any other slide's, which a store would take for a copy
        rng = np.random.default_rng(list(slide_id.encode()))
        counts = rng.poisson(5.0, (n, len(genes)))
    return Slide(
        slide_id=slide_id,
        spots=spots,
        counts=csr_matrix(np.asarray(counts, np.float32)),
        genes=tuple(genes),
        image=None,
        mpp=mpp,
        spot_diameter_um=55.0,
        patient_id=patient,
    )


def probe_store(folder, slides, vectors, *, image=True):
    """A store at ``folder/store``: one (n, d) array of unit vectors for each slide."""
    dim = vectors[0].shape[1]
    card = EncoderCard("vec", "0f0f", dim, 112.0, 224, 336.0, "none")
    store = Store.create(Path(folder) / "store", card)
    for number, (slide, values) in enumerate(zip(slides, vectors, strict=True)):
        with_image = image if isinstance(image, bool) else image[number]
        rows = values if with_image else None
        store.add(SlideRows(slide, rows, values, None, None, card.fingerprint))
    return store


def random_world(folder, *, n_slides=4, n=60, dim=8, signal=1.0, seed=0, n_patients=None):
    """Slides with random classes that shift the vectors by `signal`, and a gene that follows one direction."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(CLASSES), dim))
    slides, vectors = [], []
    for number in range(n_slides):
        kind = rng.integers(0, len(CLASSES), n)
        values = unit(signal * centres[kind] + rng.normal(size=(n, dim)))
        rate = np.column_stack(
            [200 * np.exp(2 * values[:, 0]), np.full(n, 200.0), np.full(n, 800.0)]
        )
        patient = f"P{number % (n_patients or n_slides) + 1}"
        labels = [CLASSES[one] for one in kind]
        slides.append(
            probe_slide(f"S{number + 1}", labels, patient=patient, counts=rng.poisson(rate))
        )
        vectors.append(values)
    return probe_store(folder, slides, vectors)


def correlated_noise_world(folder, *, n_slides=4, seed=0):
    """Labels in regions and vectors that vary smoothly over the tissue, with nothing to do with each other.

    Each slide has its own smooth pattern, so what is learnt of one says nothing of another; but a spot's neighbour
    has nearly its vector and mostly its label.
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    side, dim = 16, 64
    slides, vectors = [], []
    for number in range(n_slides):
        smooth = [gaussian_filter(rng.normal(size=(side, side)), 2.0) for _ in range(dim)]
        values = np.stack(smooth, axis=-1).reshape(side * side, dim)
        field = gaussian_filter(rng.normal(size=(side, side)), 2.0).ravel()
        labels = np.where(field > np.median(field), "inside", "outside").tolist()
        xy = grid_px(side * side, columns=side)
        slides.append(probe_slide(f"S{number + 1}", labels, patient=f"P{number + 1}", xy=xy))
        vectors.append(unit(values))
    return probe_store(folder, slides, vectors)
