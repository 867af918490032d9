"""Hits as a table and as CSV, in the one schema that every export of hits follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import pandas as pd

from stamp_index.keys import Keys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stamp_index.store.schema import Modality
    from stamp_index.store.view import StoreView

# Embeddings that were searched: one, or both with their weights.
Searched: TypeAlias = "str | Mapping[Modality, float]"

SEARCHED: Final = ("query", "searched", "store_id", "store_version", "encoder")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV Injection"


class HitList(Protocol):
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
    def query(self) -> str:
        """What was asked."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be known about the answer."""

    @property
    def store(self) -> StoreView:
        """Where the hits are from."""

    @property
    def store_version(self) -> int:
        """Version of the store that was searched."""

    @property
    def fingerprint(self) -> str:
        """Of the encoder that the scores rest on."""


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
    added: dict[str, Any] = {
        "query": hits.query,
        "searched": searched_text(searched),
        "store_id": hits.store.store_id,
        "store_version": hits.store_version,
        "encoder": hits.fingerprint,
    }
    table = hits.table.rename(columns={n: f"expr({n})" for n in (*SEARCHED, Keys.BARCODE)})
    place = list(table.columns).index(Keys.SLIDE_ID) + 1
    table.insert(place, Keys.BARCODE, barcodes(hits.table))
    return table.assign(**added)


def hits_csv(hits: HitList, searched: Searched = "") -> bytes:
    """`hits_table` as CSV: UTF-8, no comments above the header, empty where nothing was measured.

    A cell of text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe before it, as a
    spreadsheet would run it as a formula; names of columns too. Numbers are written as they are.
    """
    table = hits_table(hits, searched)
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = [plain_cell(value) for value in table[name]]
    table.columns = pd.Index([plain_cell(str(name)) for name in table.columns])
    return table.to_csv(index=False, lineterminator="\r\n").encode("utf-8", errors="replace")


def plain_cell(value: Any) -> Any:  # noqa: ANN401 - whatever a table holds
    """Text that a spreadsheet reads as text; other values as they are."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def barcodes(table: pd.DataFrame) -> list[str]:
    """Barcode of each hit: its spot id without the slide's."""
    pairs = zip(table[Keys.SPOT_ID], table[Keys.SLIDE_ID], strict=True)
    return [str(spot).removeprefix(f"{slide}:") for spot, slide in pairs]


def searched_text(searched: Searched) -> str:
    """Say in one cell what was searched."""
    if not isinstance(searched, Mapping):
        return searched
    return ", ".join(f"{name} {weight:g}" for name, weight in sorted(searched.items()))
