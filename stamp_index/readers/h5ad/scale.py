"""Pixel size, width of spots and place on the image, for the observations of an ``.h5ad``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.errors import SlideError, SpotOutsideImageError
from stamp_index.keys import Nums
from stamp_index.readers.common.confined import confined
from stamp_index.readers.common.pixel_size import choose_mpp
from stamp_index.readers.common.regular import load_json
from stamp_index.readers.common.visium_array import visium_mpp
from stamp_index.readers.h5ad.image import inside_share

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stamp_index.readers.base import SlideOptions
    from stamp_index.readers.h5ad.image import Chosen
    from stamp_index.readers.h5ad.positions import Positions
    from stamp_index.slides import SlideImage

_CELL_UM: Final = 10.0  # a usual cell's width
_WIDEST_CELL_UM: Final = 1000.0


@dataclass(frozen=True)
class Scale:
    """What tells the size of a pixel and of a spot.

    Attributes
    ----------
    pitch_px : float or None
        Distance of neighbouring spots of a Visium array, in pixels of the positions.
    factors : mapping of str to float
        The library's scale factors.
    chosen : Chosen
        The image, and its pixels per pixel of the positions.
    """

    pitch_px: float | None
    factors: Mapping[str, float]
    chosen: Chosen


@dataclass(frozen=True)
class Width:
    """How wide a spot, bin or cell is, and what says so."""

    um: float
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Placed:
    """Positions of shape (n, 2) in the image's pixels."""

    xy_px: NDArray[np.float64]
    swapped: bool
    notes: tuple[str, ...]


def choose_scale(scale: Scale, options: SlideOptions, *, in_um: bool) -> tuple[float | None, str]:
    """Choose the image's pixel size.

    Returns
    -------
    mpp : float or None
        None where there is no image and nothing gives one.
    note : str

    Raises
    ------
    MissingPixelSizeError
        If there is an image but no pixel size, or two contradict each other.
    """
    per_px = scale.chosen.scale
    derived: dict[str, float | None] = {}
    if scale.factors.get("microns_per_pixel", 0) > 0:  # Visium HD
        how = "the scale factor microns_per_pixel"
        derived[how] = scale.factors["microns_per_pixel"] / per_px
    if scale.pitch_px is not None:
        found = visium_mpp(scale.pitch_px, scale.factors.get("spot_diameter_fullres"))
        derived.update({how: mpp / per_px for how, mpp in found.items() if mpp})
    if scale.chosen.image is None and options.mpp is None and not derived:
        if in_um:
            return 1.0, "Positions are in microns, 1 um/px."
        return None, "Nothing gives a pixel size, so distances are in pixels."
    return choose_mpp(derived=derived, image=scale.chosen.image, given=options.mpp)


def spot_width(path: Path, scale: Scale) -> Width:
    """Find how wide a spot, bin or cell is.

    Parameters
    ----------
    path : Path
        The ``.h5ad``; a ``.json`` of the same name beside it may say ``cell_diameter``.
    scale : Scale

    Raises
    ------
    SlideError
        If that file is no JSON, or the diameter no number of microns.
    """
    if scale.pitch_px is not None:
        return Width(Nums.VISIUM_SPOT_UM)
    if scale.factors.get("bin_size_um", 0) > 0:  # Visium HD
        return Width(scale.factors["bin_size_um"])
    beside = path.with_suffix(".json")
    if beside.is_file():
        cell_um = _cell_diameter(confined(beside, path.parent))
        if cell_um is not None:
            note = f"Spots are cells of {cell_um:g} um, as {beside.name} says."
            return Width(cell_um, (note,), (beside,))
    return Width(_CELL_UM, (f"Nothing says how wide a spot is: {_CELL_UM:g} um, a usual cell.",))


def place(positions: Positions, chosen: Chosen, mpp: float | None, *, reach_um: float) -> Placed:
    """Put the positions on the image; x and y are swapped where only that fits.

    Parameters
    ----------
    positions : Positions
    chosen : Chosen
    mpp : float or None
        Of the image.
    reach_um : float
        Radius of a spot: centres may lie so far outside.

    Raises
    ------
    SpotOutsideImageError
        If positions fit as microns only, though nothing names them so.
    """
    xy = positions.xy * (1 / mpp if positions.in_um and mpp else chosen.scale)
    unit = "microns" if positions.in_um else "pixels"
    note = f"Positions: {positions.origin}, in {unit}."
    image = chosen.image
    if image is None or mpp is None or not np.isfinite(xy).all():
        return Placed(xy, swapped=False, notes=(note,))  # `validate` names lost positions
    share = inside_share(xy, image.size_px, reach_um / mpp)
    as_um = not positions.in_um and inside_share(positions.xy / mpp, image.size_px) == 1.0
    if share == 1.0:
        # Microns mistaken for pixels huddle in the image's top left corner.
        doubt = " As microns they would lie on the image too: look at them." if as_um else ""
        return Placed(xy, swapped=False, notes=(note + (doubt if mpp < 1 else ""),))
    if inside_share(xy[:, ::-1], image.size_px) == 1.0:
        swap = (
            f"As named, {1 - share:.1%} of the positions lie outside the image; with x and y swapped all lie "
            "inside. They were swapped."
        )
        return Placed(xy[:, ::-1].copy(), swapped=True, notes=(note, swap))
    if as_um:
        raise _microns_error(positions, image, mpp)
    return Placed(xy, swapped=False, notes=(note,))  # `validate` says which lie outside


def _microns_error(positions: Positions, image: SlideImage, mpp: float) -> SpotOutsideImageError:
    return SpotOutsideImageError(
        f"The positions in {positions.origin} do not fit the image of {image.size_px[0]} x {image.size_px[1]} px as "
        f"pixels, but they do as microns at {mpp:.4g} um/px. Put them into columns x_um and y_um of obs, and leave "
        "obsm['spatial'] out."
    )


def _cell_diameter(path: Path) -> float | None:
    """Read ``cell_diameter`` (microns) from the metadata beside the file."""
    try:
        content = load_json(path)
    except (OSError, ValueError) as exc:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        msg = f"{path} cannot be read as JSON ({exc}). Correct or remove it."
        raise SlideError(msg) from exc
    value = content.get("cell_diameter") if isinstance(content, dict) else None
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < _WIDEST_CELL_UM:
        msg = f"{path}: cell_diameter is {value!r}; expected microns above 0, such as 10."
        raise SlideError(msg)
    return float(value)
