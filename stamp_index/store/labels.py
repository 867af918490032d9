"""Labels of spots: what came with the slides, and what people and tools said since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stamp_index.errors import QueryError
from stamp_index.store.arrow import label_table
from stamp_index.store.schema import LABELS, labels_schema
from stamp_index.store.transaction import transact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stamp_index.store.manifest import Manifest
    from stamp_index.store.places import Where
    from stamp_index.store.reading import Tables
    from stamp_index.store.transaction import Transaction


def annotate_slide(
    where: Where, slide_id: str, label: pa.Table, *, n_spots: int, lock_timeout_s: float
) -> Manifest:
    """Add one label of a slide; an older one of its name stays, and the newest is what is read.

    Raises
    ------
    QueryError
        If there is no such slide.
    ValueError
        If there is not one value per spot.
    """

    def step(change: Transaction) -> Manifest:
        slides = change.tables.slides
        here = slides.loc[slides["slide_id"] == slide_id, "n_spots"]
        if here.empty:
            held = ", ".join(slides["slide_id"]) or "none"
            msg = f"There is no slide '{slide_id}' in the store at {change.place}; its slides are {held}."
            raise QueryError(msg)
        if n_spots != here.iloc[0]:
            msg = (
                f"The label has {n_spots} values; slide '{slide_id}' has {here.iloc[0]} spots. Give one per "
                f"spot, in the order of its rows, and None where it is not known."
            )
            raise ValueError(msg)
        change.append(LABELS, label)
        return change.commit(f"labelled {slide_id}")

    return transact(where, lock_timeout_s, step)


def read_labels(tables: Tables, name: str, slide_ids: list[str]) -> dict[str, pd.Series[Any]]:
    """Values of one label that count, on each slide that has it, in the order of the slide's rows."""
    wanted = (pc.field("name") == name) & pc.field("slide_id").isin(slide_ids)
    table = tables.labels(wanted)
    # What people said outranks what came with a slide, which is newer where the slide was replaced.
    rows = sorted(table.to_pylist(), key=lambda row: (row["author"] != "", row["created_at"]))
    newest = {row["slide_id"]: row for row in rows}
    return {slide_id: label_values(row) for slide_id, row in newest.items()}


def label_values(row: dict[str, Any]) -> pd.Series[Any]:
    """Values of one row of the labels table: float with NaN, or text with None."""
    if row["numbers"] is not None:
        return pd.Series(np.asarray(row["numbers"], np.float64))
    categories = np.array([*row["categories"], None], object)
    return pd.Series(categories[np.asarray(row["codes"], np.int64)], dtype=object)


def carried_over(tables: Tables, slide_id: str, barcodes: Sequence[str]) -> pa.Table:
    """Take along what people said of a slide that is replaced, for the barcodes that the new one has too."""
    wanted = (pc.field("slide_id") == slide_id) & (pc.field("author") != "")
    kept = [labels_schema().empty_table()]
    old = pd.Index(tables.barcodes(slide_id))
    at = old.get_indexer(pd.Index(barcodes))  # -1 for new barcodes
    for row in tables.labels(wanted).to_pylist():
        values = label_values(row).reindex(at).reset_index(drop=True)
        table = label_table(
            slide_id, row["name"], values, author=row["author"], source=row["source"]
        )
        created = table.schema.get_field_index("created_at")
        then = pa.array([row["created_at"]], table.schema.field(created).type)
        kept.append(table.set_column(created, table.schema.field(created), then))
    return pa.concat_tables(kept)
