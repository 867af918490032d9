"""Single cells of an ``.h5ad``, pooled into square bins."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stamp_index.errors import MissingPixelSizeError
from stamp_index.keys import Keys
from stamp_index.readers.common.binning import bin_width_um, pool

if TYPE_CHECKING:
    from stamp_index.readers.base import SlideOptions
    from stamp_index.slides import Slide


def bins_asked_for(options: SlideOptions) -> bool:
    """Say whether the user wants bins: by name, or by their width."""
    return options.spots == "bins" or (options.spots is None and options.bin_um is not None)


def pool_cells(slide: Slide, options: SlideOptions) -> Slide:
    """Pool the spots of a slide into bins that start in the image's top-left corner.

    Parameters
    ----------
    slide : Slide
        Of single cells; without positions that are not known.
    options : SlideOptions
        `bin_um` is used.

    Returns
    -------
    Slide
        One spot per bin that holds a cell, at the bin's centre, with the label `n_cells`. Other labels are of cells
        and do not come along.

    Raises
    ------
    MissingPixelSizeError
        If the slide has no pixel size.
    """
    if not np.isfinite(slide.xy_px).all():
        return slide  # `validate` names them
    if slide.mpp is None:
        msg = (
            f"Slide {slide.slide_id} has no microns per pixel, so its cells cannot be pooled into bins. Give mpp (--mpp, "
            "SlideOptions(mpp=...) or `mpp` in slide.toml), or read cells (spots = 'cells')."
        )
        raise MissingPixelSizeError(msg)
    bin_um = bin_width_um(options.bin_um)
    pooled = pool(slide.xy_um, slide.counts, bin_um)
    bins, xy_px = pooled.bins, pooled.xy_um / slide.mpp
    spots = pd.DataFrame(
        {
            "array_row": bins.row,
            "array_col": bins.col,
            "n_cells": bins.n_members,
            Keys.X_PX: xy_px[:, 0],
            Keys.Y_PX: xy_px[:, 1],
        },
        index=pd.Index(bins.barcodes(bin_um), name=Keys.BARCODE),
    )
    note = f"{slide.n_spots} cells were pooled into {len(spots)} bins of {bin_um:g} um; labels of cells were left out."
    parameters = {**slide.parameters, "spots": "bins", "pooled": "cells", "bin_um": bin_um}
    return replace(
        slide,
        spots=spots,
        counts=pooled.counts,
        spot_diameter_um=bin_um,
        parameters=parameters,
        notes=(*slide.notes, note),
    )
