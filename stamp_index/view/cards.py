"""What is said of one spot beside the pointer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from stamp_index.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd

    from stamp_index.store.view import StoreView


def spot_card(
    store: StoreView, slide: pd.Series[Any], index: int, *, gene: str = ""
) -> dict[str, Any]:
    """Id of one spot of a slide, by its number there, and what was measured.

    Parameters
    ----------
    store : Store
    slide : Series
        A row of ``store.slides()``.
    index : int
        Number of the spot on the slide, from 0.
    gene : str, optional
        Whose expression is told, if the slide measured it.

    Returns
    -------
    dict
        spot_id, barcode, and values: a list of name and text.

    Raises
    ------
    QueryError
        If the slide has no such spot.
    """
    slide_id = str(slide["slide_id"])
    check_index(slide_id, int(slide["n_spots"]), index)
    row = int(slide["first_spot"]) + index
    facts = store.spots(["spot_id", "n_counts"], [row]).iloc[0]
    values = []
    if gene and gene in store.genes_of(slide_id):
        value = float(store.expression([gene], [row])[0, 0])
        values.append({"name": gene, "text": f"{value:.2f} log1p CP10K"})
    return card(str(facts["spot_id"]), slide_id, float(facts["n_counts"]), values)


def card(
    spot_id: str, slide_id: str, n_counts: float, values: list[dict[str, str]]
) -> dict[str, Any]:
    """Put a card together; NaN counts are not told."""
    told = list(values)
    if math.isfinite(n_counts):
        told.append({"name": "counts", "text": f"{n_counts:,.0f}"})
    return {"spot_id": spot_id, "barcode": spot_id.removeprefix(f"{slide_id}:"), "values": told}


def check_index(slide_id: str, n: int, index: int) -> None:
    """Refuse the number of a spot that is not there.

    Raises
    ------
    QueryError
        If it is below 0, or the slide has fewer spots.
    """
    if not 0 <= index < n:
        msg = f"Slide {slide_id} has {n} spots; there is no spot {index}. Numbers start at 0."
        raise QueryError(msg)
