"""Which pixel size to believe: what the user gives, what the image says, what the spots imply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stamp_index.errors import MissingPixelSizeError
from stamp_index.keys import Nums

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.slides import SlideImage


def choose_mpp(
    *, derived: Mapping[str, float | None], image: SlideImage | None, given: float | None
) -> tuple[float, str]:
    """Choose the pixel size, and refuse two that contradict each other.

    Parameters
    ----------
    derived : mapping of str to float or None
        Microns per pixel of the image that other sources give, by what they follow from (such as "the
        spots' pitch of 100 um"), the surest first; None where a source gives none.
    image : SlideImage or None
        Its metadata may give a pixel size.
    given : float or None
        What the user says.

    Returns
    -------
    mpp : float
        `given`, else the image's own, else the first of `derived`.
    note : str
        Which it was, and which others agree.

    Raises
    ------
    MissingPixelSizeError
        If there is none, or one differs from the chosen one by more than 3 %.
    """
    sources = {
        "given by option or slide.toml": given,
        "from the image's metadata": image.mpp if image is not None else None,
        **{f"derived from {how}": mpp for how, mpp in derived.items()},
    }
    known = [(mpp, origin) for origin, mpp in sources.items() if mpp is not None]
    if not known:
        msg = (
            f"{image.uri if image else 'The slide'} has no microns per pixel, and nothing else gives "
            "one. Give mpp (--mpp, SlideOptions(mpp=...) or `mpp` in slide.toml)."
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
    others = [text.removeprefix("derived ").removeprefix("from ") for _, text in known[1:]]
    agreeing = f", which agrees with {' and '.join(others)}" if others else ""
    return first, f"Pixel size: {first:.4g} um/px, {origin}{agreeing}."


def _remedy(origin: str, other: str) -> str:
    if origin.startswith("given"):
        return "Correct or drop the given mpp, or give the image that it belongs to."
    return "Correct the image's metadata, or give the image that belongs to these positions."
