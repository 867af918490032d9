"""Slides whose spots are of known kinds, laid on arrays: for region search."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stamp_index.search import Region, Searcher
from stamp_index.slides.slide import Slide
from stamp_index.store import EncoderCard, SlideRows, Store

DIM = 24
CARD = EncoderCard("vec", "0f0f", DIM, 112.0, 224, 336.0, "none")
ENCODER = SimpleNamespace(name="vec", fingerprint=CARD.fingerprint, dim=DIM)


def kinds(n=6, dim=DIM):
    """Unit vectors at right angles, (n, dim)."""
    basis, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(dim, dim)))
    return basis[:n]


def array_um(columns=30, lines=30, pitch_um=100.0, *, hexagonal=True, start_um=(500.0, 700.0)):
    """Centres of an array of spots, line by line, (n, 2)."""
    line, column = np.divmod(np.arange(columns * lines), columns)
    if hexagonal:
        xy = np.stack([column + 0.5 * (line % 2), line * np.sqrt(3.0) / 2.0], axis=1)
    else:
        xy = np.stack([column, line], axis=1)
    return xy * pitch_um + np.array(start_um)


def disc(xy_um, centre_um, radius_um):
    """Which spots lie in a disc."""
    return np.hypot(*(xy_um - np.asarray(centre_um)).T) <= radius_um


def slide(slide_id, xy_um, vectors, *, patient="", mpp=0.5, noise=0.15, seed=0, gene=None):
    """A slide of the given kinds: unit vectors near `vectors` (n, d). `gene` are those of the other side."""
    rng = np.random.default_rng([seed, *slide_id.encode()])

    def near(values):
        noisy = values + rng.normal(size=values.shape) * noise / np.sqrt(values.shape[1])
        return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)

    xy_px = xy_um / (mpp or 1.0)
    made = Slide(
        slide_id=slide_id,
        spots=pd.DataFrame(
            {"x_px": xy_px[:, 0], "y_px": xy_px[:, 1]},
            index=pd.Index([f"B{i:05d}" for i in range(len(xy_um))], name="barcode"),
        ),
        counts=csr_matrix(rng.integers(1, 999, size=(len(xy_um), 1)).astype(np.float32)),
        genes=("ACTB",),
        image=None,
        mpp=mpp,
        spot_diameter_um=55.0,
        patient_id=patient or slide_id,
        organ="breast",
        source=slide_id,
    )
    image = near(vectors)
    return SlideRows(made, image, near(vectors if gene is None else gene), None, None, "0f0f")


def store_of(folder, *slides):
    store = Store.create(folder / "store", CARD)
    for rows in slides:
        store.add(rows)
    return store


def searcher_of(folder, *slides):
    return Searcher(store_of(folder, *slides), ENCODER)


def planted(where_um, radius_um, kind, *, around=0, xy_um=None):
    """Kind of each spot: `kind` in a disc, `around` elsewhere."""
    xy_um = array_um() if xy_um is None else xy_um
    return np.where(disc(xy_um, where_um, radius_um), kind, around)


def mixed(rng, n, share):
    """A kind for each of n spots: 1 for a share of them, 2 for the rest, scattered."""
    out = np.full(n, 2)
    out[rng.permutation(n)[: round(share * n)]] = 1
    return out


KINDS = kinds()
XY = array_um()
CENTRE = (1_900.0, 1_800.0)
ELSEWHERE = (1_200.0, 2_300.0)
THIRD = (2_600.0, 1_300.0)


def four_slides(folder):
    """Slide A holds a disc of kind 1 in kind 0; B and C hold one elsewhere; D holds none, but kind 3."""
    return searcher_of(
        folder,
        slide("A", XY, KINDS[planted(CENTRE, 320, 1)], patient="P1"),
        slide("B", XY, KINDS[planted(ELSEWHERE, 320, 1)], patient="P1"),
        slide("C", XY, KINDS[planted(THIRD, 320, 1)], patient="P2"),
        slide("D", XY, KINDS[planted(THIRD, 320, 3)], patient="P3"),
    )


def square(centre, half, slide_id="A", unit="um"):
    x, y = centre
    corners = [
        (x - half, y - half),
        (x + half, y - half),
        (x + half, y + half),
        (x - half, y + half),
    ]
    return Region(slide_id, corners, unit)


def circle(centre, radius, slide_id="A"):
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return Region(slide_id, np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius + centre)
