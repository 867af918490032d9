"""The spots that an evaluation looks at, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stamp_index.evaluate.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.store import Modality
    from stamp_index.store.view import StoreView


@dataclass(frozen=True, eq=False)
class EvaluatedSpots:
    """Spots of a store with where they come from, ordered by patient, then slide, then row.

    Attributes
    ----------
    rows : ndarray of shape (n,), int64
        Row ids in the store.
    slide, patient : ndarray of shape (n,), int64
        Number of each spot's slide and patient, into `slide_ids` and `patient_ids`; both ascend.
    slide_ids, patient_ids : tuple of str
        A slide whose patient is not known counts as a patient of its own, called by the slide's id in brackets.
    xy_um : ndarray of shape (n, 2), float64
        Centres on the slides; NaN where a slide's pixel size is not known.
    vectors : dict
        "image" and "gene", as far as they were asked for: ndarray of shape (n, d), float32, unit length.
    """

    rows: NDArray[np.int64]
    slide: NDArray[np.int64]
    patient: NDArray[np.int64]
    slide_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    xy_um: NDArray[np.float64]
    vectors: dict[Modality, NDArray[np.float32]]

    def __len__(self) -> int:
        """Count the spots."""
        return len(self.rows)

    def at(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> EvaluatedSpots:
        """Take some of the spots, by mask or ascending place; numbers of slides and patients stay."""
        return EvaluatedSpots(
            self.rows[chosen],
            self.slide[chosen],
            self.patient[chosen],
            self.slide_ids,
            self.patient_ids,
            self.xy_um[chosen],
            {side: held[chosen] for side, held in self.vectors.items()},
        )

    def of_slides(self, slide_ids: Sequence[str]) -> EvaluatedSpots:
        """Take the spots of some slides."""
        return self.at(np.isin(np.array(self.slide_ids)[self.slide], list(slide_ids)))


def read_spots(
    store: StoreView, modalities: Sequence[Modality], slide_ids: Sequence[str] | None = None
) -> EvaluatedSpots:
    """Spots of a store that have every embedding asked for.

    Parameters
    ----------
    store : StoreView
    modalities : sequence of {"image", "gene"}
    slide_ids : sequence of str, optional
        All slides by default.

    Raises
    ------
    EvaluationError
        If a slide is not in the store, no spot has what is asked for, or an embedding is not finite.
    """
    slides = store.slides()
    wanted = list(slides["slide_id"]) if slide_ids is None else list(slide_ids)
    unknown = [name for name in wanted if name not in set(slides["slide_id"])]
    if unknown:
        msg = f"There is no slide {', '.join(unknown)} in the store at {store.place}; it has {_some(list(slides['slide_id']))}."
        raise EvaluationError(msg)
    rows = np.flatnonzero(store.mask_of(slides["slide_id"].isin(wanted).to_numpy()))
    for side in modalities:
        rows = rows[store.has_vector(side)[rows]]
    if not len(rows):
        msg = (
            f"No spot of {_some(wanted)} has {' and '.join(modalities)} embeddings of encoder '{store.encoder}'. "
            "Plain H&E has no gene profiles, counts without a picture no images: choose other slides, or add some."
        )
        raise EvaluationError(msg)
    table = store.spots(("slide_id", "patient_id", "x_um", "y_um"), rows)
    slide_of = table["slide_id"].astype(str)
    named = table["patient_id"].fillna("").astype(str)
    patient_of = named.where(named != "", "[" + slide_of + "]")
    order = np.lexsort((rows, slide_of, patient_of))
    slide, slide_names = pd.factorize(slide_of.iloc[order])  # in order of appearance: ascending
    patient, patient_names = pd.factorize(patient_of.iloc[order])
    rows = rows[order].astype(np.int64)
    return EvaluatedSpots(
        rows,
        slide.astype(np.int64),
        patient.astype(np.int64),
        tuple(slide_names),
        tuple(patient_names),
        table[["x_um", "y_um"]].to_numpy(np.float64)[order],
        {side: _unit(store, side, rows) for side in modalities},
    )


def surroundings_um(spots: EvaluatedSpots) -> float | None:
    """Radius that holds a spot's immediate neighbours on most slides: 1.6 times the median distance to the nearest spot.

    Spots of a square or hexagonal grid have their first ring of neighbours at 1 to 1.42 times the pitch.

    Returns
    -------
    float or None
        In microns, rounded to tens (at least 10); None where no slide has positions in microns and two spots.
    """
    from scipy.spatial import cKDTree

    nearest = []
    for slide in np.unique(spots.slide):
        xy = spots.xy_um[spots.slide == slide]
        if len(xy) > 1 and np.isfinite(xy).all():
            away, _ = cKDTree(xy).query(xy, k=[2])  # the nearest is the spot itself
            nearest.append(float(np.median(away)))
    return max(10.0, round(1.6 * float(np.median(nearest)), -1)) if nearest else None


def _unit(store: StoreView, side: Modality, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Embeddings (n, d) of unit length, which half precision is off by up to 5e-4."""
    vectors = store.vectors(side, rows).astype(np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(length[:, 0]) | (length[:, 0] == 0))
    if len(bad):
        spot = store.spots(("spot_id",), rows[bad[:1]])["spot_id"].iloc[0]
        msg = (
            f"The {side} embeddings of {len(bad):,} spots are not finite or have no length, first at '{spot}'. "
            "Embed their slides again."
        )
        raise EvaluationError(msg)
    vectors /= length
    return vectors


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
