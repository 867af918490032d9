"""Agreement of clusters with labels, and how much they hang together on the slide. Arrays in, numbers out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEIGHBOURS: Final = 6  # of a Visium spot, on its hexagonal grid


def domain_scores(truth: NDArray[Any], clusters: NDArray[np.int64]) -> dict[str, float]:
    """Agreement of clusters with labels; names and numbers of the clusters do not matter.

    Parameters
    ----------
    truth : ndarray of shape (n,)
        Class of each spot.
    clusters : ndarray of shape (n,), int64

    Returns
    -------
    dict of str to float
        ``ARI``, adjusted Rand index (Hubert and Arabie 1985): 1 for the same parts, about 0 for random ones; ``NMI``,
        mutual information over the arithmetic mean of both entropies; ``homogeneity``, 1 where every cluster has
        one class only; ``completeness``, 1 where every class lies in one cluster only.

    Raises
    ------
    ValueError
        If there are no spots, or not as many clusters as labels.
    """
    from sklearn.metrics import adjusted_rand_score, homogeneity_completeness_v_measure

    if len(truth) != len(clusters) or not len(truth):
        msg = f"There are {len(truth):,} labels and {len(clusters):,} clusters; expected the same number of spots, at least 1."
        raise ValueError(msg)
    # The V-measure with beta 1 is the NMI with the arithmetic mean (Vinh et al. 2010, JMLR 11:2837).
    homogeneity, completeness, nmi = homogeneity_completeness_v_measure(truth, clusters)
    return {
        "ARI": float(adjusted_rand_score(truth, clusters)),
        "NMI": float(nmi),
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
    }


def spatial_coherence(
    clusters: NDArray[Any],
    slide: NDArray[np.int64],
    xy_um: NDArray[np.float64],
    k: int = _NEIGHBOURS,
) -> float:
    """Share of a spot's k nearest spots on its slide that are in its cluster, as a mean over spots.

    Parameters
    ----------
    clusters, slide : ndarray of shape (n,)
    xy_um : ndarray of shape (n, 2), float64
    k : int
        Neighbours; all others where a slide has fewer.

    Returns
    -------
    float
        In [0, 1]. NaN where no slide has two spots with known positions.

    Notes
    -----
    It tells how patchy clusters are, not whether they are right: one cluster for everything has 1.
    """
    from scipy.spatial import cKDTree

    total, n_spots = 0.0, 0
    for one in np.unique(slide):
        here = np.flatnonzero((slide == one) & np.isfinite(xy_um).all(axis=1))
        if len(here) < 2:
            continue
        n_near = min(k, len(here) - 1)
        near = cKDTree(xy_um[here]).query(xy_um[here], n_near + 1)[1]  # (m, k + 1), with itself
        own = clusters[here]
        same = own[near] == own[:, None]
        itself = near == np.arange(len(here))[:, None]
        # Of spots at one place, the tree may leave out the spot itself; then the farthest is one too many.
        itself[~itself.any(axis=1), -1] = True
        total += float(same[~itself].sum()) / n_near
        n_spots += len(here)
    return total / n_spots if n_spots else float("nan")
