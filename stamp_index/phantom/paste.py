"""Paste ready-made cells into the dye maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.phantom.nuclei import LOOK_NAMES, LOOKS, N_ANGLES, PER_ANGLE
from stamp_index.phantom.style import MPP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from stamp_index.phantom.cells import Cells
    from stamp_index.phantom.nuclei import Stamp

    Maps = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _choose(cells: Cells, banks: list[list[Stamp]], luck: NDArray[np.int64]) -> list[Stamp]:
    """Pick a stamp for each cell: at its angle where the look is oriented, else at random."""
    oriented = np.array([LOOKS[n].oriented for n in LOOK_NAMES])[cells.look]
    turned = np.round(cells.angle / np.pi * N_ANGLES).astype(int) % N_ANGLES
    sizes = np.array([len(b) for b in banks])[cells.look]
    pick = np.where(oriented, turned * PER_ANGLE + luck % PER_ANGLE, luck % sizes)
    return [banks[i][k] for i, k in zip(cells.look.tolist(), pick.tolist(), strict=True)]


def _body(stamp: Stamp, h_part: NDArray[np.uint8], e_part: NDArray[np.uint8]) -> None:
    if stamp.body_e is not None and stamp.body_h is not None:
        np.maximum(e_part, stamp.body_e, out=e_part)
        np.maximum(h_part, stamp.body_h, out=h_part)


def _nucleus(stamp: Stamp, h_part: NDArray[np.uint8], e_part: NDArray[np.uint8]) -> None:
    np.maximum(h_part, stamp.nucleus, out=h_part)
    np.minimum(e_part, stamp.cap, out=e_part)


def _each(
    maps: Maps,
    placed: Iterable[tuple[Stamp, int, int, int]],
    draw: Callable[[Stamp, NDArray[np.uint8], NDArray[np.uint8]], None],
) -> None:
    """Draw every (stamp, side, x, y) that lies wholly inside the maps."""
    h_map, e_map = maps
    height, width = h_map.shape
    for stamp, side, x, y in placed:
        top, left = y - side // 2, x - side // 2
        bottom, right = top + side, left + side
        if top >= 0 and left >= 0 and bottom <= height and right <= width:
            draw(stamp, h_map[top:bottom, left:right], e_map[top:bottom, left:right])


def paste_cells(
    cells: Cells, banks: list[list[Stamp]], maps: Maps, rng: np.random.Generator
) -> None:
    """Draw all cells into the dye maps, in place.

    Parameters
    ----------
    cells : Cells
        What to draw; those with ``drawn`` false are skipped.
    banks : list of list of Stamp
        From `make_banks`.
    maps : tuple of ndarray of shape (h, w), uint8
        Haematoxylin and eosin.
    rng : numpy.random.Generator
        Chooses among a look's stamps.

    Notes
    -----
    All bodies come first, then all nuclei, so that no body hides a nucleus.
    """
    cells = cells.take(cells.drawn)
    luck = rng.integers(0, 2**31, len(cells))
    stamps = _choose(cells, banks, luck)
    off_px = np.array([LOOKS[n].off_um / MPP for n in LOOK_NAMES])[cells.look]
    theta = luck % 6283 / 1000.0
    nx = (cells.x_px + off_px * np.cos(theta)).astype(int).tolist()
    ny = (cells.y_px + off_px * np.sin(theta)).astype(int).tolist()
    xs, ys = cells.x_px.astype(int).tolist(), cells.y_px.astype(int).tolist()
    bodies = [0 if s.body_e is None else s.body_e.shape[0] for s in stamps]
    _each(maps, zip(stamps, bodies, xs, ys, strict=True), _body)
    nuclei = [s.nucleus.shape[0] for s in stamps]
    _each(maps, zip(stamps, nuclei, nx, ny, strict=True), _nucleus)
