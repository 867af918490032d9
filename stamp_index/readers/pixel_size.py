"""Which pixel size to believe: what the user gives, what the image says, what the spots imply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.errors import MissingPixelSizeError
from stamp_index.keys import Nums

if TYPE_CHECKING:
    from stamp_index.slides import SlideImage


def choose_mpp(
    *, derived: float | None, how: str, image: SlideImage | None, given: float | None
) -> tuple[float, str]:
    """Choose the pixel size, and refuse two that contradict each other.

    Parameters
    ----------
    derived : float or None
        Microns per pixel of the image that follow from the distance between spots.
    how : str
        What it was derived from, for the note.
    image : SlideImage or None
        Its metadata may give a pixel size.
    given : float or None
        What the user says.

    Returns
    -------
    mpp : float
        `given`, else the image's own, else `derived`.
    note : str
        Which it was.

    Raises
    ------
    MissingPixelSizeError
        If there is none, or two of them differ by more than 5 %.
    """
    written = image.mpp if image is not None else None
    sources = [
        (given, "given by option or slide.toml"),
        (written, "from the image's metadata"),
        (derived, f"derived from {how}"),
    ]
    known = [(mpp, origin) for mpp, origin in sources if mpp is not None]
    if not known:
        msg = (
            f"{image.uri if image else 'The slide'} has no microns per pixel, and the spots do not "
            "give one. Give mpp (SlideOptions(mpp=...) or `mpp` in slide.toml)."
        )
        raise MissingPixelSizeError(msg)
    first, origin = known[0]
    for other, other_origin in known[1:]:
        if abs(first - other) > Nums.MPP_TOLERANCE * min(first, other):
            msg = (
                f"The pixel size {origin} is {first:.4g} um/px, but the one {other_origin} is "
                f"{other:.4g} um/px; they may differ by {Nums.MPP_TOLERANCE:.0%} at most. "
                f"{_remedy(origin, other_origin)}"
            )
            raise MissingPixelSizeError(msg)
    agreeing = f", which agrees with {how}" if derived is not None and len(known) > 1 else ""
    return first, f"Pixel size: {first:.4g} um/px, {origin}{agreeing}."


def _remedy(origin: str, other: str) -> str:
    if origin.startswith("given"):
        return "Correct or drop the given mpp, or give the image that it belongs to."
    return "Correct the image's metadata, or give the image that belongs to these positions."
