"""Plain columns of some spots, as a list of hits shows them, without reading what is known already.

Lance opens the file of every slide that a row lies in: 50 rows of as many slides take 20 to 40 ms.
Text of the slide is in the slides table, positions in microns follow from those in pixels, and the
rest is kept after the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stamp_index.store.schema import SLIDE_TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.store.reading import Tables

_STORED: Final = {"spot_id": "barcode", "x_um": "x_px", "y_um": "y_px"}  # what they are made of


def read_spots(tables: Tables, names: Sequence[str], rows: NDArray[np.int64]) -> pd.DataFrame:
    """Read columns of some spots.

    Parameters
    ----------
    tables : Tables
        One version of a store.
    names : sequence of str
        Plain columns of the spots table.
    rows : ndarray of shape (m,), int64
        Row ids that are there, in any order.

    Returns
    -------
    DataFrame with m rows
        In the order of `rows`, as the spots table has them.
    """
    wanted = dict.fromkeys(_STORED.get(name, name) for name in names if name not in SLIDE_TEXT)
    stored = tables.small_columns(tuple(wanted), rows)
    slides, at = tables.slides, tables.spots.stretch_of(rows)

    def column(name: str) -> NDArray[Any]:
        if name in SLIDE_TEXT:
            return slides[name].to_numpy()[at]
        values = stored[_STORED.get(name, name)]
        if name == "spot_id":
            return np.asarray(slides["slide_id"].to_numpy()[at] + ":" + values, dtype=object)
        return values * slides["mpp"].to_numpy()[at] if name in _STORED else values

    return pd.DataFrame({name: column(name) for name in names}, range(len(rows)))
