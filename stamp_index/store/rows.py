"""What goes into a store for one slide: checked, hashed and laid out as Arrow tables."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from stamp_index.errors import DuplicateGenesError
from stamp_index.store.schema import (
    expression_schema,
    slides_schema,
    spots_schema,
    vector_column,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.slides.slide import Slide
    from stamp_index.store.card import EncoderCard

_UNIT_TOLERANCE: Final = 1e-3  # float16 keeps 11 bits, so a stored unit vector is off by < 5e-4


@dataclass(frozen=True)
class SlideRows:
    """One slide with everything that was computed from it.

    Attributes
    ----------
    slide : Slide
        Its spots, counts and metadata.
    image, gene : ndarray of shape (n, d), float32, or None
        Unit vectors in the order of the slide's spots. `image` is None for a slide without image.
    thumbnails : list of n JPEG files as bytes, or None
        One picture per spot.
    overview : bytes or None
        JPEG of the whole slide, at most 1024 px on its longer side.
    fingerprint : str
        Of the encoder that made the vectors.
    """

    slide: Slide
    image: NDArray[np.float32] | None
    gene: NDArray[np.float32]
    thumbnails: Sequence[bytes] | None
    overview: bytes | None
    fingerprint: str


def check_rows(rows: SlideRows, dim: int) -> None:
    """Refuse a slide that contradicts itself, and vectors or thumbnails that do not fit it.

    Raises
    ------
    DuplicateGenesError
        If a gene stands twice in the slide's gene list.
    ValueError
        If a shape is wrong, a barcode stands twice, a count or position is not a valid number, or
        a vector is not finite and of unit length.
    """
    slide = rows.slide
    _check_genes(slide)
    problem = _problem(slide)
    if problem:
        msg = f"Slide '{slide.slide_id}' {problem}. Correct the slide, or leave it out."
        raise ValueError(msg)
    _check_vectors("gene", rows.gene, (slide.n_spots, dim), slide.slide_id)
    if rows.image is not None:
        _check_vectors("image", rows.image, (slide.n_spots, dim), slide.slide_id)
    if rows.thumbnails is not None and len(rows.thumbnails) != slide.n_spots:
        msg = (
            f"Slide '{slide.slide_id}' has {slide.n_spots} spots but {len(rows.thumbnails)} "
            f"thumbnails were given. Give one per spot, or None."
        )
        raise ValueError(msg)


def _check_genes(slide: Slide) -> None:
    # A gene is found by its place in the gene list, so a list with repeats would break every read.
    repeated = sorted(gene for gene, times in Counter(slide.genes).items() if times > 1)
    if repeated:
        msg = (
            f"Slide '{slide.slide_id}' names {len(repeated)} genes more than once "
            f"({', '.join(repeated[:5])}). Sum their counts, or keep one of each."
        )
        raise DuplicateGenesError(msg)


def _problem(slide: Slide) -> str:
    """Say what in the slide contradicts itself; "" where nothing does."""
    n, g = slide.n_spots, len(slide.genes)
    if not slide.slide_id:
        return "has an empty slide_id"
    if n == 0:
        return "has no spots"
    if slide.counts.shape != (n, g):
        return f"has counts of shape {slide.counts.shape}; expected {(n, g)}: spots by genes"
    if len(slide.gene_ids) not in (0, g):
        return f"has {len(slide.gene_ids)} gene_ids for {g} genes"
    repeated = slide.spots.index[slide.spots.index.duplicated()]
    if len(repeated):
        return f"has barcode '{repeated[0]}' more than once"
    values = slide.counts.data
    bad = values[~(np.isfinite(values) & (values >= 0))]
    if len(bad):
        return f"has {len(bad)} counts that are not finite numbers of at least 0, such as {bad[0]}"
    outside = np.flatnonzero(~np.isfinite(slide.xy_px).all(axis=1))
    if len(outside):
        return f"has {len(outside)} spots without a finite position, such as {outside[0]}"
    return ""


def _check_vectors(
    modality: str, vectors: NDArray[np.float32], shape: tuple[int, int], slide_id: str
) -> None:
    if vectors.shape != shape:
        msg = (
            f"The {modality} embeddings of slide '{slide_id}' have shape {vectors.shape}; expected "
            f"{shape}: one row per spot, one column per dimension of the store's encoder."
        )
        raise ValueError(msg)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) <= _UNIT_TOLERANCE))  # a NaN length is bad too
    if len(bad):
        msg = (
            f"{len(bad)} of {shape[0]} {modality} embeddings of slide '{slide_id}' are not unit "
            f"vectors (spot {bad[0]} has length {lengths[bad[0]]:.4g}). Embed the slide again."
        )
        raise ValueError(msg)


def content_hash(slide: Slide) -> str:
    """Hash of the slide's image and counts, whatever the slide is called (sha256, hex)."""
    image = "no image" if slide.image is None else slide.image.content_hash()
    return hashlib.sha256(f"{image} {slide.counts_hash()}".encode()).hexdigest()


def canonical_counts(counts: csr_matrix) -> csr_matrix:
    """Copy as float32 without stored zeros or duplicates, columns ascending in every row."""
    from scipy.sparse import csr_matrix

    copy = csr_matrix(counts, dtype=np.float32, copy=True)
    copy.sum_duplicates()
    copy.eliminate_zeros()
    return copy


def slide_table(rows: SlideRows, digest: str, first_spot: int, first_gene: int) -> pa.Table:
    """Lay out the slide's row of the slides table."""
    slide = rows.slide
    width_px, height_px = slide.image.size_px if slide.image is not None else (None, None)
    values = {
        "slide_id": slide.slide_id,
        "patient_id": slide.patient_id,
        "organ": slide.organ,
        "disease": slide.disease,
        "species": slide.species,
        "platform": slide.platform,
        "image_uri": slide.image.uri if slide.image is not None else "",
        "source": slide.source,
        "reader": slide.reader,
        "content_hash": digest,
        "mpp": slide.mpp,
        "width_px": width_px,
        "height_px": height_px,
        "spot_diameter_um": slide.spot_diameter_um,
        "n_spots": slide.n_spots,
        "first_spot": first_spot,
        "first_gene": first_gene,
        "image_embedded": rows.image is not None,
        "notes": list(slide.notes),
        "added_at": datetime.now(UTC),
        "genes": list(slide.genes),
        "gene_ids": list(slide.gene_ids),
        "overview": rows.overview,
    }
    return pa.Table.from_pylist([values], schema=slides_schema())


def spots_table(rows: SlideRows, card: EncoderCard) -> pa.Table:
    """Lay out the slide's rows of the spots table."""
    slide = rows.slide
    n = slide.n_spots
    counts = canonical_counts(slide.counts)
    barcodes = [str(barcode) for barcode in slide.spots.index]
    xy_px = slide.spots[["x_px", "y_px"]].to_numpy(dtype=np.float64)  # (n, 2)
    xy_um = xy_px * (np.nan if slide.mpp is None else slide.mpp)
    columns = {
        "spot_id": [f"{slide.slide_id}:{barcode}" for barcode in barcodes],
        "slide_id": [slide.slide_id] * n,
        "barcode": barcodes,
        "patient_id": [slide.patient_id] * n,
        "organ": [slide.organ] * n,
        "x_px": xy_px[:, 0],
        "y_px": xy_px[:, 1],
        "x_um": xy_um[:, 0],
        "y_um": xy_um[:, 1],
        "n_counts": np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(),
        "n_genes": np.diff(counts.indptr).astype(np.int32),
        "labels": _labels(slide),
        vector_column(card, "image"): _vectors(rows.image, n, card.dim),
        vector_column(card, "gene"): _vectors(rows.gene, n, card.dim),
        "gene_indices": _lists(counts.indptr, counts.indices.astype(np.int32)),
        "gene_counts": _lists(counts.indptr, counts.data),
        "thumbnail": [None] * n if rows.thumbnails is None else list(rows.thumbnails),
    }
    schema = spots_schema(card)
    arrays = [_as_array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


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


def _as_array(values: Sequence[object] | NDArray[Any] | pa.Array, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _lists(offsets: NDArray[Any], values: NDArray[Any]) -> pa.Array:
    """Arrow lists from the two arrays of a sparse matrix: no copy row by row."""
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


def _vectors(vectors: NDArray[np.float32] | None, n: int, dim: int) -> pa.Array:
    """Fixed-size lists of float16; all null where there are no vectors."""
    if vectors is None:
        return pa.nulls(n, pa.list_(pa.float16(), dim))
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, dim)


def _labels(slide: Slide) -> list[str]:
    """Write what spots carry besides their position as one JSON object each."""
    extra = slide.spots.drop(columns=["x_px", "y_px"])
    if extra.shape[1] == 0:
        return ["{}"] * slide.n_spots
    records = json.loads(extra.to_json(orient="records"))
    return [json.dumps(record) for record in records]
