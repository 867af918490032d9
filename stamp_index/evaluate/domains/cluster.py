"""Clusters of vectors by k-means, Leiden and Gaussian mixtures, the same for the same seed.

Every function takes vectors (n, d), the number of clusters that is wanted and a seed, and gives labels (n,) from 0.
`prepared` does once what does not depend on the number or the seed, for runs over many seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stamp_index.evaluate.domains.leiden import leiden_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Clusterer = Callable[[int, int], NDArray[np.int64]]

Method = Literal["kmeans", "leiden", "gmm", "gmm_bic"]

_N_INIT: Final = 10
_N_COMPONENTS: Final = 20  # principal components that a mixture is fitted on, as DLPFC studies do
# mclust's EEE (one ellipsoid for all) is scikit-learn's "tied"; VVV "full", VVI "diag", VII "spherical".
_EEE: Final = ("tied",)
_FAMILIES: Final = ("tied", "full", "diag", "spherical")


def kmeans(vectors: NDArray[Any], n_clusters: int, seed: int) -> NDArray[np.int64]:
    """k-means, the best of ten starts.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
    n_clusters : int
        From 1 to n. Fewer are found where there are fewer different vectors.
    seed : int

    Returns
    -------
    ndarray of shape (n,), int64

    Raises
    ------
    ValueError
        If there are fewer vectors than clusters, or a number is not finite.
    """
    return prepared("kmeans", vectors)(n_clusters, seed)


def leiden(vectors: NDArray[Any], n_clusters: int, seed: int) -> NDArray[np.int64]:
    """Leiden communities of the graph of the 15 nearest neighbours, about as many as wanted.

    The resolution is found by bisection. Where no resolution gives the number wanted, what comes back has the nearest
    number that was met: count it. Parameters, result and errors are otherwise those of `kmeans`.

    Raises
    ------
    EvaluationError
        If igraph is not installed.
    """
    return prepared("leiden", vectors)(n_clusters, seed)


def gaussian_mixture(vectors: NDArray[Any], n_clusters: int, seed: int) -> NDArray[np.int64]:
    """Gaussian mixture with one covariance for all components, on 20 principal components.

    Parameters, result and errors are those of `kmeans`.

    Notes
    -----
    The model is mclust's EEE (Scrucca et al. 2016, R Journal 8:289) that studies of spatial domains use. mclust
    starts from a hierarchical clustering and this from k-means, so single results differ.
    """
    return prepared("gmm", vectors)(n_clusters, seed)


def gaussian_mixture_by_bic(vectors: NDArray[Any], n_clusters: int, seed: int) -> NDArray[np.int64]:
    """`gaussian_mixture` with the form of covariance that has the best BIC: EEE, VVV, VVI or VII of mclust."""
    return prepared("gmm_bic", vectors)(n_clusters, seed)


def prepared(method: Method, vectors: NDArray[Any]) -> Clusterer:
    """Make a function of number of clusters and seed that clusters these vectors.

    Raises
    ------
    ValueError
        If there is no such method, or the vectors are no finite table.
    EvaluationError
        For Leiden, if igraph is not installed.
    """
    makers: dict[str, Callable[[NDArray[Any]], Clusterer]] = {
        "kmeans": _kmeans_of,
        "leiden": leiden_of,
        "gmm": lambda held: _mixture_of(held, _EEE),
        "gmm_bic": lambda held: _mixture_of(held, _FAMILIES),
    }
    if method not in makers:
        msg = f"There is no method {method!r}; it must be one of {', '.join(makers)}."
        raise ValueError(msg)
    held = np.asarray(vectors)
    if held.ndim != 2 or not np.isfinite(held).all():
        msg = f"vectors has shape {held.shape}; expected a table (n, d) of finite numbers."
        raise ValueError(msg)
    run = makers[method](held)

    def checked(n_clusters: int, seed: int) -> NDArray[np.int64]:
        if not 1 <= n_clusters <= len(held):
            msg = (
                f"n_clusters is {n_clusters}; it must be from 1 to the {len(held):,} vectors given."
            )
            raise ValueError(msg)
        return run(n_clusters, seed)

    return checked


def _kmeans_of(vectors: NDArray[Any]) -> Clusterer:
    from sklearn.cluster import KMeans

    n_different = len(np.unique(vectors, axis=0))

    def run(n_clusters: int, seed: int) -> NDArray[np.int64]:
        model = KMeans(min(n_clusters, n_different), n_init=_N_INIT, random_state=seed)
        labels: NDArray[np.int64] = model.fit_predict(vectors).astype(np.int64)
        return labels

    return run


def _mixture_of(vectors: NDArray[Any], families: tuple[str, ...]) -> Clusterer:
    from sklearn.mixture import GaussianMixture

    components = _components(vectors)
    n_different = len(np.unique(components, axis=0))

    def fitted(family: str, n_clusters: int, seed: int) -> Any:  # noqa: ANN401 - a GaussianMixture
        model = GaussianMixture(
            min(n_clusters, n_different), covariance_type=family, max_iter=1000, random_state=seed
        )
        return model.fit(components)

    def run(n_clusters: int, seed: int) -> NDArray[np.int64]:
        models = [fitted(family, n_clusters, seed) for family in families]
        best = min(models, key=lambda model: float(model.bic(components)))
        labels: NDArray[np.int64] = best.predict(components).astype(np.int64)
        return labels

    return run


def _components(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """At most 20 principal components (n, p), scaled together so that the first has unit variance.

    The scale matters to the small number that scikit-learn adds to covariances only.
    """
    from sklearn.decomposition import PCA

    n = min(_N_COMPONENTS, vectors.shape[1], max(len(vectors) - 1, 1))
    with np.errstate(invalid="ignore"):  # shares of a variance of 0, which nobody asks for
        model = PCA(n, svd_solver="full")
        found: NDArray[np.float64] = model.fit_transform(vectors.astype(np.float64))
    spread = float(found[:, 0].std())
    return found / spread if spread > 0 else found
