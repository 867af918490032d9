"""Which image of a SpatialData store the spots are laid on, and where on it they lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import ImageFormatError, SlideError
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.image_scale import SHAPE_TOLERANCE, scale_by_size
from stamp_index.readers.spatialdata_zarr.ngff import (
    CoordinateSystem,
    apply,
    coordinate_systems,
    scale_of,
)
from stamp_index.slides import ZarrImage, open_image
from stamp_index.slides.zarr_image import multiscales

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.readers.spatialdata_zarr.shapes import Shapes
    from stamp_index.slides import SlideImage

_ONE_PLACE: Final = 0.1  # of a spot's width: two ways to the image may differ by so much


@dataclass(frozen=True)
class Placed:
    """An image, and where the shapes lie on it.

    Attributes
    ----------
    image : SlideImage or None
        None where the store has none that can be used.
    matrix : ndarray of shape (3, 3), float64
        From the shapes' own coordinates to level-0 pixels; the identity without an image.
    um : dict of str to float
        Microns per pixel that coordinate systems give, by what they follow from.
    notes : list of str
    """

    image: SlideImage | None
    matrix: NDArray[np.float64]
    um: dict[str, float]
    notes: list[str]


def choose_image(
    store: Path, shapes: Shapes, shape_um: Mapping[str, float], options: SlideOptions
) -> Placed:
    """Choose the image: what the user names, else the one with most pixels that the shapes can be laid on.

    Parameters
    ----------
    store : Path
    shapes : Shapes
    shape_um : mapping of str to float
        Microns per unit of the shapes' coordinates, by what they follow from; may be empty.
    options : SlideOptions
        `image` names an element of the store, or a file.

    Raises
    ------
    SlideError
        If the named image cannot be used, or coordinate systems contradict each other.
    """
    folder = store / "images"
    names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    asked = None if options.image is None else Path(options.image)
    if asked is not None and asked.name in names and _is_element(asked, store):
        placed = _place(confined(folder / asked.name, store), shapes)
        return _with_note(placed, f"Image: {asked.name} of the store, as named.")
    usable, skipped = _usable(folder, names, shapes)
    if asked is not None:
        return _given_file(asked, usable, shape_um, options)
    notes = [f"Images that were not used: {'; '.join(skipped)}."] if skipped else []
    if not usable:
        notes.insert(
            0, "No image of the store can be used: counts only, so this slide has no patches."
        )
        return Placed(None, np.eye(3), {}, notes)
    best = _largest(usable)
    name = Path(best.image.uri).name if best.image else ""
    others = ", the largest of those that share a coordinate system" if len(usable) > 1 else ""
    return _with_note(best, f"Image: {name} of the store{others}.", *notes)


def _usable(folder: Path, names: list[str], shapes: Shapes) -> tuple[list[Placed], list[str]]:
    """Images that the shapes can be laid on, and why others cannot."""
    usable, skipped = [], []
    for name in names:
        if "cytassist" in name.lower():
            skipped.append(f"{name} (CytAssist's image shows no stained nuclei)")
            continue
        path = confined(folder / name, folder.parent)
        try:
            usable.append(_place(path, shapes))
        except ImageFormatError as exc:
            skipped.append(f"{name} ({str(exc).rstrip('.')})")
        except _NoCommonSystemError:
            skipped.append(f"{name} (no coordinate system in common with the shapes)")
    return usable, skipped


class _NoCommonSystemError(SlideError):
    """An image and the shapes are placed in different coordinate systems."""


def _place(path: Path, shapes: Shapes) -> Placed:
    image = ZarrImage(path)
    scales = multiscales(path)
    where = f"the image '{path.name}'"
    systems = coordinate_systems(scales.transformations, scales.axes, where)
    common = sorted(set(systems) & set(shapes.systems))
    if not common:
        msg = (
            f"The image {path} and the shapes '{shapes.name}' share no coordinate system; the image is placed in "
            f"{_listed(systems)}, the shapes in {_listed(shapes.systems)}. Align them, or name another image."
        )
        raise _NoCommonSystemError(msg)
    ways = {
        name: np.linalg.inv(systems[name].matrix) @ shapes.systems[name].matrix for name in common
    }
    matrix = ways[common[0]]
    for name, other in ways.items():
        apart = np.abs(apply(matrix, shapes.centres) - apply(other, shapes.centres)).max()
        if apart > max(
            1.0, _ONE_PLACE * shapes.width * scale_of(matrix, f"'{shapes.name}' to {where}")
        ):
            msg = (
                f"The shapes '{shapes.name}' lie {apart:.0f} px apart on {where}, by the coordinate systems "
                f"'{common[0]}' and '{name}'. Remove the transformation that is wrong from the store."
            )
            raise SlideError(msg)
    um = {
        f"the coordinate system '{name}', which is in microns": system.unit_um
        * scale_of(system.matrix, where)
        for name, system in systems.items()
        if system.unit_um is not None
    }
    return Placed(image, matrix, um, [])


def _given_file(
    path: Path, usable: list[Placed], shape_um: Mapping[str, float], options: SlideOptions
) -> Placed:
    """Lay the shapes on a file: a copy of an image of the store, at another scale."""
    image = open_image(path)
    reference = _largest(usable) if usable else None
    if reference is not None and reference.image is not None:
        scale = scale_by_size(
            image,
            reference.image.size_px,
            full="the store's image",
            remedy="Give an uncropped copy of that image, or add yours to the store, aligned.",
        )
        matrix = np.diag([scale, scale, 1.0]) @ reference.matrix
        return Placed(image, matrix, {}, [f"Image: {path.name}, as given (scale {scale:.4g})."])
    mpp = options.mpp or image.mpp
    if mpp is None or not shape_um:
        msg = (
            f"The scale of {image.uri} against the spots is unknown: the store has no image to compare it with, and "
            f"{'it has no pixel size' if mpp is None else 'nothing tells the spots distance in microns'}. Add the image "
            "to the store, in a coordinate system of the shapes."
        )
        raise SlideError(msg)
    scale = next(iter(shape_um.values())) / mpp
    scale = 1.0 if abs(scale - 1) < SHAPE_TOLERANCE else scale
    note = f"Image: {path.name}, as given (scale {scale:.4g}, from its pixel size)."
    return Placed(image, np.diag([scale, scale, 1.0]), {}, [note])


def _is_element(asked: Path, store: Path) -> bool:
    """Whether a path means an element: it lies in the store, or there is nothing of that name."""
    return not asked.exists() or asked.resolve().is_relative_to(store.resolve())


def _largest(usable: list[Placed]) -> Placed:
    def n_px(placed: Placed) -> int:
        width, height = placed.image.size_px if placed.image else (0, 0)
        return width * height

    return max(usable, key=n_px)


def _with_note(placed: Placed, *notes: str) -> Placed:
    return Placed(placed.image, placed.matrix, placed.um, list(notes))


def _listed(systems: Mapping[str, CoordinateSystem]) -> str:
    return ", ".join(f"'{name}'" for name in systems) or "none"
