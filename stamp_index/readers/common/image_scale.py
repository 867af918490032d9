"""How an image is scaled against the full one that positions refer to, by the sizes of the two."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from stamp_index.errors import SlideError
from stamp_index.keys import Nums

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.slides import SlideImage

SHAPE_TOLERANCE: Final = (
    0.02  # relative; scales across and down that differ by more are another image's
)
FROM_A_SMALL_COPY: Final = 0.01  # a copy of 600 px tells the full size to 1/600 only
_EXACT: Final = 1e-3


def same_shape_scale(
    size_px: tuple[int, int], full_px: tuple[float, float], *, known_to: float = _EXACT
) -> float | None:
    """Pixels of an image per pixel of the full one.

    Parameters
    ----------
    size_px, full_px : (number, number)
        Width and height of the two.
    known_to : float
        How well the full size is known, as a share: a scale so near 1 is 1.

    Returns
    -------
    float or None
        None where the two differ in shape, by 2 %.
    """
    across, down = (size / whole for size, whole in zip(size_px, full_px, strict=True))
    if abs(across - down) > SHAPE_TOLERANCE * min(across, down):
        return None
    scale = (across + down) / 2
    return 1.0 if abs(scale - 1) < known_to else scale


def scale_by_size(
    image: SlideImage,
    full_px: tuple[float, float],
    *,
    full: str,
    remedy: str,
    known_to: float = _EXACT,
) -> float:
    """Pixels of an image per pixel of the full one, which must be of the same shape.

    Parameters
    ----------
    image : SlideImage
    full_px : (float, float)
        Width and height of the full image.
    full, remedy : str
        What the full image is, and what to do where this one is another: for the message.
    known_to : float
        As of `same_shape_scale`.

    Raises
    ------
    SlideError
        If the shapes differ.
    """
    scale = same_shape_scale(image.size_px, full_px, known_to=known_to)
    if scale is not None:
        return scale
    msg = (
        f"{image.uri} is {image.size_px[0]} x {image.size_px[1]} px, but {full} is {full_px[0]:.0f} x "
        f"{full_px[1]:.0f} px: their shapes differ. {remedy}"
    )
    raise SlideError(msg)


def refuse_other_sizes(full_px: Mapping[str, tuple[float, float]], px: float, where: str) -> None:
    """Refuse scaled images whose sizes and scale factors give full images of different size.

    Parameters
    ----------
    full_px : mapping of str to (float, float)
        Width and height of the full image by what they follow from.
    px : float
        Full-resolution pixels of one pixel of the smallest image: so far its size is rounded.
    where : str
        For the message.

    Raises
    ------
    SlideError
        If two differ by more than 3 %; both are named.
    """
    said = list(full_px.items())
    for (one, first), (other, second) in pairwise(said):
        for a, b in zip(first, second, strict=True):
            if abs(a - b) > max(Nums.MPP_TOLERANCE * min(a, b), px):
                msg = (
                    f"{where}: {one} give a full image of {first[0]:.0f} x {first[1]:.0f} px, but {other} one of "
                    f"{second[0]:.0f} x {second[1]:.0f} px; they may differ by {Nums.MPP_TOLERANCE:.0%} at most. Copy the "
                    "images and scale factors of one run."
                )
                raise SlideError(msg)
