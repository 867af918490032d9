"""Expression clusters of a slide, and negatives from the clusters that a spot is not in (ST-Align)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COMPONENTS: Final = 30  # principal components that are clustered


def spot_clusters(
    profiles: NDArray[np.float32], n_clusters: int = 6, seed: int = 0
) -> NDArray[np.int64]:
    """Cluster one slide's spots by expression: k-means on principal components.

    Parameters
    ----------
    profiles : ndarray of shape (n, g), float32
        Profiles of one slide.
    n_clusters : int
        Clusters wanted, at least 1; 6 in ST-Align, whose code reads them from files and does not say how
        they were made.
    seed : int
        Of the principal components and of k-means.

    Returns
    -------
    ndarray of shape (n,), int64
        0, 1, ... without gaps; fewer clusters where there are fewer different spots.

    Raises
    ------
    ValueError
        If `n_clusters` is below 1.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    if n_clusters < 1:
        msg = f"n_clusters is {n_clusters}; it must be at least 1."
        raise ValueError(msg)
    if n_clusters == 1 or not np.ptp(profiles, axis=0).any():
        return np.zeros(len(profiles), dtype=np.int64)
    n_components = min(_COMPONENTS, len(profiles) - 1, profiles.shape[1])
    pca = PCA(n_components, svd_solver="randomized", random_state=seed)
    scores = np.round(pca.fit_transform(profiles), 6)  # (n, k); equal spots stay equal
    wanted = min(n_clusters, len(np.unique(scores, axis=0)))
    found = KMeans(wanted, n_init=3, random_state=seed).fit_predict(scores)
    labels: NDArray[np.int64] = np.unique(found, return_inverse=True)[1].astype(np.int64)
    return labels


def cluster_partners(  # noqa: PLR0917 - as the sampler's other draws
    spots: NDArray[np.int64],
    slide_of: NDArray[np.int64],
    cluster_of: NDArray[np.int64],
    n_clusters: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw for each spot one of every other cluster of its slide.

    Parameters
    ----------
    spots : ndarray of shape (b,), int64
        Spot numbers; one may stand more than once.
    slide_of : ndarray of shape (n,), int64
        Slide number of every spot; never decreases.
    cluster_of : ndarray of shape (n,), int64
        Cluster of every spot within its slide, from 0.
    n_clusters : int
        Clusters that a slide is meant to have: each spot gets one partner less.
    rng : Generator
        Decides the draws.

    Returns
    -------
    ndarray of shape (b, n_clusters - 1), int64
        Partners, none of them the spot itself, in no order.

    Raises
    ------
    ValueError
        If there is a single spot.

    Notes
    -----
    The released code takes five other clusters for granted and fails on other slides. Here a slide with
    more clusters gives a random choice of them, one partner each. Where a slide has fewer, the missing
    partners are any spots of other slides; without another slide, of other clusters again; and where a
    single slide is a single cluster, other spots.
    """
    if len(slide_of) < 2:
        msg = f"There are {len(slide_of)} spots; a spot's negatives need at least one other."
        raise ValueError(msg)
    # From here on a slide is its place among those of the batch: slide (b,).
    slides, slide = np.unique(slide_of[spots], return_inverse=True)
    starts = np.searchsorted(slide_of, slides)
    stops = np.searchsorted(slide_of, slides, side="right")
    groups = _Groups(starts, stops, cluster_of)
    width = n_clusters - 1
    own = groups.number(slide, cluster_of[spots])
    chosen = groups.other_clusters(slide, own, width, rng)  # (b, width), -1 where there is none
    found = groups.member(chosen, rng)
    missing = np.nonzero(chosen < 0)
    found[missing] = _elsewhere(
        groups, (slide[missing[0]], own[missing[0]], spots[missing[0]]), len(slide_of), rng
    )
    return found


class _Groups:
    """Spots of the slides in a batch, sorted by slide and cluster: a group is one cluster of one slide."""

    def __init__(
        self, starts: NDArray[np.int64], stops: NDArray[np.int64], cluster_of: NDArray[np.int64]
    ) -> None:
        self.starts, self.stops = starts, stops
        sizes = stops - starts
        members = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
        self.n_labels = int(cluster_of[members].max()) + 1
        n_keys = len(starts) * self.n_labels
        # Sixteen bits where they are enough: numpy then sorts by radix, in linear time.
        dtype = np.uint16 if n_keys <= np.iinfo(np.uint16).max else np.int64
        slide = np.repeat(np.arange(len(starts)), sizes)
        key = self.number(slide, cluster_of[members]).astype(dtype)
        self.order = members[np.argsort(key, kind="stable")]
        self.size = np.bincount(key, minlength=n_keys)  # 0 for a label that a slide does not have
        self.first = np.cumsum(self.size) - self.size

    def number(self, slide: NDArray[np.int64], cluster: NDArray[np.int64]) -> NDArray[np.int64]:
        """Group numbers (b,) of slides and clusters (b,)."""
        return slide * self.n_labels + cluster

    def other_clusters(
        self, slide: NDArray[np.int64], own: NDArray[np.int64], width: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Up to `width` other groups of each slide, drawn without repeats: (b, width), -1 where none is left."""
        group = slide[:, None] * self.n_labels + np.arange(self.n_labels)  # (b, labels)
        draw = rng.random(group.shape)
        draw[(self.size[group] == 0) | (group == own[:, None])] = np.inf
        group[np.isinf(draw)] = -1
        picked = np.argsort(draw, axis=1)[:, :width]
        chosen = np.full((len(slide), width), -1, dtype=np.int64)
        chosen[:, : picked.shape[1]] = np.take_along_axis(group, picked, axis=1)
        return chosen

    def member(self, group: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw a spot of each group; meaningless where the group is -1."""
        at = self.first[group] + rng.integers(0, np.maximum(self.size[group], 1))
        return self.order[np.minimum(at, len(self.order) - 1)]


def _elsewhere(
    groups: _Groups,
    where: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    n: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw a spot off the slide, else out of the group, else another, for m of (slide, group, spot)."""
    slide, group, spot = where
    start, stop = groups.starts[slide], groups.stops[slide]
    away = n - (stop - start)  # spots of other slides
    if len(slide) and away[0] > 0:
        return _skip(start, stop, n, rng)
    # One slide, so `order` holds every spot, a group being a run of it.
    first, size = groups.first[group], groups.size[group]
    whole = size == n
    first = np.where(whole, np.argsort(groups.order)[spot], first)
    stop = np.where(whole, first + 1, first + size)
    found: NDArray[np.int64] = groups.order[_skip(first, stop, n, rng)]
    return found


def _skip(
    start: NDArray[np.int64], stop: NDArray[np.int64], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw a number below n outside [start, stop), each (m,)."""
    draw = rng.integers(0, n - (stop - start))
    found: NDArray[np.int64] = draw + (draw >= start) * (stop - start)
    return found
