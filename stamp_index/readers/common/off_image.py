"""Spots beyond the image: a few may be dropped, many mean that image and positions do not belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.readers.build import is_outside, keep_spots

if TYPE_CHECKING:
    from stamp_index.slides import Slide

MOST_OFF: Final = 0.1  # share of spots; HEST-1k too leaves out spots beyond the image


def without_spots_off_image(slide: Slide) -> Slide:
    """Leave out spots whose whole disc lies beyond the image, with a note.

    Of more than a tenth, all stay: `make_slide` refuses them and says why. So does a slide of which a position is
    unknown.
    """
    if not np.isfinite(slide.xy_px).all():
        return slide
    off = is_outside(slide)
    n_off = int(off.sum())
    if not 0 < n_off <= MOST_OFF * slide.n_spots:
        return slide
    names = ", ".join(map(str, slide.spots.index[off][:3]))
    note = f"{n_off} of {slide.n_spots} spots ({n_off / slide.n_spots:.1%}) lie off the image and were dropped ({names})."
    return keep_spots(slide, np.flatnonzero(~off), note)
