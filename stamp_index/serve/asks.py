"""Bodies of requests: the keywords of `Searcher`'s methods, and nothing else.

Only types are checked here. Values are checked by the library, which says the same in Python and over HTTP.

This happens in the loop, where all others wait, so the first wrong value of a list ends it: pydantic would make an error
of each, of which a million take gigabytes. How many values there may be is the gate's to bound.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from stamp_index.search.asking import DEFAULT_K, DEFAULT_RECALL
from stamp_index.search.regions.search import DEFAULT_REGIONS


def _one_of(*words: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(words)})


def _all_numbers(given: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(given, dict) and not all(type(one) in (int, float) for one in given.values()):
        msg = "expected a number for each name"
        raise ValueError(msg)
    return given


Item = TypeVar("Item")
Many = Annotated[list[Item], Field(fail_fast=True)]
Numbers = Annotated[dict[str, float], BeforeValidator(_all_numbers)]
Side = Annotated[str, _one_of("image", "gene")]
Sides = Side | Numbers
Own = Annotated[str, _one_of("nothing", "slide", "patient")]
OnePer = Annotated[str, _one_of("slide", "patient")] | float | None


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _no_more_than_are_known(cls, given: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        if isinstance(given, dict) and len(given) > len(cls.model_fields):
            msg = f"expected no other fields than {', '.join(cls.model_fields)}"
            raise ValueError(msg)
        return given


class _Ask(_Body):
    """What every search takes."""

    filters: str | None = Field(
        None,
        description="Which spots may be hits, in the filter language.",
        examples=['organ == "breast" and expr("CD8A") > 1'],
    )
    recall: float = Field(
        DEFAULT_RECALL, description="Share of the best hits to find: 0.95, 0.99, or 1.0 for all."
    )


class _RowsAsk(_Ask):
    """What every search for spots takes."""

    k: int = Field(DEFAULT_K, description="Hits wanted.")
    one_per: OnePer = Field(
        None, description="One hit per slide, per patient, or within so many microns."
    )


class _SpotsAsk(_RowsAsk):
    """What every search that reports expression takes."""

    genes: Many[str] = Field([], description="Genes whose measured expression the hits report.")


class GenesAsk(_SpotsAsk):
    """Search by a signature."""

    signature: str | Numbers = Field(
        description="Genes, high or low, or weights by gene.", examples=["CD8A high, EPCAM low"]
    )
    against: Sides = Field(
        "image", description="Embeddings that are searched, or weights for both."
    )
    rank_by: Annotated[str, _one_of("score", "measured")] = Field(
        "score", description="Order of the hits."
    )


class ImageAsk(_SpotsAsk):
    """Search by a picture of tissue."""

    mpp: float = Field(description="Microns per pixel of the picture.", examples=[0.5])
    against: Sides = Field("gene", description="As in a search by genes.")
    centre_px: Many[float] | None = Field(
        None, description="x and y of the patch's centre; the picture's middle by default.",
        min_length=2, max_length=2,
    )  # fmt: skip
    image_base64: str = Field(description="A PNG, JPEG or TIFF file, at most 4096 x 4096 px.")


# A number where it can be read as one
_NumberOrWord = Annotated[
    float | Annotated[str, _one_of("slide", "patient")], Field(union_mode="left_to_right")
]


class PictureAsk(BaseModel):
    """Search by a picture whose file is the body: all that goes into the address, where everything is text."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    mpp: float = Field(description="Microns per pixel of the picture.", examples=[0.5])
    against: Side = Field("gene", description="Embeddings that are searched.")
    k: int = Field(DEFAULT_K, description="Hits wanted.")
    filters: str | None = Field(None, description="As in a search by genes.")
    genes: Many[str] = Field([], description="Genes that the hits report.")
    one_per: _NumberOrWord | None = Field(None, description="As in a search by genes.")
    recall: float = Field(DEFAULT_RECALL, description="As in a search by genes.")


class ProfileAsk(_SpotsAsk):
    """Search by a measured profile."""

    counts: Numbers = Field(description="Raw count by gene.", examples=[{"CD8A": 12}])
    against: Sides = Field("image", description="As in a search by genes.")


class VectorAsk(_SpotsAsk):
    """Search by an embedding of the store's encoder."""

    vector: Many[float] = Field(description="Its numbers; scaled to unit length.")
    against: Sides = Field("image", description="As in a search by genes.")


class VectorsAsk(_SpotsAsk):
    """Search by several embeddings at once."""

    vectors: Many[Many[float]] = Field(description="As `vector`, one for each query.")
    against: Sides = Field("image", description="As in a search by genes.")


class NearestAsk(_RowsAsk):
    """Rows for several embeddings, and nothing about them."""

    vectors: Many[Many[float]] = Field(description="One for each query.")
    against: Sides = Field("image", description="As in a search by genes.")


class SpotsAsk(_SpotsAsk):
    """Search by stored spots."""

    spot_ids: Many[str] = Field(description="`SLIDE:BARCODE` each.", examples=[["S1:B0001-1"]])
    query: Side = Field("image", description="Which of the spots' embeddings asks.")
    against: Sides = Field("image", description="As in a search by genes.")
    exclude_own: Own = Field("nothing", description="What to leave out besides the spot itself.")


class SettingsAsk(_Body):
    """How hard a region search looks: see `RegionSettings`."""

    n_prototypes: int = Field(8, le=64)
    n_near: int = Field(1024, le=8192)
    n_slides: int = Field(16, le=256)
    per_slide: int = Field(4, le=64)
    floor: float = 0.6
    softness: float = 0.2
    max_overlap: float = 0.2
    seed: int = Field(0, le=2**31 - 1)


class RegionAsk(_Ask):
    """Search by a region: polygons of a slide, or ids or rows of spots of one slide."""

    slide_id: str | None = Field(None, description="Slide on which the polygons lie.")
    polygons: Many[Many[Many[Many[float]]]] | None = Field(
        None,
        description="Rings of each polygon, the outer one first; a ring is a list of [x, y].",
        examples=[[[[[0, 0], [900, 0], [900, 900], [0, 900]]]]],
    )
    unit: Annotated[str, _one_of("um", "px")] = Field(
        "um", description="Of the polygons: microns or level-0 pixels."
    )
    spot_ids: Many[str] | None = Field(None, description="Instead of polygons.")
    rows: Many[int] | None = Field(None, description="Instead of polygons.")
    k: int = Field(DEFAULT_REGIONS, description="Regions wanted.")
    query: Side = Field("image", description="Which of the region's embeddings ask.")
    against: Side = Field("image", description="Embeddings that they are compared with.")
    exclude_own: Own = Field("slide", description="What to leave out besides the region itself.")
    settings: SettingsAsk | None = Field(None, description="How hard to look.")


class SpotRowsAsk(_Body):
    """Spots to read, by their rows or their ids."""

    rows: Many[int] | None = None
    spot_ids: Many[str] | None = None
    columns: Many[str] | None = Field(None, description="Columns of `Store.spots`; all by default.")


class RowsAsk(_Body):
    """Rows to read."""

    rows: Many[int]


class LabelsAsk(_Body):
    """Labels to read."""

    rows: Many[int]
    names: Many[str] | None = Field(None, description="All labels by default.")


class ExpressionAsk(_Body):
    """Expression to read."""

    genes: Many[str] = Field(examples=[["CD8A", "EPCAM"]])
    rows: Many[int]
    raw: bool = Field(
        default=False, description="Raw counts instead of log1p of counts per 10,000."
    )
