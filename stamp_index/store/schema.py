"""Columns of the tables.

Rows of one slide stand together in every table, in the order of the slide: its spots are rows
``first_spot`` to ``first_spot + n_spots`` of `spots`, and gene i of its gene list is row
``first_gene + i`` of `expression`. So a gene is read without searching for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from stamp_index.store.card import EncoderCard

Modality = Literal["image", "gene"]
MODALITIES: Final = ("image", "gene")

SLIDES: Final = "slides"
SPOTS: Final = "spots"
EXPRESSION: Final = "expression"
TABLES: Final = (SLIDES, SPOTS, EXPRESSION)

# Read on their own, never with the rest of the slides table: they are large.
GENES: Final = "genes"
GENE_IDS: Final = "gene_ids"
OVERVIEW: Final = "overview"


def vector_column(card: EncoderCard, modality: Modality) -> str:
    """Name of the embedding column of one modality.

    Raises
    ------
    ValueError
        If there is no such modality.
    """
    if modality not in MODALITIES:
        msg = f"There is no modality '{modality}'; give one of {', '.join(MODALITIES)}."
        raise ValueError(msg)
    return f"{modality}_{card.name}"


def slides_schema() -> pa.Schema:
    """One row per slide."""
    text = [
        pa.field(name, pa.string())
        for name in (
            "slide_id",
            "patient_id",
            "organ",
            "disease",
            "species",
            "platform",
            "image_uri",
            "source",
            "reader",
            "content_hash",
        )
    ]
    return pa.schema(
        [
            *text,
            pa.field("mpp", pa.float64()),
            pa.field("width_px", pa.int64()),  # of level 0
            pa.field("height_px", pa.int64()),
            pa.field("spot_diameter_um", pa.float64()),
            pa.field("n_spots", pa.int64()),
            pa.field("first_spot", pa.int64()),
            pa.field("first_gene", pa.int64()),
            pa.field("image_embedded", pa.bool_()),  # its spots have image vectors
            pa.field("notes", pa.list_(pa.string())),
            pa.field("added_at", pa.timestamp("us", "UTC")),
            pa.field(GENES, pa.list_(pa.string())),
            pa.field(GENE_IDS, pa.list_(pa.string())),
            pa.field(OVERVIEW, pa.binary()),  # JPEG; its scale is its width over width_px
        ]
    )


def spots_schema(card: EncoderCard) -> pa.Schema:
    """One row per spot."""
    vector = pa.list_(pa.float16(), card.dim)
    return pa.schema(
        [
            pa.field("spot_id", pa.string()),
            pa.field("slide_id", pa.string()),
            pa.field("barcode", pa.string()),
            pa.field("patient_id", pa.string()),
            pa.field("organ", pa.string()),
            pa.field("x_px", pa.float64()),
            pa.field("y_px", pa.float64()),
            pa.field("x_um", pa.float64()),
            pa.field("y_um", pa.float64()),
            pa.field("n_counts", pa.float64()),
            pa.field("n_genes", pa.int32()),
            pa.field("labels", pa.string()),  # JSON object of what else the source says
            pa.field(vector_column(card, "image"), vector),
            pa.field(vector_column(card, "gene"), vector),
            pa.field("gene_indices", pa.list_(pa.int32())),  # into the slide's gene list
            pa.field("gene_counts", pa.list_(pa.float32())),
            # Lance keeps a blob column apart, so that scans of the others never read it.
            pa.field("thumbnail", pa.large_binary(), metadata={"lance-encoding:blob": "true"}),
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
