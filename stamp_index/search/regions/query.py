"""What is asked: a shape on a slide, or spots of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np

from stamp_index.errors import EmptyQueryError, QueryError
from stamp_index.search.filtering import Field, Known, all_of
from stamp_index.search.regions.geojson import read_shape
from stamp_index.search.selection import Selection
from stamp_index.search.sources import Findable
from stamp_index.store.schema import vector_column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray
    from shapely import MultiPolygon, Polygon

    from stamp_index.search.filtering import Condition
    from stamp_index.store import Modality, Store

_NOT_FINITE: Final = "The outline holds NaN or infinite coordinates; expected finite (x, y)."
MIN_SPOTS: Final = 5  # fewer say nothing of how much there is of what


@dataclass(frozen=True, eq=False)
class Region:
    """A shape on a slide.

    Attributes
    ----------
    slide_id : str
        Slide on which it lies.
    outline : array of shape (n, 2), or shapely Polygon or MultiPolygon
        (x, y) of its corners, or the shape itself, which may have holes.
    unit : {"um", "px"}
        Of the coordinates: microns, or level-0 pixels.
    """

    slide_id: str
    outline: ArrayLike | Polygon | MultiPolygon
    unit: Literal["um", "px"] = "um"

    @classmethod
    def from_geojson(cls, path: Path | str, slide_id: str) -> Self:
        """Read a region from a GeoJSON file in level-0 pixels, such as QuPath exports.

        Parameters
        ----------
        path : path
            Polygons and MultiPolygons, alone or as features; several are one region together.
        slide_id : str
            Slide on which they lie. Features of `RegionHits.to_geojson` that are of other slides are left out.

        Raises
        ------
        EmptyQueryError
            If it holds no shape on this slide.
        QueryError
            If the file cannot be read or is no GeoJSON, or a shape is no polygon or crosses itself.
        """
        return cls(slide_id, read_shape(path, slide_id), "px")

    def shape(self) -> Polygon | MultiPolygon:
        """Return the outline as a shapely shape, in `unit`.

        Raises
        ------
        EmptyQueryError
            If it has no area.
        QueryError
            If it crosses itself.
        ValueError
            If it is no outline, or the unit is unknown.
        """
        import shapely

        if self.unit not in ("um", "px"):
            msg = f"The unit of a region is {self.unit!r}; expected 'um' or 'px'."
            raise ValueError(msg)
        shape: Any = self.outline
        if not isinstance(shape, shapely.Geometry):
            shape = shapely.Polygon(_corners(shape))
        elif not np.isfinite(shapely.get_coordinates(shape)).all():
            raise ValueError(_NOT_FINITE)
        if shape.geom_type not in ("Polygon", "MultiPolygon"):
            msg = f"The outline is a {shape.geom_type}; expected a Polygon or a MultiPolygon."
            raise ValueError(msg)
        if shape.convex_hull.area == 0:
            msg = f"The outline on slide '{self.slide_id}' has no area. Draw at least three corners that do not lie on one line."
            raise EmptyQueryError(msg)
        if not shape.is_valid:
            msg = (
                f"The outline on slide '{self.slide_id}' crosses or touches itself "
                f"({shapely.is_valid_reason(shape)}, in {self.unit}). Draw it again without a crossing, or mend it "
                f"with shapely.make_valid."
            )
            raise QueryError(msg)
        return shape


@dataclass(frozen=True, eq=False)
class AskedRegion:
    """Spots of one slide that are asked for.

    Attributes
    ----------
    slide_id : str
        Their slide.
    rows : ndarray of shape (m,), int64
        Their rows, ascending.
    modality : {"image", "gene"}
        Which of their embeddings ask.
    words : str
        What was asked, for people.
    """

    slide_id: str
    rows: NDArray[np.int64]
    modality: Modality
    words: str

    def besides(self, store: Store, selection: Selection) -> tuple[Selection, NDArray[np.bool_]]:
        """Leave out of what may be found the spots asked for.

        Parameters
        ----------
        store : Store
            Where they are.
        selection : Selection
            What may be found otherwise; kept as it is, with what indexes made of it, where these spots are not in it.

        Returns
        -------
        Selection, and ndarray of shape (n_rows,), bool
            What may be found, and the same as a mask.

        Raises
        ------
        QueryError
            If nothing may be found.
        """
        mask = selection.rows.mask
        if mask is None:
            mask = store.mask_of(np.ones(len(store.slides()), np.bool_))
        if mask[self.rows].any():
            mask = mask.copy()
            mask[self.rows] = False
            reasons = (*selection.reasons, "are not spots of the query region itself")
            rows = Findable(mask, int(np.count_nonzero(mask)))
            selection = Selection(rows, reasons, selection.n_spots)
        selection.count()  # refuses where there is nothing to be found
        return selection, mask


def with_pixel_size(store: Store, condition: Condition | None) -> Condition | None:
    """Add to a filter that slides say their pixel size, where some do not: their regions have no size."""
    if not store.slides()["mpp"].isna().any():
        return condition
    return all_of(condition, Known(Field("mpp")))


def ask_region(
    store: Store, region: Region | Sequence[str] | ArrayLike, modality: Modality
) -> AskedRegion:
    """Find the spots that a query region means.

    Parameters
    ----------
    store : Store
        Where they are.
    region : Region, sequence of str, or array of int
        A shape, or the ids or the rows of spots of one slide.
    modality : {"image", "gene"}
        Which of their embeddings ask.

    Raises
    ------
    EmptyQueryError
        If there is no spot in it.
    QueryError
        If the slide or a spot is unknown, the shape crosses itself, the spots lie on several slides or are fewer
        than five, or the slide has no pixel size or no such embedding.
    ValueError
        If it is neither a shape, nor spot ids, nor rows of the store.
    """
    if isinstance(region, Region):
        slide, rows = _inside(store, region)
        words = f"region of {len(rows)} spots on slide {slide['slide_id']}"
    else:
        slide, rows = _named(store, region)
        words = f"{len(rows)} spots of slide {slide['slide_id']}"
    if len(rows) < MIN_SPOTS:
        msg = f"The region holds {len(rows)} spots; a region has at least {MIN_SPOTS}. Draw a larger region."
        raise QueryError(msg)
    if not np.isfinite(slide["mpp"]):
        msg = (
            f"Slide '{slide['slide_id']}' has no microns per pixel, so its region has no size. Ask with a region of "
            f"another slide, or embed the slide again with its pixel size."
        )
        raise QueryError(msg)
    if vector_column(store.encoder, modality) not in slide["embedded"]:
        msg = f"Slide '{slide['slide_id']}' has no {modality} embeddings: it came without them."
        raise QueryError(msg)
    return AskedRegion(str(slide["slide_id"]), rows, modality, words)


def _inside(store: Store, region: Region) -> tuple[pd.Series[Any], NDArray[np.int64]]:
    """Slide of a shape, and rows of the spots whose centres it covers."""
    import shapely

    shape = region.shape()
    slide = _slide(store, region.slide_id)
    rows = int(slide["first_spot"]) + np.arange(int(slide["n_spots"]))
    names = ["x_px", "y_px"] if region.unit == "px" else ["x_um", "y_um"]
    x, y = store.spots(names, rows).to_numpy(np.float64).T
    if not np.isfinite(x).all():  # asked in microns on a slide that knows no microns
        return slide, rows
    inside = shapely.intersects_xy(shape, x, y)
    if not inside.any():
        left, top, right, bottom = shape.bounds
        msg = (
            f"There is no spot in the region, which spans x {left:.6g} to {right:.6g} and y {top:.6g} to {bottom:.6g} "
            f"{region.unit}; the {len(rows)} spots of slide '{region.slide_id}' span x {x.min():.6g} to {x.max():.6g} "
            f"and y {y.min():.6g} to {y.max():.6g} {region.unit}. Draw it over spots, or correct the unit."
        )
        raise EmptyQueryError(msg)
    return slide, rows[inside]


def _named(
    store: Store, spots: Sequence[str] | ArrayLike
) -> tuple[pd.Series[Any], NDArray[np.int64]]:
    """Slide and rows, ascending, of spots given by id or row."""
    if isinstance(spots, str):
        msg = f"The region is the string {spots!r}; expected a Region, several spot ids, or rows."
        raise TypeError(msg)
    given = np.asarray(spots)
    if given.size == 0:
        msg = f"The region names no spots. Give at least {MIN_SPOTS}, or a Region."
        raise EmptyQueryError(msg)
    if given.dtype.kind in "US" or all(isinstance(spot, str) for spot in given.flat):
        rows = _rows_of(store, [str(spot) for spot in given.flat])
    elif given.ndim != 1 or given.dtype.kind not in "iu":
        msg = f"The region is {given.dtype} of shape {given.shape}; expected a Region, spot ids, or rows."
        raise ValueError(msg)
    else:
        rows = np.unique(given)
    slide_ids = store.spots(["slide_id"], rows)["slide_id"]
    counted = slide_ids.value_counts(sort=False)
    if len(counted) > 1:
        held = ", ".join(f"{slide} {n}" for slide, n in counted.items())
        msg = f"The spots lie on {len(counted)} slides ({held}); a region lies on one. Ask for each slide on its own."
        raise QueryError(msg)
    return _slide(store, str(counted.index[0])), rows


def _rows_of(store: Store, spot_ids: list[str]) -> NDArray[np.int64]:
    """Rows of spot ids, ascending, each once; a slide's ids are read once."""
    wanted, slides = set(spot_ids), store.slides()
    found: dict[str, int] = {}
    while wanted:
        row = store.row_of(min(wanted))  # or says what is wrong with it
        slide = slides.iloc[int(np.searchsorted(slides["first_spot"], row, side="right")) - 1]
        rows = int(slide["first_spot"]) + np.arange(int(slide["n_spots"]))
        held = dict(zip(store.spots(["spot_id"], rows)["spot_id"], rows.tolist(), strict=True))
        found |= {spot: held[spot] for spot in wanted if spot in held}
        wanted -= held.keys()
    return np.array(sorted(found.values()), np.int64)


def _slide(store: Store, slide_id: str) -> pd.Series[Any]:
    slides = store.slides()
    here = slides[slides["slide_id"] == slide_id]
    if here.empty:
        from stamp_index.genes import close_names

        ids = list(slides["slide_id"])
        near = close_names(slide_id, ids) or ids[:5]
        msg = f"There is no slide '{slide_id}' in the store at {store.place}; it has {len(ids)}, such as {', '.join(near) or 'none'}."
        raise QueryError(msg)
    return here.iloc[0]


def _corners(outline: ArrayLike) -> NDArray[np.float64]:
    corners = np.asarray(outline)
    if corners.ndim != 2 or corners.shape[1] != 2 or corners.dtype.kind not in "fiu":
        msg = (
            f"The outline is {corners.dtype} of shape {corners.shape}; expected numbers of shape (n, 2): x and y of "
            f"each corner."
        )
        raise ValueError(msg)
    if len(corners) < 3:
        msg = f"The outline has {len(corners)} corners; expected at least 3."
        raise EmptyQueryError(msg)
    if not np.isfinite(corners).all():
        raise ValueError(_NOT_FINITE)
    return corners.astype(np.float64)
