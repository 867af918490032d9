"""Expert annotations of legacy Spatial Transcriptomics: one row per layer, one column per spot, one-hot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stamp_index.errors import BarcodeMismatchError, SlideError
from stamp_index.readers.common.regular import regular

if TYPE_CHECKING:
    from pathlib import Path


def read_layers(path: Path) -> pd.Series[str]:
    """Read an annotation.

    Parameters
    ----------
    path : Path
        Tab-separated; the first line names the spots (``18_12``), the first column the layers; 1 where a spot lies
        in a layer, else 0.

    Returns
    -------
    Series of str, indexed by ``"<x>x<y>"``
        The layer of each spot, empty where it has none.

    Raises
    ------
    SlideError
        If the file is damaged, or a spot lies in two layers.
    BarcodeMismatchError
        If a spot stands twice.
    """
    try:
        # Without a header line, as pandas would rename a spot that stands twice.
        table = pd.read_csv(regular(path), sep="\t", header=None, dtype=str, keep_default_na=False)
        hot = table.iloc[1:, 1:].to_numpy(dtype=np.float64)  # (layers, spots)
    except (OSError, ValueError) as exc:  # pandas' ParserError is a ValueError
        msg = f"The annotation {path} cannot be read ({exc}). Copy the file again from its source."
        raise SlideError(msg) from exc
    names = [name.replace("_", "x") for name in table.iloc[0, 1:]]
    if not hot.size:
        msg = f"The annotation {path} has no layers or no spots; expected layers down and spots across."
        raise SlideError(msg)
    if not np.isin(hot, (0, 1)).all() or (hot.sum(axis=0) > 1).any():
        wrong = (~np.isin(hot, (0, 1))).any(axis=0) | (hot.sum(axis=0) > 1)
        msg = (
            f"The annotation {path} has {wrong.sum()} spots that are not in one layer or none (such as "
            f"{names[int(np.flatnonzero(wrong)[0])]}); expected one 1 in a column at most, else 0."
        )
        raise SlideError(msg)
    layers = np.array(["", *table.iloc[1:, 0]], dtype=object)
    at = np.where(hot.any(axis=0), hot.argmax(axis=0) + 1, 0)
    found = pd.Series(layers[at], index=pd.Index(names))
    if not found.index.is_unique:
        twice = found.index[found.index.duplicated()].unique()
        msg = f"The annotation {path} names {len(twice)} spots twice ({', '.join(twice[:5])})."
        raise BarcodeMismatchError(msg)
    return found
