"""What lies between the nuclei: nests and septa, collagen and its direction, on the fine grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from stamp_index.phantom.layout import FINE_UM, Layout
from stamp_index.phantom.noise import resize, rng_for, smooth_noise
from stamp_index.phantom.style import (
    FAT,
    GLASS,
    LYMPHOID,
    MPP,
    NECROSIS,
    NORMAL,
    STROMA,
    TUMOUR,
    PatientStyle,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

PHI_UM = 4.0

# Code of each material in `Materials.code`; the order is that of `MATERIALS`.
MATERIALS: tuple[str, ...] = (
    "epithelium",
    "septum",
    "stroma",
    "reticulum",
    "fat",
    "necrosis",
    "loose",
)
EPITHELIUM, SEPTUM, COLLAGEN, RETICULUM, ADIPOSE, DEAD, LOOSE = range(7)


@dataclass(frozen=True)
class Materials:
    """The ground that cells lie in.

    Attributes
    ----------
    code : ndarray of shape (h, w), uint8
        Material per `FINE_UM` cell, `GLASS` where there is none.
    soft : list of ndarray of shape (h, w), uint8
        Share of each material, blurred by one cell, 0 to 255, in the order of `MATERIALS`.
    phi : ndarray, float32
        Potential in px on the `PHI_UM` grid; fibres follow its level lines.
    along : tuple of 2 float
        Direction (x, y) of the fibres on average.
    """

    code: NDArray[np.uint8]
    soft: list[NDArray[np.uint8]]
    phi: NDArray[np.float32]
    along: tuple[float, float]

    def fibre_angle(self) -> NDArray[np.float32]:
        """Direction of the fibres in radians on the `PHI_UM` grid."""
        gy, gx = np.gradient(ndimage.gaussian_filter(self.phi, 2.0))
        angle: NDArray[np.float32] = (np.arctan2(gy, gx) + np.pi / 2).astype(np.float32)
        return angle


def _nests(
    rng: np.random.Generator, labels: NDArray[np.uint8], style: PatientStyle
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]:
    """Epithelium, clefts around it, and the field whose level lines run along its border.

    The zero lines of a noise field make a net of thin septa around rounded nests, as the
    stroma of a carcinoma does; thresholding the field itself would make islands of both.
    """
    shape = labels.shape
    sigma = style.nest_um / FINE_UM / 2.6
    stretched = (
        (sigma * style.nest_stretch, sigma)
        if rng.random() < 0.5
        else (sigma, sigma * style.nest_stretch)
    )
    field = np.abs(smooth_noise(rng, shape, stretched))
    field = np.minimum(field, np.float32(0.85) * np.abs(smooth_noise(rng, shape, sigma * 2.4)))
    rough = field + np.float32(0.05) * smooth_noise(rng, shape, 2.5)
    in_tumour = labels == TUMOUR
    if not in_tumour.any():
        return in_tumour, in_tumour, field
    level = np.quantile(rough[in_tumour][::7], 1 - style.nest_share)
    epithelium = in_tumour & (rough > level)
    gap = np.float32(0.10) * np.clip(smooth_noise(rng, shape, 30.0) - 0.3, 0, 1)
    cleft = in_tumour & ~epithelium & (rough > level - gap)
    return epithelium, cleft, field


def _potential(
    rng: np.random.Generator, layout: Layout, nest_field: NDArray[np.float32]
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Field whose level lines are fibres: a main direction, bent, wrapped around the tumour."""
    side = int(np.ceil(layout.size_px * MPP / PHI_UM))
    shape = (side, side)
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[:side, :side].astype(np.float32) * np.float32(PHI_UM / MPP)
    across = -x * np.sin(turn) + y * np.cos(turn)
    s = x * np.cos(turn) + y * np.sin(turn)
    phi = across + 95 * smooth_noise(rng, shape, 130 / PHI_UM)
    phi += 15 * smooth_noise(rng, shape, 45 / PHI_UM)
    around = resize(layout.tumour_um, shape) / np.float32(MPP)
    phi += 0.9 * around * np.exp(-np.abs(around) / 400)
    nest = resize(nest_field, shape)
    phi += np.where(around > -40, 60 * nest, 0)
    crimp = 2 * np.pi * s / 64 + 2.5 * smooth_noise(rng, shape, 60 / PHI_UM)
    phi += 2.6 * np.sin(crimp) * (0.6 + 0.4 * smooth_noise(rng, shape, 80 / PHI_UM))
    return phi.astype(np.float32), (float(np.cos(turn)), float(np.sin(turn)))


def make_materials(layout: Layout, style: PatientStyle, *, key: tuple[int, ...]) -> Materials:
    """Fill the domains with the ground that their cells lie in.

    Parameters
    ----------
    layout : Layout
        Domains.
    style : PatientStyle
        Architecture of the tumour.
    key : tuple of int
        Key of the randomness.

    Returns
    -------
    Materials
    """
    rng = rng_for(*key, 2)
    labels = layout.labels
    epithelium, cleft, nest_field = _nests(rng, labels, style)
    code = np.full(labels.shape, GLASS, dtype=np.uint8)
    for domain, material in (
        (TUMOUR, SEPTUM),
        (STROMA, COLLAGEN),
        (LYMPHOID, RETICULUM),
        (FAT, ADIPOSE),
        (NECROSIS, DEAD),
        (NORMAL, LOOSE),
    ):
        code[labels == domain] = material
    code[epithelium] = EPITHELIUM
    tears = smooth_noise(rng, labels.shape, 25.0) + 0.4 * smooth_noise(rng, labels.shape, 5.0)
    torn = cleft | ((labels == NECROSIS) & (tears > 2.1)) | ((labels == STROMA) & (tears > 2.5))
    code[torn] = GLASS
    soft = []
    for material in range(len(MATERIALS)):
        share = (code == material).astype(np.uint8) * np.uint8(255)
        soft.append(ndimage.uniform_filter(share, 3))
    phi, along = _potential(rng, layout, nest_field)
    return Materials(code, soft, phi, along)
