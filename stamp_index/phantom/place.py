"""Place cells: scattered ones by density, those of ducts, glands, vessels and fat by structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from stamp_index.phantom.cells import Cells, join, relax, some_cells
from stamp_index.phantom.densities import densities, looks
from stamp_index.phantom.layout import FINE_UM
from stamp_index.phantom.materials import PHI_UM
from stamp_index.phantom.noise import rng_for, sample
from stamp_index.phantom.style import GLASS, MPP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.phantom.layout import Layout
    from stamp_index.phantom.materials import Materials
    from stamp_index.phantom.rings import Adipocyte, Ring
    from stamp_index.phantom.style import PatientStyle

_WANDERING = ("cd8_t", "cd4_t", "b_cell", "plasma")
_BLOCK = 4  # fine cells per side of a sampling block


def _z_order(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.intp]:
    """Order of grid cells along Morton's curve, which keeps neighbours together."""
    code = np.zeros(len(rows), dtype=np.int64)
    for bit in range(12):
        code |= ((cols >> bit) & 1).astype(np.int64) << (2 * bit)
        code |= ((rows >> bit) & 1).astype(np.int64) << (2 * bit + 1)
    return np.argsort(code, kind="stable")


def _evenly(
    rng: np.random.Generator, mean: NDArray[np.float32], order: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Whole numbers of the given means, as even as cells that jostle for room.

    Independent Poisson numbers leave holes and heaps that tissue does not have; counting along a
    space-filling curve gives every neighbourhood the number that its density asks for.
    """
    rise = np.cumsum(mean[order].astype(np.float64)) + rng.random()
    steps = np.diff(np.floor(rise), prepend=0.0).astype(np.int64)
    out = np.empty(len(mean), dtype=np.int64)
    out[order] = steps
    return out


def _scattered(
    rng: np.random.Generator, layout: Layout, materials: Materials, style: PatientStyle
) -> Cells:
    """Draw cells from the densities, block by block."""
    blocks = materials.code[_BLOCK // 2 :: _BLOCK, _BLOCK // 2 :: _BLOCK]
    rows, cols = np.nonzero(blocks != GLASS)
    block_px = _BLOCK * FINE_UM / MPP
    centre = (np.stack([cols, rows], axis=1) + 0.5) * block_px
    by_type = densities(layout, style, blocks[rows, cols], centre)
    fibre = materials.fibre_angle()
    order = _z_order(rows, cols)
    parts = []
    for kind, density in by_type.items():
        n_here = _evenly(rng, density * np.float32((_BLOCK * FINE_UM) ** 2 / 1000.0), order)
        xy = np.repeat(centre, n_here, axis=0)
        xy = xy + rng.uniform(-block_px / 2, block_px / 2, xy.shape)
        # A block may hold two materials: what falls on the wrong side of a border goes.
        at = sample(materials.code, xy[:, 0], xy[:, 1], FINE_UM / MPP)
        xy = xy[at == np.repeat(blocks[rows, cols], n_here)]
        if kind in _WANDERING:  # aggregates have no wall: their border is where cells thin out
            xy = xy + rng.normal(0, 9.0 / MPP, xy.shape) * (rng.random((len(xy), 1)) < 0.6)
            xy = xy[sample(materials.code, xy[:, 0], xy[:, 1], FINE_UM / MPP) != GLASS]
        angle = sample(fibre, xy[:, 0], xy[:, 1], PHI_UM / MPP) + rng.normal(0, 0.25, len(xy))
        part = some_cells(kind, "lymphocyte", xy, angle=angle)
        part.look[:] = looks(rng, kind, layout, xy)
        parts.append(part)
    return join(parts)


def _along(
    rng: np.random.Generator, ring: Ring, off_um: float, step_um: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points at `off_um` outside a lumen, about `step_um` apart, and their directions."""
    around = 2 * np.pi * (float(ring.radius_px.mean()) + off_um / MPP)
    n = max(3, int(around / (step_um / MPP)))
    theta = (np.arange(n) + rng.uniform(-0.25, 0.25, n)) * 2 * np.pi / n - np.pi
    radius = ring.at(theta) + off_um / MPP + rng.normal(0, 0.7 / MPP, n)
    xy = np.stack([ring.x_px + radius * np.cos(theta), ring.y_px + radius * np.sin(theta)], axis=1)
    return xy, theta


def _lining(rng: np.random.Generator, ring: Ring) -> list[Cells]:
    """Cells of a ring's wall, and the blood in a vessel."""
    if ring.kind == "gland":
        xy, theta = _along(rng, ring, 8.0, 7.6)
        return [some_cells("tumour", "tumour_column", xy, angle=theta, state="fixed")]
    if ring.kind == "duct":
        xy, theta = _along(rng, ring, 7.6, 6.6)
        basal, turn = _along(rng, ring, 13.6, 10.5)
        return [
            some_cells("luminal", "luminal", xy, angle=theta, state="fixed"),
            some_cells(
                "myoepithelial", "myoepithelial", basal, angle=turn + np.pi / 2, state="fixed"
            ),
        ]
    xy, theta = _along(rng, ring, 1.6, 13.0)
    parts = [some_cells("endothelial", "endothelial", xy, angle=theta + np.pi / 2, state="fixed")]
    if rng.random() < 0.7:
        inner = float(ring.radius_px.mean()) - 3.0 / MPP
        n = int(rng.uniform(0.15, 0.8) * (inner * MPP / 3.2) ** 2) if inner > 0 else 0
        turn = rng.uniform(-np.pi, np.pi, n)
        reach = np.maximum(ring.at(turn) - 3.2 / MPP, 0) * np.sqrt(rng.random(n))
        blood = np.stack(
            [ring.x_px + reach * np.cos(turn), ring.y_px + reach * np.sin(turn)], axis=1
        )
        parts.append(some_cells("red_cell", "red_cell", blood, state="fixed"))
    return parts


def _fat(rng: np.random.Generator, cell: Adipocyte) -> list[Cells]:
    """Spread a fat cell's RNA over its body; draw its flat nucleus if the section meets it."""
    rim = cell.corners[:: max(1, len(cell.corners) // 8)]
    middle = cell.corners.mean(axis=0)
    body = np.concatenate([rim, 0.5 * (rim + middle)])
    parts = [some_cells("adipocyte", "adipocyte", body, weight=1 / len(body), state="hidden")]
    if rng.random() < 0.45:
        i = int(rng.integers(len(cell.corners)))
        here, ahead = cell.corners[i], cell.corners[(i + 1) % len(cell.corners)]
        turn = float(np.arctan2(ahead[1] - here[1], ahead[0] - here[0]))
        spot = (here + 0.02 * (here - middle))[None, :]
        parts.append(
            some_cells("adipocyte", "adipocyte", spot, angle=turn, weight=0.0, state="fixed")
        )
    return parts


def _to_membranes(cells: Cells, adipocytes: list[Adipocyte]) -> None:
    """Move cells that fell into a fat droplet to its nearest membrane, in place."""
    if not adipocytes:
        return
    rims = np.concatenate([a.corners for a in adipocytes])
    middles = np.array([a.corners.mean(axis=0) for a in adipocytes])
    owner = np.repeat(np.arange(len(adipocytes)), [len(a.corners) for a in adipocytes])
    points = np.stack([cells.x_px, cells.y_px], axis=1)
    far, near = cKDTree(rims).query(points, distance_upper_bound=60 / MPP)
    i, near = np.flatnonzero(np.isfinite(far)), np.asarray(near)
    rim, middle = rims[near[i]], middles[owner[near[i]]]
    reach, depth = (
        np.hypot(*np.transpose(rim - middle)),
        np.hypot(*np.transpose(points[i] - middle)),
    )
    i, rim, middle = (a[depth < reach] for a in (i, rim, middle))
    out = rim - middle
    cells.x_px[i], cells.y_px[i] = (rim + 0.02 * out).T
    cells.angle[i] = np.arctan2(out[:, 1], out[:, 0]) + np.pi / 2
    cells.fixed[i] = True


def _outside(cells: Cells, rings: list[Ring]) -> NDArray[np.bool_]:
    """Whether cells lie outside every lumen and its lining."""
    ok = np.ones(len(cells), dtype=bool)
    if not rings:
        return ok
    tree = cKDTree(np.array([(r.x_px, r.y_px) for r in rings]))
    points = np.stack([cells.x_px, cells.y_px], axis=1)
    far, near = tree.query(points, k=min(2, len(rings)))
    far = np.asarray(far).reshape(len(points), -1)
    near = np.asarray(near).reshape(len(points), -1)
    table = np.stack([r.radius_px for r in rings])
    wall = np.array([r.wall_px for r in rings])
    for column in range(far.shape[1]):
        i = near[:, column]
        dx = points[:, 0] - tree.data[i, 0]
        dy = points[:, 1] - tree.data[i, 1]
        turn = ((np.arctan2(dy, dx) + np.pi) / (2 * np.pi) * table.shape[1]).astype(int)
        ok &= far[:, column] > table[i, turn % table.shape[1]] + wall[i] + 4
    return ok


def make_cells(
    layout: Layout, materials: Materials, style: PatientStyle, *,
    structures: tuple[list[Ring], list[Adipocyte]], key: tuple[int, ...],
) -> Cells:  # fmt: skip
    """Place all cells of a slide.

    Parameters
    ----------
    layout, materials, style
        The plan of the slide.
    structures : tuple
        Rings and adipocytes, whose cells have given places.
    key : tuple of int
        Key of the randomness.

    Returns
    -------
    Cells
        In random order, so that drawing order favours no type.
    """
    rng = rng_for(*key, 5)
    rings, adipocytes = structures
    loose = _scattered(rng, layout, materials, style)
    _to_membranes(loose, adipocytes)
    parts = [loose.take(_outside(loose, rings))]
    for ring in rings:
        parts += _lining(rng, ring)
    for fat in adipocytes:
        parts += _fat(rng, fat) if fat.whole else []
    cells = join(parts)
    relax(cells, 5)
    size = layout.size_px
    inside = (cells.x_px > 0) & (cells.y_px > 0) & (cells.x_px < size) & (cells.y_px < size)
    cells = cells.take(inside)
    return cells.take(rng.permutation(len(cells)))
