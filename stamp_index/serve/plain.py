"""What was found, as values that JSON has. `stamp_index.client.tables` reads them back."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from stamp_index.client.tables import SLIDE_COLUMNS
from stamp_index.keys import Keys
from stamp_index.search.hits import FIXED_COLUMNS, gene_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from shapely import Polygon

    from stamp_index.search.hits import Hits
    from stamp_index.search.regions import RegionHits
    from stamp_index.serve.live import Opened
    from stamp_index.store import EncoderCard


def to_json(values: Mapping[str, Any]) -> bytes:
    """Write an answer; what is not finite must have become None before."""
    return json.dumps(values, allow_nan=False, separators=(",", ":")).encode()


def of_version(opened: Opened) -> dict[str, Any]:
    """Say which version of the store was asked, and by which encoder."""
    store = opened.store
    return {"store_version": store.version, "fingerprint": store.card.fingerprint}


def hits_answer(hits: Hits) -> dict[str, Any]:
    """One query's `Hits`."""
    table = hits.table
    names = [*FIXED_COLUMNS, *([Keys.MEASURED] if Keys.MEASURED in table else [])]
    columns = {name: listed(table[name]) for name in names}
    columns["row"] = hits.rows.tolist()
    measured = {gene: listed(table[gene_column(gene)]) for gene in hits.genes}
    records = [
        {name: values[i] for name, values in columns.items()}
        | {"expression": {gene: values[i] for gene, values in measured.items()}}
        for i in range(len(table))
    ]
    return {
        "store_version": hits.store_version,
        "fingerprint": hits.fingerprint,
        "query": hits.query,
        "notes": list(hits.notes),
        "genes": list(hits.genes),
        "ranked_by": hits.ranked_by,
        "hits": records,
    }


def many_answer(opened: Opened, found: Sequence[Hits]) -> dict[str, Any]:
    """`Hits` of several queries."""
    return of_version(opened) | {"answers": [hits_answer(one) for one in found]}


def regions_answer(found: RegionHits) -> dict[str, Any]:
    """`RegionHits`."""
    columns = {str(name): listed(found.table[name]) for name in found.table.columns}
    records = [
        {name: values[i] for name, values in columns.items()}
        | {
            "rows": found.rows[i].tolist(),
            "matches": found.matches[i].tolist(),
            "outline": rings(found.outlines[i]),
        }
        for i in range(len(found))
    ]
    return {
        "store_version": found.store_version,
        "fingerprint": found.fingerprint,
        "query": found.query,
        "notes": list(found.notes),
        "slides": list(found.slides),
        "query_rows": found.query_rows.tolist(),
        "query_matches": found.query_matches.tolist(),
        "hits": records,
    }


def rings(shape: Polygon) -> list[list[list[float]]]:
    """Outer ring of a polygon and its holes, as lists of [x, y]."""
    import shapely

    return [shapely.get_coordinates(ring).tolist() for ring in (shape.exterior, *shape.interiors)]


def store_answer(opened: Opened) -> dict[str, Any]:
    """Describe the store, and what it is searched with."""
    import stamp_index

    store = opened.store
    return of_version(opened) | {
        "name": store.place.label,
        "store_id": store.store_id,
        "library_version": stamp_index.__version__,
        "n_slides": len(opened.slides),
        "n_spots": store.n_spots,
        "n_rows": store.n_rows,
        "n_genes": len(store.genes),
        "encoder": store.encoder,
        "encoders": {name: _card(card) for name, card in store.encoders.items()},
        "indexes": {
            side: {"kind": index.card.kind, "n": index.card.n}
            for side, index in opened.searcher.indexes.items()
        },
        "label_names": list(store.label_names),
    }


def _card(card: EncoderCard) -> dict[str, Any]:
    """Card of an encoder, without the folder that its checkpoint came from."""
    return {name: value for name, value in card.to_dict().items() if name != "checkpoint"}


def slides_answer(slides: pd.DataFrame) -> list[dict[str, Any]]:
    """Slides, without where their files lie."""
    columns = {name: listed(slides[name]) for name in SLIDE_COLUMNS}
    return [{name: values[i] for name, values in columns.items()} for i in range(len(slides))]


def listed(values: pd.Series[Any] | np.ndarray[Any, Any]) -> list[Any]:
    """Values as JSON has them: None for what is missing or not finite."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        plain: list[Any] = array.astype(np.float64).tolist()
        return plain if np.isfinite(array).all() else [_finite(value) for value in plain]
    return [_plain(value) for value in array.tolist()]


def table_of_numbers(values: np.ndarray[Any, Any]) -> list[list[float | None]]:
    """Rows of a matrix."""
    return [listed(row) for row in values]


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return _finite(value)
    return value if value is None or isinstance(value, (str, int)) else str(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
