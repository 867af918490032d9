"""Columns of an ``.h5ad``'s obs that travel with the spots as labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from stamp_index.keys import Keys
from stamp_index.readers.h5ad.elements import column_of, columns_of, row_count

if TYPE_CHECKING:
    from collections.abc import Container

    import h5py
MAX_LABELS: Final = 32
_OWN: Final = frozenset(  # columns of a store's own, and what they are made of
    {
        *(Keys.SPOT_ID, Keys.SLIDE_ID, Keys.PATIENT_ID, Keys.ORGAN, Keys.BARCODE, Keys.X_PX),
        *(Keys.Y_PX, Keys.X_UM, Keys.Y_UM, Keys.N_COUNTS, Keys.N_GENES, "in_tissue"),
    }
)


def read_labels(obs: h5py.Group, not_these: Container[str]) -> tuple[pd.DataFrame, list[str]]:
    """Read categories, texts, numbers and booleans of obs.

    Parameters
    ----------
    obs : h5py.Group
    not_these : container of str
        Columns that are coordinates.

    Returns
    -------
    labels : DataFrame of n rows
        At most `MAX_LABELS` columns: the first ones. Text that differs in every row, such as an id, is no label.
    notes : list of str
        What was left out.
    """
    columns: dict[str, pd.Series[Any]] = {}
    skipped = []
    index = str(obs.attrs["_index"])
    for name in columns_of(obs):
        if name == index or name in _OWN or name in not_these:
            continue
        values = column_of(obs, name) if len(columns) < MAX_LABELS else None
        if values is None or not _is_label(values):
            skipped.append(name)
            continue
        columns[name] = values
    notes = []
    if skipped:
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        notes.append(
            f"{len(skipped)} columns of obs are no labels (ids, or beyond the first {MAX_LABELS}): {shown}."
        )
    return pd.DataFrame(columns, index=range(row_count(obs))), notes


def _is_label(values: pd.Series[Any]) -> bool:
    if pd.api.types.is_numeric_dtype(values):
        return True
    known = values.dropna()
    different = known.unique()
    if not all(isinstance(value, str | bool | int | float) for value in different):
        return False
    return len(known) < 3 or len(different) < len(known)
