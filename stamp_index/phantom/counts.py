"""Counts per spot: what the drawn cells under it express, as a sequencer would report it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from stamp_index.phantom.cells import CELL_TYPES, Cells
from stamp_index.phantom.layout import FINE_UM, PROGRAMMES, SPOT_UM, Layout
from stamp_index.phantom.markers import profiles, programme_profiles
from stamp_index.phantom.materials import SEPTUM, Materials
from stamp_index.phantom.noise import rng_for
from stamp_index.phantom.style import DOMAINS, GLASS, MPP, STROMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MEDIAN_UMI = 5000.0  # per spot, what a good Visium section gives
_DEPTH_SPREAD = 0.30  # standard deviation of log depth
_AMBIENT = 0.06  # share of a spot's UMI that come from the whole slide
_DROPOUT = 0.02  # share of entries lost whatever their mean
_OVERDISPERSION = 0.08  # 1 / size of the negative binomial, median over genes
_PATIENT_BATCH, _SLIDE_BATCH = 0.16, 0.08  # standard deviation of log gene factors


@dataclass(frozen=True)
class SpotTruth:
    """What lies under the spots of a slide.

    Attributes
    ----------
    table : DataFrame of n rows
        ``barcode``, ``domain``, ``purity`` (share of the spot that lies in its domain),
        ``n_cells``, ``frac_<type>`` (shares of cells, they sum to 1) and ``prog_<state>``.
    expected : ndarray of shape (n, g), float64
        Mean RNA of the cells under each spot, before any technical effect.
    """

    table: pd.DataFrame
    expected: NDArray[np.float64]


def _members(cells: Cells, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> csr_matrix:
    """Sparse (spots, cells): the share of a cell's RNA that each spot catches."""
    tree = cKDTree(np.stack([cells.x_px, cells.y_px], axis=1))
    radius_px = SPOT_UM / 2 / MPP
    centres = np.stack([x_px, y_px], axis=1)
    found: Any = tree.query_ball_point(centres, radius_px, return_sorted=True)
    lengths = [len(f) for f in found]
    columns = np.concatenate([np.asarray(f, dtype=np.intp) for f in found])
    pointers = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix(
        (cells.weight[columns].astype(np.float64), columns, pointers),
        shape=(len(x_px), len(cells)),
    )


def _domain_shares(
    layout: Layout,
    code: NDArray[np.uint8],
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Share of each spot's disc per domain, glass left out; shape (n, 6).

    Septa inside the tumour count as stroma.
    """
    cell_px = FINE_UM / MPP
    reach = int(SPOT_UM / 2 / FINE_UM)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.hypot(dx, dy) * FINE_UM <= SPOT_UM / 2
    rows = np.clip((y_px / cell_px).astype(int)[:, None] + dy[disc], 0, layout.labels.shape[0] - 1)
    cols = np.clip((x_px / cell_px).astype(int)[:, None] + dx[disc], 0, layout.labels.shape[1] - 1)
    found = layout.labels[rows, cols]  # (n, pixels of the disc)
    found = np.where(code[rows, cols] == SEPTUM, STROMA, found)
    shares = np.stack([(found == d).mean(axis=1) for d in range(len(DOMAINS))], axis=1)
    shares[(found == GLASS).all(axis=1), STROMA] = 1.0
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def spot_truth(
    layout: Layout, materials: Materials, cells: Cells, barcodes: list[str]
) -> SpotTruth:
    """Collect the cells under every spot in tissue.

    Parameters
    ----------
    layout : Layout
        Spots, domains and continuous states.
    materials : Materials
        What lies between the cells.
    cells : Cells
        The cells that are drawn.
    barcodes : list of str, length n
        Names of the spots in tissue, in array order.

    Returns
    -------
    SpotTruth
        Rows in the order of `barcodes`.
    """
    x_px = layout.array.x_px[layout.in_tissue]
    y_px = layout.array.y_px[layout.in_tissue]
    member = _members(cells, x_px, y_px)
    base, extra = profiles(), programme_profiles()
    states = {k: layout.programme(k, cells.x_px, cells.y_px) for k in PROGRAMMES}
    states["loose"] = 1.0 - states["collagen"]
    expected = np.zeros((len(x_px), base.shape[1]))
    per_type = np.zeros((len(x_px), len(CELL_TYPES)))
    for code, kind in enumerate(CELL_TYPES):
        here = np.flatnonzero(cells.kind == code)
        mine = member[:, here]
        per_type[:, code] = np.asarray(mine.sum(axis=1)).ravel()
        expected += per_type[:, [code]] * base[code]
        for (programme, of_kind), profile in extra.items():
            if of_kind == kind:
                # Squared, so that a state is off in most cells and strong in few.
                level = mine @ (states[programme][here].astype(np.float64) ** 2)
                expected += level[:, None] * profile
    shares = _domain_shares(layout, materials.code, x_px, y_px)
    total = per_type.sum(axis=1, keepdims=True)
    fractions = np.where(total > 0, per_type / np.maximum(total, 1e-9), 1 / len(CELL_TYPES))
    # A domain is a contiguous area, as a pathologist outlines it: a spot on a thin septum whose cells are mostly
    # tumour lies in the tumour.
    domain = shares.argmax(axis=1)
    crossed = (domain == STROMA) & (fractions[:, CELL_TYPES.index("tumour")] >= 0.5)
    domain[crossed] = DOMAINS.index("tumour")
    table = pd.DataFrame({"barcode": barcodes, "domain": [DOMAINS[i] for i in domain]})
    table["purity"] = shares[np.arange(len(domain)), domain]
    table["n_cells"] = per_type.sum(axis=1)
    for code, kind in enumerate(CELL_TYPES):
        table[f"frac_{kind}"] = fractions[:, code]
    for name in PROGRAMMES:
        table[f"prog_{name}"] = layout.programme(name, x_px, y_px).astype(np.float64)
    return SpotTruth(table, expected)


def _batch(seed: int, patient: int, slide: int, n_genes: int) -> NDArray[np.float64]:
    """Gene-wise factors of a patient and of one slide."""
    shared = rng_for(seed, patient, 9011).normal(0, _PATIENT_BATCH, n_genes)
    own = rng_for(seed, patient, slide, 9012).normal(0, _SLIDE_BATCH, n_genes)
    return np.asarray(np.exp(shared + own))


def draw_counts(expected: NDArray[np.float64], *, key: tuple[int, int, int]) -> csr_matrix:
    """Draw UMI counts.

    Parameters
    ----------
    expected : ndarray of shape (n, g), float64
        RNA under each spot, any unit.
    key : tuple of int
        Seed, patient, slide.

    Returns
    -------
    csr_matrix of shape (n, g), int32
        Negative binomial counts: batch factors, ambient RNA, log-normal depth that grows with
        the RNA under the spot, gamma-Poisson noise and dropout.
    """
    rng = rng_for(*key, 8)
    n_spots, n_genes = expected.shape
    rna = expected.sum(axis=1)
    shares = (expected + 1e-9) * _batch(*key, n_genes)
    shares /= shares.sum(axis=1, keepdims=True)
    ambient = (expected.sum(axis=0) + 1e-9) / (expected.sum() + 1e-9 * n_genes)
    # A spot with little RNA of its own catches relatively more of what floats around.
    typical = float(np.median(rna[rna > 0])) if (rna > 0).any() else 1.0
    floating = _AMBIENT * typical / (_AMBIENT * typical + rna * (1 - _AMBIENT))
    shares = (1 - floating[:, None]) * shares + floating[:, None] * ambient
    depth = _MEDIAN_UMI * np.exp(rng.normal(0, _DEPTH_SPREAD, n_spots))
    depth *= np.clip((rna + 0.05 * typical) / typical, 0.05, 4) ** 0.6
    mean = depth[:, None] * shares
    size = 1.0 / (_OVERDISPERSION * rng_for(key[0], 9013).lognormal(0, 0.4, n_genes))
    rate = rng.gamma(np.broadcast_to(size, mean.shape), mean / size)
    drawn = rng.poisson(rate).astype(np.int32)
    drawn[rng.random(mean.shape) < _DROPOUT + 0.12 * np.exp(-mean)] = 0
    return csr_matrix(drawn)
