"""Coordinate transformations as SpatialData stores them: from an element's own axes to named coordinate systems.

They follow the proposal for OME-NGFF that SpatialData 0.1 to 0.7 write: identity, scale, translation, affine,
mapAxis and sequence, each with the axes that go in and come out. Only x and y matter here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import SlideError
from stamp_index.slides.zarr_image import UNIT_UM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class CoordinateSystem:
    """Where an element lies in one coordinate system.

    Attributes
    ----------
    matrix : ndarray of shape (3, 3), float64
        From (x, y, 1) of the element to (x, y, 1) of the coordinate system.
    unit_um : float or None
        Microns that one unit of the coordinate system has; None where it has no unit of length.
    """

    matrix: NDArray[np.float64]
    unit_um: float | None


def coordinate_systems(
    transformations: Iterable[Mapping[str, Any]], axes: Sequence[str], where: str
) -> dict[str, CoordinateSystem]:
    """Read every coordinate system that an element is placed in.

    Parameters
    ----------
    transformations : iterable of mapping
        ``coordinateTransformations`` of the element; those without a named output are left out.
    axes : sequence of str
        Names of the element's axes, in their order.
    where : str
        The element, for messages.

    Returns
    -------
    dict of str to CoordinateSystem

    Raises
    ------
    SlideError
        If one is damaged, of an unknown kind, or brings the plane down to a line.
    """
    found = {}
    for one in transformations:
        name = ""
        try:
            name = str((one.get("output") or {}).get("name", ""))
            if not name:
                continue
            matrix, _ = _matrix_of(one, list(axes))
            units = [
                axis.get("unit") for axis in one["output"].get("axes", ()) if axis["name"] in "xy"
            ]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
            msg = (
                f"The transformation of {where} to the coordinate system '{name}' cannot be read ({exc!r}). Write the "
                "element again."
            )
            raise SlideError(msg) from exc
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:2, :2])) < 1e-12:
            msg = (
                f"The transformation of {where} to the coordinate system '{name}' is no map of the plane onto itself: "
                f"{matrix[:2].tolist()}. Correct it and write the element again."
            )
            raise SlideError(msg)
        same = set(units) if units else {None}
        found[name] = CoordinateSystem(
            matrix, UNIT_UM.get(same.pop() or "") if len(same) == 1 else None
        )
    return found


def apply(matrix: NDArray[np.float64], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move points (n, 2) by a matrix of shape (3, 3)."""
    moved: NDArray[np.float64] = xy @ matrix[:2, :2].T + matrix[:2, 2]
    return moved


def scale_of(matrix: NDArray[np.float64], where: str) -> float:
    """Length of a unit after a transformation that keeps shapes.

    Raises
    ------
    SlideError
        If it stretches one direction by over 3 % more than another, so that a circle becomes an ellipse.
    """
    long, short = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    if long > 1.03 * short:
        msg = (
            f"The transformation of {where} stretches by {long:.4g} one way and by {short:.4g} another; the two may "
            "differ by 3 % at most. Correct the transformation, or give an image that is not stretched."
        )
        raise SlideError(msg)
    return float(np.sqrt(long * short))


def _matrix_of(one: Mapping[str, Any], axes: list[str]) -> tuple[NDArray[np.float64], list[str]]:
    """Return the matrix on x and y, and the names of the axes that come out."""
    source = _axes_of(one.get("input"), axes)
    target = _axes_of(one.get("output"), source)
    kind = str(one["type"])
    if kind == "sequence":
        matrix, current = np.eye(3), source
        for step in one["transformations"]:
            part, current = _matrix_of(step, current)
            matrix = part @ matrix
        return matrix, target
    if kind not in _KINDS:
        msg = f"its type is {kind!r}; expected one of {', '.join([*_KINDS, 'sequence'])}"
        raise ValueError(msg)
    return _KINDS[kind](one, source, target), target


def _axes_of(system: Any, otherwise: list[str]) -> list[str]:  # noqa: ANN401 - JSON
    axes = (system or {}).get("axes")
    return [str(axis["name"]) for axis in axes] if axes else otherwise


def _identity(_: Mapping[str, Any], __: list[str], ___: list[str]) -> NDArray[np.float64]:
    return np.eye(3)


def _scale(one: Mapping[str, Any], source: list[str], _: list[str]) -> NDArray[np.float64]:
    factors = dict(zip(source, one["scale"], strict=True))
    return np.diag([float(factors["x"]), float(factors["y"]), 1.0])


def _translation(one: Mapping[str, Any], source: list[str], _: list[str]) -> NDArray[np.float64]:
    by = dict(zip(source, one["translation"], strict=True))
    matrix = np.eye(3)
    matrix[:2, 2] = float(by["x"]), float(by["y"])
    return matrix


def _map_axis(one: Mapping[str, Any], _: list[str], __: list[str]) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for row, name in enumerate("xy"):
        matrix[row, :2] = [one["mapAxis"][name] == other for other in "xy"]
    return matrix


def _affine(one: Mapping[str, Any], source: list[str], target: list[str]) -> NDArray[np.float64]:
    stored = np.asarray(one["affine"], np.float64)  # (axes out, axes in + 1)
    if stored.ndim != 2 or stored.shape[1] != len(source) + 1 or stored.shape[0] < len(target):
        msg = f"its matrix has shape {stored.shape} for axes {source} to {target}"
        raise ValueError(msg)
    rows = stored[[target.index("x"), target.index("y")]]
    plane = [source.index("x"), source.index("y"), len(source)]
    if np.delete(rows, plane, axis=1).any():
        msg = "it moves x and y by what is not x or y"
        raise ValueError(msg)
    return np.vstack([rows[:, plane], [0.0, 0.0, 1.0]])


_KINDS: Final[
    dict[str, Callable[[Mapping[str, Any], list[str], list[str]], NDArray[np.float64]]]
] = {
    "identity": _identity,
    "scale": _scale,
    "translation": _translation,
    "affine": _affine,
    "mapAxis": _map_axis,
}
