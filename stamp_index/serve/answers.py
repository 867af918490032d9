"""Bodies of answers, as OpenAPI describes them. `stamp_index.serve.plain` writes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """What went wrong."""

    type: str = Field(description="Name of the error, such as QueryError.")
    message: str = Field(description="What is wrong, what was expected, and what to do.")


class ProblemAnswer(BaseModel):
    """An error."""

    error: Problem


class _OfVersion(BaseModel):
    store_version: int = Field(description="Version of the store that was asked.")
    fingerprint: str = Field(description="Of the encoder whose embeddings were compared.")


class Hit(BaseModel):
    """A spot that was found; null stands for what is not known."""

    rank: int
    score: float = Field(description="Cosine, or the weighted mean of two.")
    z: float | None = Field(description="Standard deviations above this query's mean score.")
    percentile: float | None = Field(description="Share of random queries whose best hit is worse.")
    row: int = Field(description="Row of the store; a spot's for life.")
    spot_id: str
    slide_id: str
    patient_id: str
    organ: str
    x_px: float | None = Field(description="Patch centre, level-0 pixels.")
    y_px: float | None
    x_um: float | None
    y_um: float | None
    measured: float | None = Field(None, description="A signature in the measured expression.")
    expression: dict[str, float | None] = Field(description="log1p of counts per 10,000, by gene.")


class HitsAnswer(_OfVersion):
    """Spots that one query found, best first."""

    query: str
    notes: list[str] = Field(description="What should be known about the answer.")
    genes: list[str]
    ranked_by: Literal["score", "measured"]
    hits: list[Hit]


class ManyAnswer(_OfVersion):
    """Answers of several queries, in their order."""

    answers: list[HitsAnswer]


class NearestAnswer(_OfVersion):
    """Rows for several queries; short ones end in row -1 with score null."""

    scores: list[list[float | None]]
    rows: list[list[int]]


class RegionHit(BaseModel):
    """A region that was found."""

    rank: int
    score: float = Field(description="Composition times content.")
    composition: float
    content: float
    slide_id: str
    patient_id: str
    organ: str
    n_spots: int
    area_um2: float
    x_px: float
    y_px: float
    x_um: float
    y_um: float
    rows: list[int] = Field(description="Rows of its spots.")
    matches: list[int] = Field(description="Prototype of the query that each answers; -1 for none.")
    outline: list[list[list[float]]] = Field(description="Rings of [x, y] in level-0 pixels.")


class RegionsAnswer(_OfVersion):
    """Regions that a query region found, best first."""

    query: str
    notes: list[str]
    slides: list[str] = Field(description="Slides that were looked at closely.")
    query_rows: list[int]
    query_matches: list[int]
    hits: list[RegionHit]


class EncoderAnswer(BaseModel):
    """An encoder of the store."""

    name: str
    fingerprint: str
    dim: int
    patch_width_um: float
    patch_size_px: int
    region_width_um: float
    panel_hash: str


class IndexAnswer(BaseModel):
    """An index of the store."""

    kind: str
    n: int = Field(description="Spots in it; newer ones are searched exactly.")


class StoreAnswer(_OfVersion):
    """The store."""

    name: str
    store_id: str
    library_version: str
    n_slides: int
    n_spots: int
    n_rows: int = Field(description="Row ids given so far, those of deleted slides included.")
    n_genes: int
    encoder: str = Field(description="Name in the store of the encoder that is searched with.")
    encoders: dict[str, EncoderAnswer]
    indexes: dict[str, IndexAnswer]
    label_names: list[str]


class SlideAnswer(BaseModel):
    """A slide, without where its files lie."""

    slide_id: str
    patient_id: str
    organ: str
    disease: str
    species: str
    platform: str
    reader: str
    content_hash: str
    mpp: float | None
    width_px: int | None
    height_px: int | None
    spot_diameter_um: float | None
    n_spots: int
    n_genes: int
    first_spot: int = Field(description="Row of its first spot; the others follow.")
    embedded: list[str]
    notes: list[str]
    added_at: str


class SlidesAnswer(_OfVersion):
    """All slides, in the order in which they were added."""

    slides: list[SlideAnswer]


class GenesAnswer(_OfVersion):
    """Every gene that was measured on any slide."""

    genes: list[str]
    gene_ids: list[str] = Field(description="Ensembl ids; empty where unknown.")


class ColumnsAnswer(_OfVersion):
    """Columns of a table, by name; `rows` are the rows of the store."""

    rows: list[int]
    columns: dict[str, list[Any]]


class ExpressionAnswer(_OfVersion):
    """Values by spot and gene; null where the slide did not measure the gene."""

    genes: list[str]
    rows: list[int]
    values: list[list[float | None]]


class ThumbnailsAnswer(_OfVersion):
    """JPEG of each spot's patch, in base64; null where its slide has no image."""

    thumbnails: list[str | None]


class StateAnswer(BaseModel):
    """Whether the server works."""

    state: str
