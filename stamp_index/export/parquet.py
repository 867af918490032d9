"""Spots with metadata, positions, labels and embeddings as one Parquet file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.export.choosing import (
    SLOTS,
    choose_slides,
    each,
    provenance,
    rows_of,
    unit_vectors,
)
from stamp_index.export.files import draft
from stamp_index.store.schema import SPOT_QUALITY
from stamp_index.store.view import SPOT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from stamp_index.store.view import StoreView

_GROUP_ROWS: Final = 65_536  # of a row group at most: 270 MB with two embeddings of 512 numbers


def to_parquet(
    store: StoreView,
    path: Path | str,
    slides: Sequence[str] | str | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write spots to a Parquet file, one slide after the other, whole or not at all.

    Columns: those of ``store.spots()``; ``label_<name>`` for every label (number, or text); ``X_stamp`` and
    ``X_stamp_image``, lists of d float32 of length 1, null where a spot has no such embedding. A row group holds
    spots of one slide. The file's metadata key ``stamp`` holds encoder, store and version as JSON.

    Parameters
    ----------
    store : Store
    path : path
    slides : sequence of str, optional
        Their ids; all by default.
    overwrite : bool
        Whether a file may be there already.

    Raises
    ------
    FileExistsError
        If there is a file and `overwrite` is False.
    OSError
        If it cannot be written.
    QueryError
        If a slide is not in the store, or there is none.
    """
    import pyarrow.parquet as pq

    chosen = choose_slides(store, slides)
    with draft(path, overwrite=overwrite) as file:
        schema = _schema(store, chosen)
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in _groups(chosen):
                writer.write_table(_table(store, rows, schema), row_group_size=_GROUP_ROWS)


def _groups(chosen: pd.DataFrame) -> Iterator[NDArray[np.int64]]:
    for slide in each(chosen):
        rows = rows_of(slide)
        for start in range(0, len(rows), _GROUP_ROWS):
            yield rows[start : start + _GROUP_ROWS]


def _schema(store: StoreView, chosen: pd.DataFrame) -> pa.Schema:
    import pyarrow as pa

    numbers = {"x_px", "y_px", "x_um", "y_um", "n_counts"}
    kinds = {name: pa.float64() if name in numbers else pa.string() for name in SPOT_COLUMNS}
    kinds |= {name: pa.float32() for name in SPOT_QUALITY} | {"n_genes": pa.int32()}
    for name in store.label_names:  # a label may be text on one slide and a number on another
        is_text = any(store.label(name, rows).dtype == object for rows in _groups(chosen))
        kinds[f"label_{name}"] = pa.string() if is_text else pa.float64()
    vector = pa.list_(pa.float32(), store.card.dim)
    fields = [pa.field(name, kind) for name, kind in kinds.items()]
    fields += [pa.field(slot, vector) for slot in SLOTS.values()]
    return pa.schema(fields, {"stamp": json.dumps(provenance(store, chosen))})


def _table(store: StoreView, rows: NDArray[np.int64], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    spots = store.spots(SPOT_COLUMNS, rows)
    columns: dict[str, Any] = {}
    for name in SPOT_COLUMNS:
        columns[name] = pa.array(spots[name], schema.field(name).type, from_pandas=True)
    for name in store.label_names:
        kind = schema.field(f"label_{name}").type
        values = store.label(name, rows)
        if pa.types.is_string(kind) and values.dtype != object:
            values = values.astype(object).where(values.notna(), None).map(_text)
        columns[f"label_{name}"] = pa.array(values, kind, from_pandas=True)
    for modality, slot in SLOTS.items():
        columns[slot] = _vectors(unit_vectors(store, modality, rows))
    return pa.table(columns, schema=schema)


def _vectors(values: NDArray[np.float32]) -> pa.Array:
    import pyarrow as pa

    missing = np.isnan(values[:, 0])
    flat = pa.array(values.ravel(), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(missing))


def _text(value: Any) -> str | None:  # noqa: ANN401 - a number or None
    return None if value is None else f"{value:.15g}"
