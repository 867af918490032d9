"""Answers of a server as the library's own tables: the inverse of `stamp_index.serve.plain`.

What an answer lacks, or has of another kind, raises what Python raises; `Connection.reading` makes one error of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pandas as pd

from stamp_index.keys import Keys
from stamp_index.search.hits import PLACE_COLUMNS, Hits, gene_column
from stamp_index.search.regions import RegionHits
from stamp_index.search.regions.hits import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from shapely import Polygon

    from stamp_index.client.store import RemoteStore
    from stamp_index.store import Store

# Of `Store.slides`; the others say where files lie on the machine that read them.
SLIDE_COLUMNS: Final = (
    "slide_id", "patient_id", "organ", "disease", "species", "platform", "reader", "content_hash", "mpp", "width_px",
    "height_px", "spot_diameter_um", "n_spots", "n_genes", "first_spot", "embedded", "notes", "added_at",
)  # fmt: skip
# What is no number; `x_px` and so on are float64, and so is all that is not named here.
_TEXT: Final = frozenset({
    "spot_id", "slide_id", "barcode", "patient_id", "organ", "disease", "species", "platform", "reader",
    "content_hash",
})  # fmt: skip
_TYPES: Final = {
    Keys.RANK: np.int64, Keys.SCORE: np.float32, Keys.Z: np.float32, Keys.PERCENTILE: np.float32,
    Keys.MEASURED: np.float32, "n_genes": np.int32, "mito_fraction": np.float32, "tissue_fraction": np.float32,
    "pen_fraction": np.float32, "fold_fraction": np.float32, "blur_fraction": np.float32, "outside_fraction": np.float32,
}  # fmt: skip
_WHOLE_OF_SLIDES: Final = ("width_px", "height_px", "n_spots", "n_genes", "first_spot")


def hits_of(answer: Mapping[str, Any], store: RemoteStore) -> Hits:
    """`Hits` of one query."""
    records = answer["hits"]
    names = [Keys.RANK, Keys.SCORE, Keys.Z, Keys.PERCENTILE, *PLACE_COLUMNS]
    if records and Keys.MEASURED in records[0]:
        names.append(Keys.MEASURED)
    columns = {name: column(name, [one[name] for one in records]) for name in names}
    for gene in answer["genes"]:
        values = [one["expression"][gene] for one in records]
        columns[gene_column(gene)] = floats(values, np.float32)
    return Hits(
        table=pd.DataFrame(columns),
        rows=np.array([one["row"] for one in records], np.int64),
        genes=tuple(answer["genes"]),
        query=answer["query"],
        notes=tuple(answer["notes"]),
        ranked_by=answer["ranked_by"],
        store_version=answer["store_version"],
        fingerprint=answer["fingerprint"],
        store=cast("Store", store),
    )


def regions_of(answer: Mapping[str, Any], store: RemoteStore) -> RegionHits:
    """`RegionHits`."""
    records = answer["hits"]
    whole = {Keys.RANK: np.int64, "n_spots": np.int64}
    table = {}
    for name in COLUMNS:
        values = [one[name] for one in records]
        kind = whole.get(name)
        if kind is not None:
            table[name] = np.array(values, kind)
        else:
            table[name] = np.array(values, object) if name in _TEXT else floats(values, np.float64)
    return RegionHits(
        table=pd.DataFrame(table),
        rows=tuple(np.array(one["rows"], np.int64) for one in records),
        matches=tuple(np.array(one["matches"], np.int64) for one in records),
        outlines=tuple(_polygon(one["outline"]) for one in records),
        query_rows=np.array(answer["query_rows"], np.int64),
        query_matches=np.array(answer["query_matches"], np.int64),
        query=answer["query"],
        notes=tuple(answer["notes"]),
        slides=tuple(answer["slides"]),
        store_version=answer["store_version"],
        fingerprint=answer["fingerprint"],
        store=cast("Store", store),
    )


def _polygon(rings: Sequence[Any]) -> Polygon:
    import shapely

    try:
        return shapely.Polygon(rings[0], rings[1:])
    except shapely.errors.ShapelyError as error:
        msg = "a region's outline is none"
        raise ValueError(msg) from error


def slides_of(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Slides, as `Store.slides` without the columns that name files."""
    columns: dict[str, Any] = {}
    for name in SLIDE_COLUMNS:
        values = [one[name] for one in records]
        if name in _WHOLE_OF_SLIDES:
            # where a slide has none, such as a width without an image, pandas has all as floats
            columns[name] = floats(values, np.float64 if None in values else np.int64)
        elif name in ("embedded", "notes"):
            columns[name] = pd.Series([tuple(one) for one in values], dtype=object)
        elif name == "added_at":
            columns[name] = pd.to_datetime(pd.Series(values, dtype=object), utc=True).astype(
                "datetime64[us, UTC]"
            )
        else:
            columns[name] = column(name, values)
    return pd.DataFrame(columns)


def as_many(values: Sequence[Any], n: int) -> Sequence[Any]:
    """Values, of which there must be so many.

    Raises
    ------
    ValueError
        If there are not.
    """
    if not isinstance(values, list) or len(values) != n:
        msg = f"expected a list of {n}"
        raise ValueError(msg)
    return values


def column(name: str, values: Sequence[Any]) -> NDArray[Any]:
    """One column with the type that it has in the library."""
    if name in _TEXT:
        return np.array(values, object)
    kind = _TYPES.get(name, np.float64)
    return floats(values, kind) if np.issubdtype(kind, np.floating) else np.array(values, kind)


def floats(values: Sequence[float | None], kind: Any) -> NDArray[Any]:  # noqa: ANN401 - a numpy type
    """Numbers, NaN where there is none."""
    return np.array([np.nan if one is None else one for one in values], kind)
