"""Searches as values: the method of a searcher with every argument, which can be run, written down and compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, cast

from stamp_index.search.asking import DEFAULT_K, DEFAULT_RECALL, Against, OnePer
from stamp_index.search.filtering import parse_filter
from stamp_index.search.regions.query import Region
from stamp_index.search.regions.search import DEFAULT_REGIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from shapely import MultiPolygon, Polygon

    from stamp_index.search.filtering import Condition
    from stamp_index.search.hits import Hits
    from stamp_index.search.regions.hits import RegionHits
    from stamp_index.search.regions.settings import RegionSettings
    from stamp_index.search.searcher import Searcher
    from stamp_index.search.selection import Own
    from stamp_index.search.vector_searcher import VectorSearcher
    from stamp_index.store import Modality

Outlines: TypeAlias = tuple[tuple[tuple[tuple[float, float], ...], ...], ...]

# Fields that say what is asked for; all others are keyword arguments of the method.
_SUBJECTS: Final = ("signature", "file_name", "spot_id", "slide_id", "outlines", "spot_ids")


@dataclass(frozen=True, kw_only=True)
class Request(ABC):
    """What every search is asked with; see `VectorSearcher`.

    Attributes
    ----------
    filters : str
        In the filter language; "" for none. A `Condition` that is given becomes its text.
    k, recall
        As `VectorSearcher` says.

    Raises
    ------
    QueryError
        If the filter cannot be read.
    """

    method: ClassVar[str]  # of the searcher
    kind: ClassVar[str]  # for people

    filters: Condition | str | None = None
    k: int = DEFAULT_K
    recall: float = DEFAULT_RECALL

    def __post_init__(self) -> None:
        given = parse_filter("" if self.filters is None else str(self.filters))
        object.__setattr__(self, "filters", "" if given is None else str(given))

    @property
    @abstractmethod
    def subject(self) -> dict[str, Any]:
        """What is asked for, by name, in plain values."""

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the method, in plain values; `filters` is None where there is none."""
        found = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name not in _SUBJECTS
        }
        return found | {"filters": self.filters or None}


@dataclass(frozen=True, kw_only=True)
class _SpotsRequest(Request):
    """What every search for spots is asked with; see `VectorSearcher`."""

    genes: tuple[str, ...] = ()
    one_per: OnePer = None


@dataclass(frozen=True, kw_only=True)
class GeneRequest(_SpotsRequest):
    """A search by signature: `Searcher.search_genes`.

    Attributes
    ----------
    signature : str
        Such as ``"CD8A high, EPCAM low"``.
    against, rank_by
        As `Searcher.search_genes` says.
    """

    method: ClassVar[str] = "search_genes"
    kind: ClassVar[str] = "genes"

    signature: str
    against: Against = "image"
    rank_by: Literal["score", "measured"] = "score"

    @property
    def subject(self) -> dict[str, Any]:
        """The signature."""
        return {"signature": self.signature}

    def run(self, searcher: Searcher) -> Hits:
        """Ask."""
        return searcher.search_genes(self.signature, **self.arguments())


@dataclass(frozen=True, kw_only=True)
class ImageRequest(_SpotsRequest):
    """A search by picture: `Searcher.search_image`. The picture itself is not kept.

    Attributes
    ----------
    file_name : str
        Name of the picture's file, to be found again by.
    mpp, against, centre_px
        As `Searcher.search_image` says.
    """

    method: ClassVar[str] = "search_image"
    kind: ClassVar[str] = "image"

    file_name: str
    mpp: float
    against: Against = "gene"
    centre_px: tuple[float, float] | None = None

    @property
    def subject(self) -> dict[str, Any]:
        """Name of the picture's file."""
        return {"file_name": self.file_name}

    def run(self, searcher: Searcher, patch: NDArray[np.uint8]) -> Hits:
        """Ask with the picture's pixels."""
        return searcher.search_image(patch, **self.arguments())


@dataclass(frozen=True, kw_only=True)
class SpotRequest(_SpotsRequest):
    """A search by stored spot: `VectorSearcher.search_spot`.

    Attributes
    ----------
    spot_id : str
        ``<slide_id>:<barcode>``.
    query, against, exclude_own
        As `VectorSearcher.search_spot` says.
    """

    method: ClassVar[str] = "search_spot"
    kind: ClassVar[str] = "spot"

    spot_id: str
    query: Modality = "image"
    against: Against = "image"
    exclude_own: Own = "nothing"

    @property
    def subject(self) -> dict[str, Any]:
        """The spot."""
        return {"spot_id": self.spot_id}

    def run(self, searcher: VectorSearcher) -> Hits:
        """Ask."""
        return searcher.search_spot(self.spot_id, **self.arguments())


@dataclass(frozen=True, kw_only=True)
class RegionRequest(Request):
    """A search by region: `VectorSearcher.search_region`. Either an outline or spots are given.

    Attributes
    ----------
    slide_id : str
        The region's slide.
    outlines : tuple of polygons
        Parts of the region, each a tuple of rings, the outer one first and then its holes; a ring is a tuple of (x, y) in
        level-0 pixels. See `rings_of`.
    spot_ids : tuple of str
        Ids of its spots.
    query, against, exclude_own, settings
        As `VectorSearcher.search_region` says.
    """

    method: ClassVar[str] = "search_region"
    kind: ClassVar[str] = "region"

    slide_id: str
    outlines: Outlines = ()
    spot_ids: tuple[str, ...] = ()
    query: Modality = "image"
    against: Modality = "image"
    exclude_own: Own = "slide"
    k: int = DEFAULT_REGIONS
    settings: RegionSettings | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.outlines) == bool(self.spot_ids):
            msg = "A region request needs either outlines or spot_ids, and not both."
            raise ValueError(msg)

    @property
    def subject(self) -> dict[str, Any]:
        """The slide, and the outlines or the spots."""
        if self.spot_ids:
            return {"slide_id": self.slide_id, "spot_ids": self.spot_ids}
        return {"slide_id": self.slide_id, "outlines_px": self.outlines}

    def region(self) -> Region | tuple[str, ...]:
        """Make what `search_region` takes."""
        import shapely

        if self.spot_ids:
            return self.spot_ids
        parts = [shapely.Polygon(rings[0], rings[1:]) for rings in self.outlines]
        shape = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
        return Region(self.slide_id, shape, "px")

    def run(
        self, searcher: VectorSearcher, *, progress: Callable[[int, int], object] | None = None
    ) -> RegionHits:
        """Ask; `progress` is as `VectorSearcher.search_region` says."""
        return searcher.search_region(
            cast("Any", self.region()), **self.arguments(), progress=progress
        )


def rings_of(shape: Polygon | MultiPolygon | ArrayLike) -> Outlines:
    """Outlines of a shape, for `RegionRequest`.

    Parameters
    ----------
    shape : Polygon, MultiPolygon, or array of shape (n, 2)
        In level-0 pixels.
    """
    import shapely

    drawn: Any = shape if isinstance(shape, shapely.Geometry) else shapely.Polygon(shape)
    return tuple(
        tuple(
            tuple((float(x), float(y)) for x, y in shapely.get_coordinates(ring))
            for ring in (part.exterior, *part.interiors)
        )
        for part in shapely.get_parts(drawn)
    )
