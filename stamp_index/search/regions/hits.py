"""RegionHits: the regions that a region search found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.keys import Keys
from stamp_index.search.regions.geojson import feature

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from shapely import Polygon

    from stamp_index.store import Store

COLUMNS: Final = (
    Keys.RANK, Keys.SCORE, "composition", "content", Keys.SLIDE_ID, Keys.PATIENT_ID, Keys.ORGAN, "n_spots",
    "area_um2", Keys.X_PX, Keys.Y_PX, Keys.X_UM, Keys.Y_UM,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class RegionHits:
    """Regions that a query region found, best first.

    Attributes
    ----------
    table : DataFrame with k rows
        rank (1 is best), score (composition times content), composition (Bhattacharyya coefficient of what the query
        and the region are made of, in [0, 1]), content (late interaction, a mean of cosines), slide_id, patient_id,
        organ, n_spots, area_um2 (inside the outline), x_px and y_px (mean of its spots' centres, level-0 pixels), x_um and
        y_um (microns). Do not change it; `to_pandas` gives a copy.
    rows : tuple of k ndarrays of shape (m,), int64
        Rows of each region's spots, ascending.
    matches : tuple of k ndarrays of shape (m,), int64
        Prototype of the query that each of these spots answers; -1 for none.
    outlines : tuple of k Polygons
        Of each region, in level-0 pixels of its slide. Every spot's centre lies inside.
    query_rows, query_matches : ndarray of shape (n,), int64
        The query's spots, and the prototype that each stands for.
    query : str
        What was asked.
    notes : tuple of str
        What should be known about the answer, such as why there are fewer regions than asked for.
    slides : tuple of str
        Slides that were looked at closely, most promising first.
    store_version : int
        Version of the store that was searched.
    fingerprint : str
        Of the encoder that the scores rest on.
    store : Store
        Where the regions are.
    is_whole : bool
        False where shards of an index did not answer; a note says which. Ask again in a moment.
    """

    table: pd.DataFrame
    rows: tuple[NDArray[np.int64], ...]
    matches: tuple[NDArray[np.int64], ...]
    outlines: tuple[Polygon, ...]
    query_rows: NDArray[np.int64]
    query_matches: NDArray[np.int64]
    query: str
    notes: tuple[str, ...]
    slides: tuple[str, ...]
    store_version: int
    fingerprint: str
    store: Store = field(repr=False)
    is_whole: bool = True

    def __len__(self) -> int:
        return len(self.table)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Score of each region, (k,), descending."""
        scores: NDArray[np.float64] = self.table[Keys.SCORE].to_numpy(np.float64)
        return scores

    def to_pandas(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def spots(self) -> pd.DataFrame:
        """One row per spot of every region: rank, spot_id, slide_id, x_px, y_px, x_um, y_um and match (-1 for none)."""
        names = [Keys.SPOT_ID, Keys.SLIDE_ID, Keys.X_PX, Keys.Y_PX, Keys.X_UM, Keys.Y_UM]
        none = np.empty(0, np.int64)
        places = self.store.spots(names, np.concatenate([none, *self.rows])).reset_index(drop=True)
        ranks = np.repeat(self.table[Keys.RANK].to_numpy(), [len(rows) for rows in self.rows])
        places.insert(0, Keys.RANK, ranks)
        return places.assign(match=np.concatenate([none, *self.matches]))

    def to_geojson(self, slide_id: str | None = None) -> dict[str, Any]:
        """Return the outlines as a GeoJSON FeatureCollection that QuPath reads.

        Parameters
        ----------
        slide_id : str, optional
            Outlines on this slide alone, as QuPath opens one image at a time; all by default.

        Returns
        -------
        dict
            One annotation for each region, (x, y) in level-0 pixels; score, composition, content, n_spots and area_um2 are
            its measurements; slide, query, store version and encoder its metadata.

        Raises
        ------
        QueryError
            If the store has no such slide.
        """
        if slide_id is not None and slide_id not in set(self.store.slides()[Keys.SLIDE_ID]):
            msg = (
                f"There is no slide '{slide_id}' in the store; regions were found on "
                f"{', '.join(dict.fromkeys(self.table[Keys.SLIDE_ID])) or 'none'}."
            )
            raise QueryError(msg)
        features = []
        for shape, (_, row) in zip(self.outlines, self.table.iterrows(), strict=True):
            if slide_id is not None and row[Keys.SLIDE_ID] != slide_id:
                continue
            measured = {
                name: float(row[name])
                for name in (Keys.SCORE, "composition", "content", "n_spots", "area_um2")
            }
            said = {
                "slide_id": str(row[Keys.SLIDE_ID]),
                "query": self.query,
                "store_version": str(self.store_version),
                "fingerprint": self.fingerprint,
            }
            features.append(feature(shape, f"similar region {row[Keys.RANK]}", measured, said))
        return {"type": "FeatureCollection", "features": features}
