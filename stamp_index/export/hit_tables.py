"""Hits as a table and as CSV, in the one schema that every export of hits follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from stamp_index.export.csv_tables import table_csv
from stamp_index.keys import Keys

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.store.schema import Modality
    from stamp_index.store.view import StoreView

# Embeddings that were searched: one, or both with their weights.
Searched: TypeAlias = "str | Mapping[Modality, float]"

SEARCHED: Final = ("query", "searched", "store_id", "store_version", "encoder")


class Answered(Protocol):
    """What was asked, of which store with which encoder; `Hits` and `RegionHits` say it."""

    @property
    def query(self) -> str:
        """What was asked."""

    @property
    def store(self) -> StoreView:
        """Where the hits are from."""

    @property
    def store_version(self) -> int:
        """Version of the store that was searched."""

    @property
    def fingerprint(self) -> str:
        """Of the encoder that the scores rest on."""


class HitList(Answered, Protocol):
    """Hits of a query, as `stamp_index.search.Hits` has them."""

    @property
    def table(self) -> pd.DataFrame:
        """One row per hit, best first."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the store."""

    @property
    def genes(self) -> tuple[str, ...]:
        """Genes whose expression is reported."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be known about the answer."""


def asked_columns(hits: Answered, searched: Searched = "") -> dict[str, Any]:
    """Columns that say what a table answers, in the order of `SEARCHED`; each holds one value.

    Parameters
    ----------
    hits : Hits or RegionHits
    searched : {"image", "gene"} or mapping, optional
        What `against` was.

    Examples
    --------
    >>> table_csv(regions.to_pandas(), **asked_columns(regions, "image"))  # doctest: +SKIP
    """
    return {
        "query": hits.query,
        "searched": searched_text(searched),
        "store_id": hits.store.store_id,
        "store_version": hits.store_version,
        "encoder": hits.fingerprint,
    }


def hits_table(hits: HitList, searched: Searched = "") -> pd.DataFrame:
    """Table of hits with what they answer.

    Parameters
    ----------
    hits : Hits
    searched : {"image", "gene"} or mapping, optional
        What `against` was.

    Returns
    -------
    DataFrame with k rows
        The columns of `Hits.table`, with ``barcode`` behind ``slide_id``, and the same in every row: ``query``,
        ``searched`` (such as "image", or "gene 0.5, image 0.5"), ``store_id``, ``store_version``, ``encoder`` (its
        fingerprint). A column of `Hits.table` that has one of these names, which only a gene can, is ``expr(name)``.
    """
    table = hits.table.rename(columns={n: f"expr({n})" for n in (*SEARCHED, Keys.BARCODE)})
    place = list(table.columns).index(Keys.SLIDE_ID) + 1
    table.insert(place, Keys.BARCODE, barcodes(hits.table))
    return table.assign(**asked_columns(hits, searched))


def hits_csv(hits: HitList, searched: Searched = "") -> bytes:
    """`hits_table` as CSV: UTF-8, no comments above the header, empty where nothing was measured.

    Text that a spreadsheet would run as a formula gets an apostrophe before it: see `table_csv`.
    """
    return table_csv(hits_table(hits, searched))


def barcodes(table: pd.DataFrame) -> list[str]:
    """Barcode of each hit: its spot id without the slide's."""
    pairs = zip(table[Keys.SPOT_ID], table[Keys.SLIDE_ID], strict=True)
    return [str(spot).removeprefix(f"{slide}:") for spot, slide in pairs]


def searched_text(searched: Searched) -> str:
    """Say in one cell what was searched."""
    if not isinstance(searched, Mapping):
        return searched
    return ", ".join(f"{name} {weight:g}" for name, weight in sorted(searched.items()))
