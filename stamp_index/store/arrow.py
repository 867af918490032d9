"""One slide laid out as Arrow tables."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from stamp_index.remote.slide_copies import origin_of
from stamp_index.store.rows import canonical_counts
from stamp_index.store.schema import (
    SLIDE_TEXT,
    expression_schema,
    labels_schema,
    slides_schema,
    spots_schema,
    vector_column,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.slides.slide import Slide
    from stamp_index.store.rows import SlideRows

_BATCH_SPOTS: Final = 2_048  # with thumbnails some 10 MB


def slide_table(rows: SlideRows, digest: str, embedded: Sequence[str]) -> pa.Table:
    """Lay out the slide's row of the slides table, with the columns of its vectors and without its first row ids."""
    slide = rows.slide
    width_px, height_px = slide.image.size_px if slide.image is not None else (None, None)
    values = {
        **_texts(slide),
        "image_uri": origin_of(slide.image.uri) if slide.image is not None else "",
        "source": origin_of(slide.source),
        "reader": slide.reader,
        "content_hash": digest,
        "mpp": slide.mpp,
        "width_px": width_px,
        "height_px": height_px,
        "spot_diameter_um": slide.spot_diameter_um,
        "n_spots": slide.n_spots,
        "provenance": json.dumps(dict(rows.provenance), sort_keys=True),
        "n_genes": len(slide.genes),
        "first_spot": 0,
        "first_gene": 0,
        "embedded": list(embedded),
        "notes": list(slide.notes),
        "added_at": datetime.now(UTC),
        "genes": list(slide.genes),
        "gene_ids": list(slide.gene_ids),
        "overview": rows.overview,
    }
    return pa.Table.from_pylist([values], schema=slides_schema())


def with_first_rows(slide: pa.Table, first_spot: int, first_gene: int) -> pa.Table:
    """Fill in where the rows of a slide begin in the tables of spots and of expression."""
    for name, first in (("first_spot", first_spot), ("first_gene", first_gene)):
        at = slide.schema.get_field_index(name)
        field = slide.schema.field(at)
        slide = slide.set_column(at, field, pa.array([first], field.type))
    return slide


def spots_batches(
    rows: SlideRows, encoders: Mapping[str, int], encoder: str
) -> pa.RecordBatchReader:
    """Lay out the slide's rows of the spots table, with the vectors of one of its encoders, some at a time."""
    schema = spots_schema(encoders)
    counts = canonical_counts(rows.slide.counts)
    starts = range(0, rows.slide.n_spots, _BATCH_SPOTS)
    parts = (slice(start, start + _BATCH_SPOTS) for start in starts)
    batches = (_spots_batch(rows, counts, schema, (part, encoder)) for part in parts)
    return pa.RecordBatchReader.from_batches(schema, batches)


def _spots_batch(
    rows: SlideRows, counts: csr_matrix, schema: pa.Schema, wanted: tuple[slice, str]
) -> pa.RecordBatch:
    """Lay out some of the slide's spots; `wanted` says which, and by which encoder their vectors are."""
    slide, (part, encoder) = rows.slide, wanted
    spots, counts = slide.spots.iloc[part], counts[part]
    n = len(spots)
    barcodes = [str(barcode) for barcode in spots.index]
    xy_px = spots[["x_px", "y_px"]].to_numpy(dtype=np.float64)  # (n, 2)
    xy_um = xy_px * (np.nan if slide.mpp is None else slide.mpp)
    columns = {
        "spot_id": [f"{slide.slide_id}:{barcode}" for barcode in barcodes],
        **{name: [text] * n for name, text in _texts(slide).items()},
        "barcode": barcodes,
        "x_px": xy_px[:, 0],
        "y_px": xy_px[:, 1],
        "x_um": xy_um[:, 0],
        "y_um": xy_um[:, 1],
        "gene_indices": _lists(counts.indptr, counts.indices.astype(np.int32)),
        "gene_counts": _lists(counts.indptr, counts.data),
        **_quality(rows, part),
        **{name: vector_array(v[part]) for name, v in embeddings(rows, encoder).items()},
    }
    if slide.has_counts:
        columns["n_counts"] = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
        columns["n_genes"] = np.diff(counts.indptr).astype(np.int32)
    if rows.thumbnails is not None:
        columns["thumbnail"] = rows.thumbnails[part]
    arrays = [
        _as_array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(n, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _quality(rows: SlideRows, part: slice) -> dict[str, pa.Array]:
    """Quality of some spots; NaN is missing."""
    return {
        name: pa.array(np.asarray(values[part], np.float32), from_pandas=True)
        for name, values in {**rows.slide.quality, **rows.quality}.items()
    }


def embeddings(rows: SlideRows, encoder: str) -> dict[str, NDArray[np.float32]]:
    """Vectors that a slide has, by the name of their column."""
    given = {"image": rows.image, "gene": rows.gene}
    return {
        vector_column(encoder, modality): values  # type: ignore[arg-type]
        for modality, values in given.items()
        if values is not None
    }


def expression_table(slide: Slide) -> pa.Table:
    """Lay out the slide's rows of the gene-major table: one per gene of its gene list."""
    by_gene = canonical_counts(slide.counts).tocsc()
    arrays = [
        pa.array(list(slide.genes), pa.string()),
        pa.array([slide.slide_id] * len(slide.genes), pa.string()),
        _lists(by_gene.indptr, by_gene.indices.astype(np.int32)),
        _lists(by_gene.indptr, by_gene.data),
    ]
    return pa.Table.from_arrays(arrays, schema=expression_schema())


def source_labels(slide: Slide) -> pa.Table:
    """Lay out what the slide's source says of its spots besides their position."""
    extra = slide.spots.drop(columns=["x_px", "y_px"])
    tables = [
        label_table(slide.slide_id, str(name), extra[name], author="", source=slide.source)
        for name in extra.columns
    ]
    return pa.concat_tables([labels_schema().empty_table(), *tables])


def label_table(
    slide_id: str, name: str, values: pd.Series[Any], *, author: str, source: str
) -> pa.Table:
    """Lay out one label of every spot of a slide: numbers if its values are, else text; "" and NaN are missing."""
    import pandas as pd

    known = values.notna() & (values.astype("str") != "")
    row: dict[str, Any] = {
        "label_id": uuid.uuid4().hex,
        "slide_id": slide_id,
        "name": name,
        "author": author,
        "source": source,
        "created_at": datetime.now(UTC),
    }
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        row["numbers"] = values.to_numpy(np.float64, na_value=np.nan)
    else:
        codes, categories = pd.factorize(values.astype("str").where(known))
        row["codes"], row["categories"] = codes.astype(np.int32), list(categories)
    return pa.Table.from_pylist([row], schema=labels_schema())


def vector_array(vectors: NDArray[np.float32]) -> pa.Array:
    """Vectors (n, d) as fixed-size lists of float16."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def _texts(slide: Slide) -> dict[str, str]:
    return {name: getattr(slide, name) for name in SLIDE_TEXT}


def _as_array(values: Sequence[object] | NDArray[Any] | pa.Array, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _lists(offsets: NDArray[Any], values: NDArray[Any]) -> pa.Array:
    """Arrow lists from the two arrays of a sparse matrix: no copy row by row."""
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))
