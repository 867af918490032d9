"""One slide laid out as Arrow tables."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

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

    from stamp_index.slides.slide import Slide
    from stamp_index.store.rows import SlideRows


def slide_table(rows: SlideRows, digest: str, first: tuple[int, int], encoder: str) -> pa.Table:
    """Lay out the slide's row of the slides table; `first` are its row ids of spots and of genes."""
    slide = rows.slide
    width_px, height_px = slide.image.size_px if slide.image is not None else (None, None)
    values = {
        **_texts(slide),
        "image_uri": slide.image.uri if slide.image is not None else "",
        "source": slide.source,
        "reader": slide.reader,
        "content_hash": digest,
        "mpp": slide.mpp,
        "width_px": width_px,
        "height_px": height_px,
        "spot_diameter_um": slide.spot_diameter_um,
        "n_spots": slide.n_spots,
        "n_genes": len(slide.genes),
        "first_spot": first[0],
        "first_gene": first[1],
        "embedded": list(embeddings(rows, encoder)),
        "notes": list(slide.notes),
        "added_at": datetime.now(UTC),
        "genes": list(slide.genes),
        "gene_ids": list(slide.gene_ids),
        "overview": rows.overview,
    }
    return pa.Table.from_pylist([values], schema=slides_schema())


def spots_table(rows: SlideRows, encoders: Mapping[str, int], encoder: str) -> pa.Table:
    """Lay out the slide's rows of the spots table, with the vectors of one of its encoders."""
    slide = rows.slide
    n = slide.n_spots
    counts = canonical_counts(slide.counts)
    barcodes = [str(barcode) for barcode in slide.spots.index]
    xy_px = slide.spots[["x_px", "y_px"]].to_numpy(dtype=np.float64)  # (n, 2)
    xy_um = xy_px * (np.nan if slide.mpp is None else slide.mpp)
    vectors = embeddings(rows, encoder)
    columns = {
        "spot_id": [f"{slide.slide_id}:{barcode}" for barcode in barcodes],
        **{name: [text] * n for name, text in _texts(slide).items()},
        "barcode": barcodes,
        "x_px": xy_px[:, 0],
        "y_px": xy_px[:, 1],
        "x_um": xy_um[:, 0],
        "y_um": xy_um[:, 1],
        "n_counts": np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(),
        "n_genes": np.diff(counts.indptr).astype(np.int32),
        "gene_indices": _lists(counts.indptr, counts.indices.astype(np.int32)),
        "gene_counts": _lists(counts.indptr, counts.data),
        "thumbnail": [None] * n if rows.thumbnails is None else list(rows.thumbnails),
        **{name: vector_array(values) for name, values in vectors.items()},
    }
    schema = spots_schema(encoders)
    arrays = [
        _as_array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(n, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


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
