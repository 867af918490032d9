"""Values that a user gives for the spots of a slide, in the order of its spots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError
from stamp_index.view.layers import Layer, values_layer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from stamp_index.view.sources import SlideSource


def given_layer(source: SlideSource, values: ArrayLike | pd.Series[Any]) -> Layer:
    """Make a layer of given values.

    Parameters
    ----------
    source : SlideSource
    values : array of shape (n,), or Series
        One per spot of the slide, in its order. A Series whose index holds spot ids or barcodes is put into that order;
        spots that it lacks have no value. Numbers get a range of colours, text and categories one colour each.

    Raises
    ------
    QueryError
        If there are not as many values as spots, no index is of this slide, or there are more than 200 categories.
    """
    if isinstance(values, pd.Series):
        name = "values" if values.name is None else str(values.name)
        return values_layer(_in_order(source, values), name=name)
    held = np.asarray(values)
    n = len(source.places.rows)
    if held.shape != (n,):
        msg = f"The values have shape {held.shape}; slide {source.slide_id} has {n} spots: expected ({n},)."
        raise QueryError(msg)
    return values_layer(pd.Series(held), name="values")


def _in_order(source: SlideSource, values: pd.Series[Any]) -> pd.Series[Any]:
    """Values in the order of the slide's spots; missing where they have none."""
    ids = pd.Index(source.spot_ids())
    if values.index.has_duplicates:
        msg = f"The index of the values holds {values.index[values.index.duplicated()][0]!r} twice."
        raise QueryError(msg)
    for names in (ids, ids.str.removeprefix(f"{source.slide_id}:")):
        if names.isin(values.index).any():
            return values.reindex(names)
    if isinstance(values.index, pd.RangeIndex) and len(values) == len(ids):
        return values
    msg = (
        f"No index of the values is a spot of slide {source.slide_id}. Expected spot ids such as {ids[0]!r}, barcodes, "
        f"or {len(ids)} values in the order of the spots."
    )
    raise QueryError(msg)
