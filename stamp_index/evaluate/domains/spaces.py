"""The vectors that are clustered: embeddings, and the baselines expression and position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stamp_index.evaluate.domains.fuse import find_surroundings, fuse
from stamp_index.evaluate.spots import read_spots
from stamp_index.genes import log1p_cp10k

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.evaluate.spots import EvaluatedSpots
    from stamp_index.store import Modality
    from stamp_index.store.view import StoreView

Features = Literal["image", "gene", "both"]
EXPRESSION: Final = "PCA of expression"
COORDINATES: Final = "coordinates"
RANDOM: Final = "random labels"

_N_COMPONENTS: Final = 30


@dataclass(frozen=True, eq=False)
class Space:
    """Vectors of all spots of some slides, those without label too: a spot's surroundings are more than the labelled.

    Attributes
    ----------
    spots : EvaluatedSpots
    sides : tuple of ndarray of shape (n, d)
        One, or image and gene embeddings.
    unit : bool
        Whether a side's vectors are brought to unit length.
    """

    spots: EvaluatedSpots
    sides: tuple[NDArray[Any], ...]
    unit: bool

    def vectors(self, radius_um: float | None) -> tuple[NDArray[np.float32], float]:
        """Vectors (n, d), averaged within a radius unless it is None, and a spot's own weight in that average."""
        if radius_um is None:
            return fuse(self.sides, unit=self.unit), 1.0
        around = find_surroundings(self.spots.slide, self.spots.xy_um, radius_um)
        return fuse(self.sides, around, unit=self.unit), around.own_weight


def modalities(features: str) -> tuple[Modality, ...]:
    """Embeddings that features are made of; none for baselines."""
    sides: dict[str, tuple[Modality, ...]] = {
        "image": ("image",),
        "gene": ("gene",),
        "both": ("image", "gene"),
    }
    return sides.get(features, ())


def slides_with(store: StoreView, features: str, slide_ids: Sequence[str]) -> tuple[str, ...]:
    """Those of the slides that have what the features are made of."""
    slides = store.slides()
    if features == EXPRESSION:
        has = dict(zip(slides["slide_id"], slides["n_genes"] > 0, strict=True))
    elif features == COORDINATES:
        has = dict(zip(slides["slide_id"], np.isfinite(slides["mpp"]), strict=True))
    else:
        embedded = np.ones(store.n_rows, np.bool_)
        for side in modalities(features):
            embedded &= store.has_vector(side)
        has = {
            name: bool(embedded[first])
            for name, first in slides[["slide_id", "first_spot"]].to_numpy()
        }
    return tuple(name for name in slide_ids if has[name])


def read_space(store: StoreView, features: str, slide_ids: Sequence[str]) -> Space:
    """Read the vectors of slides that have them (`slides_with`).

    Parameters
    ----------
    store : StoreView
    features : {"image", "gene", "both", EXPRESSION, COORDINATES}
    slide_ids : sequence of str

    Raises
    ------
    EvaluationError
        If an embedding is not finite.
    """
    sides = modalities(features)
    spots = read_spots(store, sides, slide_ids)
    if sides:
        return Space(spots, tuple(spots.vectors[side] for side in sides), unit=True)
    vectors = spots.xy_um if features == COORDINATES else _components(store, spots)
    return Space(spots, (vectors,), unit=False)


def _components(store: StoreView, spots: EvaluatedSpots) -> NDArray[np.float64]:
    """At most 30 principal components (n, p) of log1p of counts per 10,000, of the genes that all slides measured."""
    from sklearn.decomposition import PCA

    names = [spots.slide_ids[at] for at in np.unique(spots.slide)]
    measured = set.intersection(*(set(store.genes_of(name)) for name in names))
    columns = np.array([at for at, gene in enumerate(store.genes) if gene in measured], np.int64)
    values = log1p_cp10k(store.sparse_counts(spots.rows))[:, columns]  # (n, g)
    n = min(_N_COMPONENTS, len(spots) - 1, len(columns))
    if not n or not values.nnz:  # no genes in common, or nothing counted: all spots are alike
        return np.zeros((len(spots), 1))
    held: Any = values.astype(np.float64)
    if n < min(values.shape):
        model = PCA(n, svd_solver="arpack", random_state=0)
    else:  # a small table, which arpack refuses
        model, held = PCA(n, svd_solver="full"), held.toarray()
    components: NDArray[np.float64] = model.fit_transform(held)
    return components
