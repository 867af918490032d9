"""Hollow structures: lumens of tumour glands, normal ducts and acini, vessels, adipocytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import Voronoi, cKDTree

from stamp_index.phantom.layout import FINE_UM, Layout
from stamp_index.phantom.materials import ADIPOSE, COLLAGEN, EPITHELIUM, LOOSE, SEPTUM, Materials
from stamp_index.phantom.noise import rng_for, sample, smooth_noise
from stamp_index.phantom.nuclei import polar_grid
from stamp_index.phantom.style import GLASS, GLASS_E, GLASS_H, MPP, PatientStyle

if TYPE_CHECKING:
    from numpy.typing import NDArray

_N_TURNS = 1024
_MAX_RADIUS_PX = 150.0
_TURNS = np.linspace(-np.pi, np.pi, _N_TURNS, endpoint=False)


@dataclass(frozen=True)
class Ring:
    """A lumen with a wall.

    Attributes
    ----------
    kind : str
        ``gland``, ``duct`` or ``vessel``.
    x_px, y_px : float
        Centre.
    radius_px : ndarray of shape (1024,), float32
        Radius of the lumen per direction, from -pi.
    wall_px : float
        Thickness of the wall.
    """

    kind: str
    x_px: float
    y_px: float
    radius_px: NDArray[np.float32]
    wall_px: float

    def at(self, theta: NDArray[np.floating]) -> NDArray[np.float32]:
        """Radius of the lumen in px in the directions `theta` (radians)."""
        index = ((np.asarray(theta) + np.pi) / (2 * np.pi) * _N_TURNS).astype(int) % _N_TURNS
        radius: NDArray[np.float32] = self.radius_px[index]
        return radius


@dataclass(frozen=True)
class Adipocyte:
    """One fat cell.

    Attributes
    ----------
    corners : ndarray of shape (c, 2), float64
        Rounded outline of the fat droplet in level-0 px, (x, y).
    whole : bool
        Whether the cell lies in the section; others are cut open at its edge and hold no RNA.
    """

    corners: NDArray[np.float64]
    whole: bool


def _scatter(
    rng: np.random.Generator, size_px: int, step_px: float, jitter: float
) -> NDArray[np.float64]:
    """Points (x, y) of a hexagonal grid with jitter, in random order."""
    n_rows = int(size_px / (step_px * 0.866)) + 2
    n_cols = int(size_px / step_px) + 2
    r, c = (g.ravel() for g in np.mgrid[:n_rows, :n_cols])
    points = np.stack([(c + 0.5 * (r % 2)) * step_px, r * step_px * 0.866], axis=1)
    points = points + rng.normal(0, jitter * step_px, points.shape)
    return points[rng.permutation(len(points))]


def _shape(
    rng: np.random.Generator, radius_px: float, wobble: float, stretch: float
) -> NDArray[np.float32]:
    """Radius per direction of an irregular ellipse."""
    ratio = np.exp(abs(rng.normal(0, stretch)))
    a, b, turn = radius_px * np.sqrt(ratio), radius_px / np.sqrt(ratio), rng.uniform(0, np.pi)
    t = _TURNS - turn
    out = a * b / np.sqrt((b * np.cos(t)) ** 2 + (a * np.sin(t)) ** 2)
    for k in range(2, 7):
        out = out * (1 + wobble * rng.normal() / (k - 0.5) * np.cos(k * t + rng.uniform(0, 6.3)))
    radius: NDArray[np.float32] = np.clip(out, 2.0, _MAX_RADIUS_PX).astype(np.float32)
    return radius


def _apart(kept: list[Ring], rings: list[Ring], gap_px: float) -> list[Ring]:
    """Add rings in order, each only if it stays clear of those already there."""
    kept = list(kept)
    xyr = np.empty((len(kept) + len(rings), 3))
    for i, ring in enumerate(kept):
        xyr[i] = (ring.x_px, ring.y_px, float(ring.radius_px.max()) + ring.wall_px)
    for ring in rings:
        reach = float(ring.radius_px.max()) + ring.wall_px
        seen = xyr[: len(kept)]
        away = np.hypot(seen[:, 0] - ring.x_px, seen[:, 1] - ring.y_px)
        if not (away < 0.92 * (seen[:, 2] + reach) + gap_px).any():
            xyr[len(kept)] = (ring.x_px, ring.y_px, reach)
            kept.append(ring)
    return kept


def _inside(ring: Ring, materials: Materials, codes: tuple[int, ...]) -> bool:
    """Whether a ring's outer border stays in its own materials almost all around."""
    theta = _TURNS[:: _N_TURNS // 16]
    reach = ring.at(theta) + ring.wall_px
    x, y = ring.x_px + reach * np.cos(theta), ring.y_px + reach * np.sin(theta)
    code = sample(materials.code, x, y, FINE_UM / MPP)
    return bool(np.isin(code, codes).mean() > 0.85 and not (code == GLASS).any())


def make_rings(
    layout: Layout, materials: Materials, style: PatientStyle, *, key: tuple[int, ...]
) -> list[Ring]:
    """Place glands in the tumour, ducts and acini in normal tissue, vessels in the stroma."""
    rng = rng_for(*key, 3)
    size, cell = layout.size_px, FINE_UM / MPP
    plans = (
        ("gland", (EPITHELIUM,), 34.0, (5.0, 24.0), 0.24, 0.4, 13.0),
        ("duct", (LOOSE,), 36.0, (1.5, 8.0), 0.15, 0.5, 14.5),
        ("vessel", (COLLAGEN, SEPTUM, LOOSE), 72.0, (4.5, 15.0), 0.08, 0.5, 3.2),
    )
    rings: list[Ring] = []
    for kind, codes, step_um, (low, high), wobble, stretch, wall_um in plans:
        points = _scatter(rng, size, step_um / MPP, 0.22)
        x, y = points[:, 0], points[:, 1]
        inside = (x > 60) & (y > 60) & (x < size - 60) & (y < size - 60)
        inside &= np.isin(sample(materials.code, x, y, cell), codes)
        luck = rng.random(len(x))
        if kind == "gland":
            inside &= luck < 1.1 * layout.programme("gland", x, y) ** 1.5
        elif kind == "duct":
            lobule = smooth_noise(rng, (size // 64 + 2,) * 2, 55.0 / 32.0)
            inside &= sample(lobule, x, y, 64.0) > -1.0
        elif kind == "vessel":
            inside &= luck < 0.06 + 0.65 * layout.programme("vascular", x, y) ** 2
        found = []
        for px, py in points[inside]:
            wide = rng.random() < 0.12  # a duct among acini, a venule among capillaries
            radius = rng.uniform(high, 2.4 * high) if wide else rng.uniform(low, high)
            shape = _shape(rng, radius / MPP, wobble, stretch)
            found.append(Ring(kind, float(px), float(py), shape, wall_um / MPP))
        home = (EPITHELIUM, SEPTUM) if kind == "gland" else codes
        found = [r for r in found if _inside(r, materials, home)]
        rings = _apart(rings, found, 1.0 / MPP)
    return rings


def _smooth_polygon(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut the corners of a polygon twice (Chaikin), so that membranes bend."""
    for _ in range(2):
        ahead = np.roll(corners, -1, axis=0)
        corners = np.stack([0.78 * corners + 0.22 * ahead, 0.22 * corners + 0.78 * ahead], axis=1)
        corners = corners.reshape(-1, 2)
    return corners


def make_adipocytes(
    layout: Layout, materials: Materials, style: PatientStyle, *, key: tuple[int, ...]
) -> list[Adipocyte]:
    """Pack the fat with polygons of unequal size whose borders are thin membranes."""
    rng = rng_for(*key, 4)
    points = _scatter(rng, layout.size_px, style.fat_um / MPP, 0.24)
    code = sample(materials.code, points[:, 0], points[:, 1], FINE_UM / MPP)
    reach = 2.5 * style.fat_um / MPP
    if not (code == ADIPOSE).any():
        return []
    near, _ = cKDTree(points[code == ADIPOSE]).query(points)
    points, code = points[near < reach], code[near < reach]
    if len(points) < 8:
        return []
    diagram = Voronoi(points)
    cells = []
    # Droplets also open where the section's edge cuts through fat: they leave no thick rim.
    for i in np.flatnonzero((code == ADIPOSE) | (code == GLASS)):
        region = diagram.regions[diagram.point_region[i]]
        if not region or -1 in region:
            continue
        corners = diagram.vertices[region]
        middle = corners.mean(axis=0)
        arms = corners - middle
        length = np.hypot(arms[:, 0], arms[:, 1])[:, None]
        gap = rng.uniform(0.5, 1.7) / MPP
        corners = middle + arms * np.clip((length - gap) / np.maximum(length, 1), 0.3, 1)
        if length.max() < 1.6 * style.fat_um / MPP:
            cells.append(Adipocyte(_smooth_polygon(corners), bool(code[i] == ADIPOSE)))
    return cells


_HALF = 190
_RHO, _THETA = polar_grid(_HALF)
_TURN = ((_THETA + np.pi) / (2 * np.pi) * _N_TURNS).astype(np.int32) % _N_TURNS


def draw_ring(
    ring: Ring, h_map: NDArray[np.uint8], e_map: NDArray[np.uint8], rng: np.random.Generator
) -> None:
    """Draw wall and lumen into the two dye maps, in place."""
    reach = int(min(_HALF, np.ceil(ring.radius_px.max() + ring.wall_px + 4)))
    x, y = round(ring.x_px), round(ring.y_px)
    reach = min(reach, x, y, h_map.shape[1] - x - 1, h_map.shape[0] - y - 1)
    if reach < 3:
        return
    window = slice(_HALF - reach, _HALF + reach + 1)
    depth = _RHO[window, window] - ring.radius_px[_TURN[window, window]]
    here = (slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1))
    h, e = h_map[here].astype(np.float32), e_map[here].astype(np.float32)
    lumen = np.clip(0.5 - depth / 1.5, 0, 1)
    edge = np.exp(-((depth - 1.0) ** 2) / 3.0)
    wall = np.clip(depth + 0.5, 0, 1) * np.clip(ring.wall_px - depth + 0.5, 0, 1)
    if ring.kind == "duct":
        h, e = h * (1 - wall) + 34 * wall, e * (1 - wall) + 68 * wall
        e += 55 * np.exp(-((depth - ring.wall_px - 1.0) ** 2) / 3.0)
    elif ring.kind == "gland":
        h, e = h * (1 - wall) + 40 * wall, e * (1 - wall) + 64 * wall
    else:
        e = e * (1 - wall) + 105 * wall
    e += edge * (30 if ring.kind != "vessel" else 10)
    filled = rng.random() < (0.3 if ring.kind == "gland" else 0.15)
    content = rng.uniform(30, 75) if filled and ring.kind != "vessel" else GLASS_E + 0.5
    h_map[here] = np.clip(h * (1 - lumen), GLASS_H, 255).astype(np.uint8)
    e_map[here] = np.clip(e * (1 - lumen) + content * lumen, 0, 255).astype(np.uint8)


def draw_adipocyte(cell: Adipocyte, h_map: NDArray[np.uint8], e_map: NDArray[np.uint8]) -> None:
    """Empty the droplet's outline in the two dye maps, in place."""
    low = np.maximum(np.floor(cell.corners.min(axis=0)).astype(int) - 2, 0)
    high = np.ceil(cell.corners.max(axis=0)).astype(int) + 3
    high = np.minimum(high, (h_map.shape[1], h_map.shape[0]))
    if (high - low).min() < 4:
        return
    width, height = int(high[0] - low[0]), int(high[1] - low[1])
    canvas = Image.new("L", (2 * width, 2 * height), 255)
    points = [(float(px), float(py)) for px, py in (cell.corners - low) * 2]
    ImageDraw.Draw(canvas).polygon(points, fill=6)
    keep = np.asarray(canvas.reduce(2), dtype=np.uint16)
    here = (slice(low[1], high[1]), slice(low[0], high[0]))
    h_map[here] = np.maximum((h_map[here] * keep) >> 8, GLASS_H)
    e_map[here] = np.maximum((e_map[here] * keep) >> 8, GLASS_E)
