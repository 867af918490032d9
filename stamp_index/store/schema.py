"""Columns of the tables.

A row id is given once, by Lance, and never again: it outlives deletes and compaction. Rows of one slide
stand together in every table, in the order of the slide: its spots have row ids ``first_spot`` to
``first_spot + n_spots - 1`` of `spots`, and gene i of its gene list has row id ``first_gene + i`` of
`expression`. So a gene is read without searching for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

Modality = Literal["image", "gene"]
MODALITIES: Final[tuple[Modality, ...]] = ("image", "gene")

SLIDES: Final = "slides"
SPOTS: Final = "spots"
EXPRESSION: Final = "expression"
LABELS: Final = "labels"
TABLES: Final = (SLIDES, SPOTS, EXPRESSION, LABELS)

# Text of a slide that its spots repeat, so that Lance can filter them.
SLIDE_TEXT: Final = ("slide_id", "patient_id", "organ", "disease", "species", "platform")
# Quality of a spot, float32 in [0, 1]; null where it is not known. See `stamp_index.embed.quality`.
SPOT_QUALITY: Final = (
    "mito_fraction",  # counts in mitochondrial genes
    "tissue_fraction",  # of the patch
    "pen_fraction",
    "fold_fraction",
    "blur_fraction",
    "outside_fraction",  # of the patch, beyond the image's edges
)
# Scalar indexes of the spots table: what tells few values apart, and what is compared by size.
BITMAP_COLUMNS: Final = SLIDE_TEXT
BTREE_COLUMNS: Final = ("spot_id", "x_um", "y_um", "n_counts", "n_genes")

# Read on their own, never with the rest of the slides table: they are large.
GENES: Final = "genes"
GENE_IDS: Final = "gene_ids"
OVERVIEW: Final = "overview"
PROVENANCE: Final = (
    "provenance"  # JSON: files with their hashes, reader, parameters, what became of genes
)


def vector_column(encoder: str, modality: Modality) -> str:
    """Name of the embedding column of one modality.

    Parameters
    ----------
    encoder : str
        The encoder's name in the store.
    modality : {"image", "gene"}
        Which embedding.

    Raises
    ------
    ValueError
        If there is no such modality.
    """
    if modality not in MODALITIES:
        msg = f"There is no modality '{modality}'; give one of {', '.join(MODALITIES)}."
        raise ValueError(msg)
    return f"{modality}_{encoder}"


def vector_fields(encoder: str, dim: int) -> list[pa.Field]:
    """Embedding columns of one encoder."""
    vector = pa.list_(pa.float16(), dim)
    return [pa.field(vector_column(encoder, modality), vector) for modality in MODALITIES]


def key_field(name: str) -> pa.Field:
    """Text column whose values are unique: two merges of the same new key then cannot both insert it."""
    marked = {"lance-schema:unenforced-primary-key": "true"}
    return pa.field(name, pa.string(), nullable=False, metadata=marked)


def slides_schema() -> pa.Schema:
    """One row per slide."""
    texts = (*SLIDE_TEXT[1:], "image_uri", "source", "reader", "content_hash", PROVENANCE)
    return pa.schema(
        [
            key_field("slide_id"),
            *(pa.field(name, pa.string()) for name in texts),
            pa.field("mpp", pa.float64()),
            pa.field("width_px", pa.int64()),  # of level 0
            pa.field("height_px", pa.int64()),
            pa.field("spot_diameter_um", pa.float64()),
            pa.field("n_spots", pa.int64()),
            pa.field("n_genes", pa.int64()),
            pa.field("first_spot", pa.int64()),  # row ids
            pa.field("first_gene", pa.int64()),
            pa.field("embedded", pa.list_(pa.string())),  # embedding columns that its spots have
            pa.field("notes", pa.list_(pa.string())),
            pa.field("added_at", pa.timestamp("us", "UTC")),
            pa.field(GENES, pa.list_(pa.string())),
            pa.field(GENE_IDS, pa.list_(pa.string())),
            pa.field(OVERVIEW, pa.binary()),  # JPEG; its scale is its width over width_px
        ]
    )


def spots_schema(encoders: Mapping[str, int]) -> pa.Schema:
    """One row per spot; `encoders` gives the length of an embedding by the encoder's name in the store."""
    vectors = [field for name, dim in encoders.items() for field in vector_fields(name, dim)]
    return pa.schema(
        [
            key_field("spot_id"),
            *(pa.field(name, pa.string()) for name in (*SLIDE_TEXT, "barcode")),
            *(pa.field(name, pa.float64()) for name in ("x_px", "y_px", "x_um", "y_um")),
            pa.field("n_counts", pa.float64()),  # null where nothing was measured
            pa.field("n_genes", pa.int32()),
            *(pa.field(name, pa.float32()) for name in SPOT_QUALITY),
            pa.field("gene_indices", pa.list_(pa.int32())),  # into the slide's gene list
            pa.field("gene_counts", pa.list_(pa.float32())),
            # Lance keeps a blob column apart, so that scans of the others never read it.
            pa.field("thumbnail", pa.large_binary(), metadata={"lance-encoding:blob": "true"}),
            *vectors,
        ]
    )


def expression_schema() -> pa.Schema:
    """One row per gene and slide; a gene with no row was not measured on that slide."""
    return pa.schema(
        [
            pa.field("gene", pa.string()),
            pa.field("slide_id", pa.string()),
            pa.field("spot_offsets", pa.list_(pa.int32())),  # from the slide's first spot
            pa.field("counts", pa.list_(pa.float32())),
        ]
    )


def labels_schema() -> pa.Schema:
    """One row per annotation of one slide; rows are added, never changed.

    A label is text or a number. Text is kept as codes into `categories`, -1 where a spot has none; a
    number is NaN there.
    """
    return pa.schema(
        [
            key_field("label_id"),
            pa.field("slide_id", pa.string()),
            pa.field("name", pa.string()),
            pa.field("author", pa.string()),  # "" for what came with the slide
            pa.field("source", pa.string()),  # file or tool
            pa.field("created_at", pa.timestamp("us", "UTC")),
            pa.field("categories", pa.list_(pa.string())),  # null for numbers
            pa.field("codes", pa.list_(pa.int32())),  # one per spot of the slide
            pa.field("numbers", pa.list_(pa.float64())),  # null for text
        ]
    )
