"""Where the domains lie: tissue outline, tumour, its necrosis, aggregates, fat, normal ducts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from stamp_index.phantom.noise import rank01, resize, rng_for, sample, smooth_noise
from stamp_index.phantom.style import (
    DOMAINS,
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

PITCH_UM = 100.0  # Visium v1, centre to centre
SPOT_UM = 55.0  # Visium v1, diameter
ROW_UM = PITCH_UM * np.sqrt(3.0) / 2.0  # hexagonal array
COARSE_UM = 8.0
FINE_UM = 2.0
MARGIN_UM = 110.0
_COVER = 0.76  # share of array positions under tissue
_FULL_UM = 3700.0  # side of the array at the default size; smaller slides shrink their domains

_LOCAL = ("proliferation", "gland", "collagen", "follicle")  # states of one domain's cells
PROGRAMMES: tuple[str, ...] = (
    "proliferation",
    "hypoxia",
    "gland",
    "immune",
    "collagen",
    "follicle",
    "plasma",
    "vascular",
)


@dataclass(frozen=True)
class SpotArray:
    """A hexagonal array of capture spots.

    Attributes
    ----------
    array_row, array_col : ndarray of shape (m,), int64
        Position as Space Ranger numbers it.
    x_px, y_px : ndarray of shape (m,), float64
        Centres in level-0 pixels.
    size_px : int
        Side of the square image that holds the array.
    """

    array_row: NDArray[np.int64]
    array_col: NDArray[np.int64]
    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    size_px: int


@dataclass(frozen=True)
class Layout:
    """The plan of one slide, before any cell exists.

    Attributes
    ----------
    array : SpotArray
        All capture positions.
    in_tissue : ndarray of shape (m,), bool
        Which of them lie on tissue.
    labels : ndarray of shape (h, w), uint8
        Domain code per `FINE_UM` grid cell, `GLASS` outside the tissue.
    programmes : dict of str to ndarray, float32
        Continuous states in [0, 1] on the `COARSE_UM` grid.
    tumour_um : ndarray, float32
        Signed distance to the tumour's border on the `COARSE_UM` grid, positive inside.
    scale : float
        Size of structures relative to a full-size slide, at most 1.
    """

    array: SpotArray
    in_tissue: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    programmes: dict[str, NDArray[np.float32]]
    tumour_um: NDArray[np.float32]
    scale: float

    @property
    def size_px(self) -> int:
        """Side of the square image in level-0 pixels."""
        return self.array.size_px

    def programme(
        self, name: str, x_px: NDArray[np.floating], y_px: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Value of a continuous state at points given in level-0 pixels."""
        values: NDArray[np.float32] = sample(self.programmes[name], x_px, y_px, COARSE_UM / MPP)
        return values


def spot_array(n_spots: int) -> SpotArray:
    """Lay the array on which `n_spots` positions will be covered by tissue."""
    side_um = np.sqrt(n_spots / _COVER * PITCH_UM * ROW_UM)
    n_rows, n_cols = int(np.ceil(side_um / ROW_UM)), int(np.ceil(side_um / PITCH_UM))
    rows, cols = (g.ravel() for g in np.mgrid[:n_rows, :n_cols])
    x_um = MARGIN_UM + PITCH_UM * (cols + 0.5 * (rows % 2))
    y_um = MARGIN_UM + ROW_UM * rows
    extent_um = max(x_um.max(), y_um.max()) + MARGIN_UM
    size_px = int(np.ceil(extent_um / MPP / 16) * 16)
    return SpotArray(rows, 2 * cols + rows % 2, x_um / MPP, y_um / MPP, size_px)


def _outline(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> NDArray[np.float32]:
    """Depth inside the tissue in um, roughly; a noisy superellipse, tilted."""
    half = shape[0] * COARSE_UM / 2
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) * np.float32(COARSE_UM) - half
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    power = rng.uniform(2.2, 3.2)
    stretch = rng.uniform(0.88, 1.0)
    radius = (np.abs(u) ** power + np.abs(v / stretch) ** power) ** (1 / power)
    ragged = 190 * scale * smooth_noise(rng, shape, 420 * scale / COARSE_UM)
    ragged += 55 * scale * smooth_noise(rng, shape, 110 * scale / COARSE_UM)
    ragged += 9 * smooth_noise(rng, shape, 20 / COARSE_UM)
    rim_um = half - np.maximum(np.abs(x), np.abs(y))  # keeps a strip of glass around the tissue
    ragged -= 400 * scale * np.exp(-rim_um / (90 * scale))
    depth: NDArray[np.float32] = (half - radius + ragged).astype(np.float32)
    return depth


def _take(score: NDArray[np.float32], free: NDArray[np.bool_], n_cells: int) -> NDArray[np.bool_]:
    """Mark the `n_cells` free cells of highest score."""
    values = np.where(free, score, -np.inf)
    n_cells = min(n_cells, int(free.sum()))
    if n_cells == 0:
        return np.zeros_like(free)
    level = np.partition(values, -n_cells, axis=None)[-n_cells]
    taken: NDArray[np.bool_] = (values >= level) & free
    return taken


def _domains(
    rng: np.random.Generator,
    depth_um: NDArray[np.float32],
    style: PatientStyle,
    scale: float,
) -> NDArray[np.uint8]:
    """Divide the tissue: each domain takes its share of area where its score is highest."""
    shape, tissue = depth_um.shape, depth_um > 0
    total = int(tissue.sum())
    share = [int(a * total) for a in style.area]
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) * np.float32(COARSE_UM)
    y, x = y - y.mean(), x - x.mean()

    def rough(width_um: float) -> NDArray[np.float32]:
        return smooth_noise(rng, shape, width_um * scale / COARSE_UM)

    turn, reach = rng.uniform(0, 2 * np.pi), 620 * scale
    along = x * np.cos(turn) + y * np.sin(turn)
    labels = np.full(shape, GLASS, dtype=np.uint8)
    labels[tissue] = STROMA
    away = np.hypot(x - reach * np.cos(turn), y - reach * np.sin(turn))
    mass = -away + 230 * scale * rough(260) + 60 * scale * rough(70)
    mass += 0.4 * np.minimum(depth_um, 250 * scale)
    tumour = _take(mass, tissue, share[TUMOUR] + share[NECROSIS])
    inside = ndimage.distance_transform_edt(tumour).astype(np.float32) * np.float32(COARSE_UM)
    core = _take(np.minimum(inside, 320 * scale) + 85 * scale * rough(130), tumour, share[NECROSIS])
    labels[tumour], labels[core] = TUMOUR, NECROSIS
    fat_score = -along + 330 * scale * rough(300) + 60 * scale * rough(60)
    fat = _take(fat_score - 0.5 * np.minimum(depth_um, 400), labels == STROMA, share[FAT])
    labels[fat] = FAT
    outside = ndimage.distance_transform_edt(~tumour).astype(np.float32) * np.float32(COARSE_UM)
    margin = -np.abs(outside - 130 * scale) / (120 * scale) + 1.1 * rough(150)
    labels[_take(margin, labels == STROMA, share[LYMPHOID])] = LYMPHOID
    quiet = 0.9 * rough(170) + np.minimum(outside, 600 * scale) / (450 * scale)
    quiet += np.minimum(depth_um, 160 * scale) / (160 * scale)
    labels[_take(quiet, labels == STROMA, share[NORMAL])] = NORMAL
    return labels


def _refine(
    rng: np.random.Generator, coarse: NDArray[np.uint8], shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Redraw the domains on the fine grid with borders that cells, not squares, would make."""
    best = np.full(shape, -np.inf, dtype=np.float32)
    labels = np.full(shape, GLASS, dtype=np.uint8)
    rough = np.float32(0.11) * smooth_noise(rng, shape, 8.0)
    rough += np.float32(0.07) * smooth_noise(rng, shape, 3.0)
    np.clip(rough, -0.3, 0.3, out=rough)  # a rare peak must not make tissue on bare glass
    for code in [*range(len(DOMAINS)), GLASS]:
        soft = ndimage.gaussian_filter((coarse == code).astype(np.float32), 1.6)
        score = resize(soft, shape)
        # One noise field serves all: shifted by its own amount, it is new to every domain.
        score += np.roll(rough, (code % 8) * shape[0] // 9, axis=(code % 2))
        if code == GLASS:
            score -= np.float32(0.1)
        wins = score > best
        best[wins] = score[wins]
        labels[wins] = code
    return labels


def _programmes(
    rng: np.random.Generator,
    coarse: NDArray[np.uint8],
    style: PatientStyle,
    scale: float,
) -> dict[str, NDArray[np.float32]]:
    """Draw the continuous states; hypoxia follows the necrosis, the rest wander."""
    shape = coarse.shape
    width = 150.0 * max(scale, 0.4) / COARSE_UM
    # A state takes all its levels where it shows: a slide of one level would hold no programme.
    home = {"collagen": STROMA, "follicle": LYMPHOID}
    out = {}
    for name in PROGRAMMES:
        where = coarse == home.get(name, TUMOUR) if name in _LOCAL else coarse != GLASS
        out[name] = rank01(smooth_noise(rng, shape, width), where)
    far = ndimage.distance_transform_edt(coarse != NECROSIS).astype(np.float32)
    near = np.exp(-far * np.float32(COARSE_UM / (160 * scale)))
    out["hypoxia"] = np.clip(0.8 * near + 0.35 * out["hypoxia"] ** 2, 0, 1).astype(np.float32)
    # The stroma of normal lobules is loose: collagen is laid down around tumours.
    loose = ndimage.gaussian_filter((coarse == NORMAL).astype(np.float32), 3.0)
    out["collagen"] = out["collagen"] * (1 - np.float32(0.7) * loose)
    out["gland"] = np.clip(out["gland"] + style.gland - 0.5, 0, 1).astype(np.float32)
    return out


def make_layout(
    seed: int, patient: int, slide: int, *, n_spots: int, style: PatientStyle
) -> Layout:
    """Plan one slide.

    Parameters
    ----------
    seed, patient, slide : int
        Key of the randomness, all non-negative.
    n_spots : int
        Spots that shall lie on tissue, exactly.
    style : PatientStyle
        Traits of the patient.

    Returns
    -------
    Layout
        Array, tissue, domains and continuous states.
    """
    rng = rng_for(seed, patient, slide, 1)
    array = spot_array(n_spots)
    side_um = array.size_px * MPP
    scale = min(1.0, side_um / _FULL_UM)
    shape = (int(np.ceil(side_um / COARSE_UM)),) * 2
    depth = _outline(rng, shape, scale)
    at_spots = sample(depth, array.x_px, array.y_px, COARSE_UM / MPP)
    order = np.argsort(-at_spots, kind="stable")
    in_tissue = np.zeros(len(order), dtype=bool)
    in_tissue[order[:n_spots]] = True
    # Tissue reaches beyond its outermost spot, so that no spot hangs over the edge.
    depth = depth - np.float32(at_spots[order[n_spots - 1]] - 35.0)
    coarse = _domains(rng, depth, style, scale)
    fine = (int(np.ceil(side_um / FINE_UM)),) * 2
    tumour = np.isin(coarse, (TUMOUR, NECROSIS))
    signed = ndimage.distance_transform_edt(tumour) - ndimage.distance_transform_edt(~tumour)
    return Layout(
        array=array,
        in_tissue=in_tissue,
        labels=_refine(rng, coarse, fine),
        programmes=_programmes(rng, coarse, style, scale),
        tumour_um=(signed * COARSE_UM).astype(np.float32),
        scale=scale,
    )
