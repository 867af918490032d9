"""Paint a slide's two dye maps: ground textures, structures, cell bodies, nuclei."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from stamp_index.phantom.layout import COARSE_UM, FINE_UM
from stamp_index.phantom.materials import (
    ADIPOSE,
    COLLAGEN,
    DEAD,
    EPITHELIUM,
    LOOSE,
    PHI_UM,
    RETICULUM,
    SEPTUM,
)
from stamp_index.phantom.noise import rng_for, smooth_noise, wrapped_noise
from stamp_index.phantom.nuclei import make_banks
from stamp_index.phantom.paste import paste_cells
from stamp_index.phantom.rings import draw_adipocyte, draw_ring
from stamp_index.phantom.style import GLASS_E, GLASS_H, MPP

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stamp_index.phantom.cells import Cells
    from stamp_index.phantom.layout import Layout
    from stamp_index.phantom.materials import Materials
    from stamp_index.phantom.rings import Adipocyte, Ring
    from stamp_index.phantom.style import PatientStyle, ScanStyle

_TILE = 512
_SIDE = 1024  # of a texture; a power of two, so that wrapping is a bit mask
_SQUEEZE = 6  # px along a fibre per texture column


class Textures:
    """Seamless textures, all float32, mean 0 and deviation about 1."""

    def __init__(self) -> None:
        rng = rng_for(9022)
        shape = (_SIDE, _SIDE)
        fibril = wrapped_noise(rng, shape, (0.9, 5.0))
        strand = wrapped_noise(rng, shape, (2.2, 8.0))
        bundle = wrapped_noise(rng, shape, (6.0, 12.0))
        self.fibre = (0.5 * fibril + 0.6 * strand + 0.6 * bundle).astype(np.float32)
        self.cleft = wrapped_noise(rng, shape, (3.0, 9.0))
        fine, middle = wrapped_noise(rng, shape, 1.2), wrapped_noise(rng, shape, 4.0)
        self.grain = (0.75 * fine + 0.6 * middle).astype(np.float32)
        self.mottle = (
            0.5 * wrapped_noise(rng, shape, 1.6) + 0.8 * wrapped_noise(rng, shape, 7.0)
        ).astype(np.float32)


@lru_cache(maxsize=1)
def _textures() -> Textures:
    """Return the textures, drawn once per process: slides share them and lay them differently."""
    return Textures()


def _upsample(
    field: Image.Image, box: tuple[int, int, int, int], cell_px: float
) -> NDArray[np.float32]:
    """Bilinear values of a grid in a box (left, top, right, bottom) of level-0 pixels."""
    left, top, right, bottom = box
    part = field.resize(
        (right - left, bottom - top),
        Image.Resampling.BILINEAR,
        box=(left / cell_px, top / cell_px, right / cell_px, bottom / cell_px),
    )
    return np.asarray(part, dtype=np.float32)


class _Ground:
    """Paints tiles of the ground; holds what all tiles share."""

    def __init__(
        self, layout: Layout, materials: Materials, style: PatientStyle, rng: np.random.Generator
    ) -> None:
        side = int(np.ceil(layout.size_px / _TILE)) * _TILE
        self.textures = _textures()
        self.shift = [int(v) for v in rng.integers(0, _SIDE // _TILE, 2) * _TILE]
        self.along = materials.along
        self.collagen = style.collagen
        fine = int(np.ceil(side * MPP / FINE_UM))
        self.soft = [self._padded(m, fine) for m in materials.soft]
        self.raw = materials.soft
        self.phi = self._padded(materials.phi, int(np.ceil(side * MPP / PHI_UM)))
        coarse = int(np.ceil(side * MPP / COARSE_UM))
        self.fields = {k: self._padded(v, coarse) for k, v in layout.programmes.items()}
        thick = 1 + 0.07 * smooth_noise(rng, (coarse, coarse), 220 / COARSE_UM)
        self.thick = Image.fromarray(thick.astype(np.float32))

    @staticmethod
    def _padded(field: NDArray[np.generic], side: int) -> Image.Image:
        grow = [(0, max(0, side - n)) for n in field.shape]
        mode = "constant" if field.dtype == np.uint8 else "edge"
        return Image.fromarray(np.pad(field, grow, mode=mode))  # type: ignore[call-overload]

    def _laid(
        self, texture: NDArray[np.float32], box: tuple[int, int, int, int]
    ) -> NDArray[np.float32]:
        """Part of an unbent texture; tiles divide its side, so neighbours continue each other."""
        top, left = (box[1] + self.shift[0]) % _SIDE, (box[0] + self.shift[1]) % _SIDE
        return texture[top : top + box[3] - box[1], left : left + box[2] - box[0]]

    def _fibres(self, box: tuple[int, int, int, int]) -> tuple[NDArray[np.float32], ...]:
        """Fibre and cleft texture, laid along the level lines of the potential."""
        phi = _upsample(self.phi, box, PHI_UM / MPP)
        y, x = np.ogrid[box[1] : box[3], box[0] : box[2]]
        s = x * np.float32(self.along[0]) + y * np.float32(self.along[1])
        row = phi.astype(np.int32) & (_SIDE - 1)
        col = (s / _SQUEEZE).astype(np.int32) & (_SIDE - 1)
        flat = row * _SIDE + col
        return self.textures.fibre.ravel().take(flat), self.textures.cleft.ravel().take(flat)

    def tile(
        self, box: tuple[int, int, int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
        """Dye levels of one tile; None where there is nothing but glass."""
        cell = FINE_UM / MPP
        rows = slice(int(box[1] / cell), int(box[3] / cell))
        cols = slice(int(box[0] / cell), int(box[2] / cell))
        there = [bool(m[rows, cols].any()) for m in self.raw]
        if not any(there):
            return None
        grain = self._laid(self.textures.grain, box)
        mottle = self._laid(self.textures.mottle, box)
        shape = grain.shape
        e, h = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

        def weight(code: int) -> NDArray[np.float32]:
            return _upsample(self.soft[code], box, cell) * np.float32(1 / 255)

        def field(name: str) -> NDArray[np.float32]:
            return _upsample(self.fields[name], box, COARSE_UM / MPP)

        if there[EPITHELIUM]:
            w, starve = weight(EPITHELIUM), field("hypoxia")
            e += w * (62 + 9 * grain + 30 * starve)
            h += w * (34 + 5 * grain - 14 * starve)
        if there[COLLAGEN] or there[SEPTUM] or there[LOOSE]:
            self._collagen(box, dyes=(e, h), there=there, weight=weight, field=field)
        if there[RETICULUM]:
            w = weight(RETICULUM)
            e += w * (40 + 16 * grain)
            h += w * (20 + 5 * grain)
        if there[ADIPOSE]:
            e += weight(ADIPOSE) * (78 + 10 * grain)
        if there[DEAD]:
            w, inflamed = weight(DEAD), field("immune")
            e += w * np.clip(112 - 20 * inflamed + 24 * mottle + 10 * grain, 12, 200)
            h += w * np.clip(7 + 14 * inflamed + 5 * mottle, 0, 60)
        thick = _upsample(self.thick, box, COARSE_UM / MPP)
        e, h = e * thick + GLASS_E, h * thick + GLASS_H
        return np.clip(h, 0, 255).astype(np.uint8), np.clip(e, 0, 204).astype(np.uint8)

    def _collagen(
        self,
        box: tuple[int, int, int, int],
        *,
        dyes: tuple[NDArray[np.float32], NDArray[np.float32]],
        there: list[bool],
        weight: Callable[[int], NDArray[np.float32]],
        field: Callable[[str], NDArray[np.float32]],
    ) -> None:
        """Add fibres: dense with dark bundles, or loose with pale clefts between them."""
        e, h = dyes
        fibre, cleft = self._fibres(box)
        grain = self._laid(self.textures.grain, box)
        dense = field("collagen")
        for code, level, shift in ((COLLAGEN, 84.0, 0.0), (SEPTUM, 80.0, 0.1), (LOOSE, 60.0, -0.1)):
            if not there[code]:
                continue
            w = weight(code)
            firm = np.clip(1.15 + 1.6 * (dense + shift) + 1.1 * cleft, 0.08, 1)
            strength = np.float32(level * self.collagen) * (0.7 + 0.6 * dense)
            e += w * firm * np.clip(strength + 22 * fibre + 5 * grain, 4, 180)
            h += w * firm * np.clip(9 + 3 * fibre, 0, 40)


def paint(
    layout: Layout, materials: Materials, cells: Cells, *,
    structures: tuple[list[Ring], list[Adipocyte]], styles: tuple[PatientStyle, ScanStyle],
    key: tuple[int, ...],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:  # fmt: skip
    """Paint the dye maps of a slide.

    Parameters
    ----------
    layout, materials, cells
        The plan of the slide.
    structures : tuple
        Rings and adipocytes.
    styles : tuple
        Patient and scan.
    key : tuple of int
        Key of the randomness.

    Returns
    -------
    h_map, e_map : ndarray of shape (size_px, size_px), uint8
        Levels of haematoxylin and eosin, 255 at `stain.H_FULL` and `stain.E_FULL`.
    """
    rng = rng_for(*key, 6)
    patient, scan = styles
    size = layout.size_px
    h_map = np.full((size, size), GLASS_H, dtype=np.uint8)
    e_map = np.full((size, size), GLASS_E, dtype=np.uint8)
    ground = _Ground(layout, materials, patient, rng)
    for top in range(0, size, _TILE):
        for left in range(0, size, _TILE):
            painted = ground.tile((left, top, min(left + _TILE, size), min(top + _TILE, size)))
            if painted is not None:
                h, e = painted
                h_map[top : top + _TILE, left : left + _TILE] = h
                e_map[top : top + _TILE, left : left + _TILE] = e
    rings, adipocytes = structures
    for fat in adipocytes:
        draw_adipocyte(fat, h_map, e_map)
    for ring in rings:
        draw_ring(ring, h_map, e_map, rng)
    banks = make_banks(rng, spread=0.6 + patient.pleomorphism)
    paste_cells(cells, banks, (h_map, e_map), rng)
    return _blurred(h_map, scan.blur_px), _blurred(e_map, scan.blur_px)


def _blurred(dye: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Blur by the optics' width; in dye levels, which for so small a blur looks the same."""
    side = sigma**2 / 2  # three taps (side, 1 - 2 side, side) have variance 2 side
    taps = np.array([side, 1 - 2 * side, side])
    kernel = ImageFilter.Kernel((3, 3), np.outer(taps, taps).ravel().tolist(), scale=1)
    return np.asarray(Image.fromarray(dye).filter(kernel))
