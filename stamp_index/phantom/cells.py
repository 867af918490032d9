"""The table of cells: the same ones are drawn and counted."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.spatial import cKDTree

from stamp_index.phantom.nuclei import LOOK_NAMES
from stamp_index.phantom.style import MPP

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELL_TYPES: tuple[str, ...] = (
    "tumour",
    "cd8_t",
    "cd4_t",
    "b_cell",
    "plasma",
    "fibroblast",
    "endothelial",
    "adipocyte",
    "macrophage",
    "neutrophil",
    "luminal",
    "myoepithelial",
    "debris",
    "red_cell",
)
"""Cell types in the order of their codes."""

LOOK_CODE = {name: i for i, name in enumerate(LOOK_NAMES)}
_TYPE = {name: i for i, name in enumerate(CELL_TYPES)}
# Half the distance that two cells keep, um; red cells and debris may touch.
_REACH_UM = {
    "tumour": 5.7, "cd8_t": 3.5, "cd4_t": 3.5, "b_cell": 3.7, "plasma": 4.6, "fibroblast": 3.6,
    "endothelial": 3.2, "adipocyte": 3.0, "macrophage": 5.0, "neutrophil": 3.8, "luminal": 3.6,
    "myoepithelial": 2.6, "debris": 3.8, "red_cell": 2.9,
}  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """Cells of one slide as columns.

    Attributes
    ----------
    x_px, y_px : ndarray of shape (c,), float32
        Nucleus, level-0 pixels.
    kind : ndarray of shape (c,), int8
        Index into `CELL_TYPES`.
    look : ndarray of shape (c,), int8
        Index into `LOOK_NAMES`.
    angle : ndarray of shape (c,), float32
        Direction of the long axis, radians.
    weight : ndarray of shape (c,), float32
        Share of one cell's RNA that lies here; large cells are spread over several points.
    drawn, fixed : ndarray of shape (c,), bool
        Whether a nucleus is drawn; whether the place is part of a structure and does not move.
    """

    x_px: NDArray[np.float32]
    y_px: NDArray[np.float32]
    kind: NDArray[np.int8]
    look: NDArray[np.int8]
    angle: NDArray[np.float32]
    weight: NDArray[np.float32]
    drawn: NDArray[np.bool_]
    fixed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x_px)

    def take(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> Cells:
        """Cells at `index`, a mask or positions."""
        return Cells(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def some_cells(
    kind: str, look: str, xy: NDArray[np.floating], *, angle: NDArray[np.floating] | float = 0.0,
    weight: float = 1.0, state: Literal["free", "fixed", "hidden"] = "free",
) -> Cells:  # fmt: skip
    """Make cells of one type and look at points.

    Parameters
    ----------
    kind, look : str
        From `CELL_TYPES` and `LOOK_NAMES`.
    xy : ndarray of shape (c, 2)
        Positions in level-0 px.
    angle : float or ndarray of shape (c,)
        Direction of the long axis, radians.
    weight : float
        RNA of each, in cells.
    state : {"free", "fixed", "hidden"}
        Free to move, part of a structure, or fixed and not drawn.

    Returns
    -------
    Cells
    """
    n = len(xy)
    return Cells(
        x_px=np.asarray(xy[:, 0], dtype=np.float32),
        y_px=np.asarray(xy[:, 1], dtype=np.float32),
        kind=np.full(n, _TYPE[kind], dtype=np.int8),
        look=np.full(n, LOOK_CODE[look], dtype=np.int8),
        angle=np.broadcast_to(np.asarray(angle, dtype=np.float32), (n,)).copy(),
        weight=np.full(n, weight, dtype=np.float32),
        drawn=np.full(n, state != "hidden"),
        fixed=np.full(n, state != "free"),
    )


def join(parts: list[Cells]) -> Cells:
    """Put cells of several sources into one table."""
    return Cells(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Cells)}
    )


def relax(cells: Cells, rounds: int) -> None:
    """Push overlapping cells apart, in place; cells of a structure stay.

    Parameters
    ----------
    cells : Cells
        Their positions change.
    rounds : int
        How often.
    """
    reach = np.array([_REACH_UM[name] / MPP for name in CELL_TYPES], dtype=np.float32)[cells.kind]
    reach = np.where(cells.drawn, reach, 0)
    free = ~cells.fixed
    xy = np.stack([cells.x_px, cells.y_px], axis=1).astype(np.float64)
    for _ in range(rounds):
        pairs = cKDTree(xy).query_pairs(2 * float(reach.max()), output_type="ndarray")
        i, j = pairs[:, 0], pairs[:, 1]
        apart = xy[j] - xy[i]
        gap = np.maximum(np.hypot(apart[:, 0], apart[:, 1]), 0.1)
        lack = np.clip(reach[i] + reach[j] - gap, 0, None) * 0.4 / gap
        push = apart * lack[:, None]
        for axis in range(2):
            move = np.bincount(j, push[:, axis], len(xy)) - np.bincount(i, push[:, axis], len(xy))
            xy[:, axis] += np.clip(move, -6, 6) * free
    cells.x_px[:], cells.y_px[:] = xy[:, 0], xy[:, 1]
