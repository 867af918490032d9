"""How many cells of each type lie where, and which look they have there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.phantom.cells import LOOK_CODE
from stamp_index.phantom.materials import (
    ADIPOSE,
    COLLAGEN,
    DEAD,
    EPITHELIUM,
    LOOSE,
    RETICULUM,
    SEPTUM,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.phantom.layout import Layout
    from stamp_index.phantom.style import PatientStyle


def densities(
    layout: Layout, style: PatientStyle, code: NDArray[np.uint8], xy: NDArray[np.floating]
) -> dict[str, NDArray[np.float32]]:
    """Cells per 1,000 square um of each type.

    Parameters
    ----------
    layout : Layout
        Continuous states.
    style : PatientStyle
        Traits of the patient.
    code : ndarray of shape (n,), uint8
        Material at each point.
    xy : ndarray of shape (n, 2)
        Points in level-0 px.

    Returns
    -------
    dict of str to ndarray of shape (n,), float32
        By cell type; types that lie in structures only are missing.
    """
    p = {k: layout.programme(k, xy[:, 0], xy[:, 1]) for k in layout.programmes}
    immune = style.immune * p["immune"] ** 2
    zone = 1 / (1 + np.exp(-14 * (p["follicle"] - 0.55)))  # B-cell follicle against T zone
    lush = np.clip(0.6 + p["collagen"], 0, 2)
    table: dict[str, dict[int, NDArray[np.float32] | float]] = {
        "tumour": {EPITHELIUM: 5.8 * (0.75 + 0.55 * p["proliferation"])},
        "cd8_t": {EPITHELIUM: 0.6 * immune, SEPTUM: 0.45 * immune, COLLAGEN: 0.3 * immune,
                  RETICULUM: 1.2 + 6.6 * (1 - zone), LOOSE: 0.5 * immune},
        "cd4_t": {SEPTUM: 1.0 * immune, COLLAGEN: 1.0 * immune, LOOSE: 0.5 * immune,
                  RETICULUM: 2.0 + 4.5 * (1 - zone)},
        "b_cell": {SEPTUM: 0.2 * immune, COLLAGEN: 0.3 * immune, RETICULUM: 1.5 + 9.5 * zone},
        "plasma": {SEPTUM: 0.6 * p["plasma"] ** 2, COLLAGEN: 2.2 * p["plasma"] ** 3,
                   RETICULUM: 1.2 * p["plasma"] ** 2, LOOSE: 0.6 * p["plasma"] ** 2},
        "fibroblast": {SEPTUM: 2.6 * lush, COLLAGEN: 1.5 * lush, LOOSE: 1.3, RETICULUM: 0.3,
                       ADIPOSE: 0.10},
        "endothelial": {SEPTUM: 0.7, COLLAGEN: 0.25 + 0.4 * p["vascular"], LOOSE: 0.3,
                        RETICULUM: 0.4, ADIPOSE: 0.20, EPITHELIUM: 0.1 * p["vascular"]},
        "macrophage": {EPITHELIUM: 0.15, SEPTUM: 0.5, COLLAGEN: 0.3, RETICULUM: 0.35,
                       ADIPOSE: 0.05 + 0.4 * p["immune"] ** 3, DEAD: 0.5, LOOSE: 0.1},
        "neutrophil": {DEAD: 0.6 + 2.6 * p["immune"], EPITHELIUM: 0.25 * p["hypoxia"] ** 3},
        "debris": {DEAD: 4.0 - 1.6 * p["immune"], EPITHELIUM: 0.4 * p["hypoxia"] ** 2},
    }  # fmt: skip
    out = {}
    for kind, by_code in table.items():
        density = np.zeros(len(xy), dtype=np.float32)
        for material, value in by_code.items():
            here = code == material
            density[here] = np.broadcast_to(np.asarray(value, dtype=np.float32), code.shape)[here]
        out[kind] = density
    return out


def looks(
    rng: np.random.Generator, kind: str, layout: Layout, xy: NDArray[np.floating]
) -> NDArray[np.int8]:
    """Choose the looks of cells of one type; they follow the continuous states at `xy` (px)."""
    luck = rng.random(len(xy))
    if kind == "tumour":
        grow = layout.programme("proliferation", xy[:, 0], xy[:, 1])
        starve = layout.programme("hypoxia", xy[:, 0], xy[:, 1])
        names = np.where(luck < 0.85 * grow, LOOK_CODE["tumour_dividing"], LOOK_CODE["tumour"])
        names = np.where(rng.random(len(xy)) < 0.035 * grow**2, LOOK_CODE["mitosis"], names)
        names = np.where(rng.random(len(xy)) < starve, LOOK_CODE["tumour_hypoxic"], names)
    elif kind == "debris":
        dead = layout.programme("immune", xy[:, 0], xy[:, 1])
        names = np.where(luck < 0.30 + 0.2 * dead, LOOK_CODE["fragment"], LOOK_CODE["ghost"])
        names = np.where(luck > 0.80, LOOK_CODE["pyknotic"], names)
    elif kind == "b_cell":
        centre = layout.programme("follicle", xy[:, 0], xy[:, 1])
        names = np.where(
            luck < np.clip(3 * (centre - 0.66), 0, 0.8),
            LOOK_CODE["centroblast"],
            LOOK_CODE["lymphocyte"],
        )
    else:
        plain = "lymphocyte" if kind in ("cd8_t", "cd4_t") else kind
        names = np.full(len(xy), LOOK_CODE[plain])
    return names.astype(np.int8)
