"""Leiden communities of a nearest-neighbour graph, with the resolution that gives the number wanted."""

from __future__ import annotations

import importlib.util
import random
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stamp_index.evaluate.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_NEIGHBOURS: Final = 15  # scanpy's default
_LOWEST, _HIGHEST = 1e-3, 1e3  # resolutions that are tried
_START: Final = 1.0
_N_TRIES: Final = 20  # halvings: the log of the resolution is then known to 2e-5
_N_ITERATIONS: Final = 5  # of Leiden; further ones move few spots


def leiden_of(vectors: NDArray[Any]) -> Callable[[int, int], NDArray[np.int64]]:
    """Build the graph of vectors (n, d); the function that comes back clusters it (n_clusters, seed).

    Its labels are numbered from 0, the largest community first.

    Raises
    ------
    EvaluationError
        If igraph is not installed.

    Notes
    -----
    Traag et al. 2019, Sci. Rep. 9:5233, on modularity. Edges are weighted by the share of neighbours that two spots
    have in common, as in PhenoGraph (Levine et al. 2015, Cell 162:184).
    """
    if importlib.util.find_spec("igraph") is None:
        msg = (
            "Leiden clustering needs the extra `domains` (igraph missing). "
            "Run: pip install 'stamp-index[domains]', or leave 'leiden' out of the methods."
        )
        raise EvaluationError(msg)
    graph = _graph(neighbour_weights(vectors))
    return lambda n_clusters, seed: _bisect(lambda at: _communities(graph, at, seed), n_clusters)


def neighbour_weights(vectors: NDArray[Any], k: int = _NEIGHBOURS) -> csr_matrix:
    """Share of neighbours in common, of every two spots of which one is among the other's k nearest.

    Returns
    -------
    csr_matrix of shape (n, n), float64
        Jaccard index of the two sets of k neighbours, each with its own spot; upper triangle.
    """
    from scipy.sparse import csr_matrix, identity, triu
    from sklearn.neighbors import NearestNeighbors

    n = len(vectors)
    k = min(k, n - 1)
    if k < 1:
        return csr_matrix((n, n))
    near = NearestNeighbors(n_neighbors=k).fit(vectors).kneighbors_graph()  # without the spot
    sets = csr_matrix(near + identity(n))
    linked = triu(near.maximum(near.T), 1).tocoo()
    shared = np.asarray(sets[linked.row].multiply(sets[linked.col]).sum(axis=1)).ravel()
    jaccard = shared / (2 * (k + 1) - shared)
    return csr_matrix((jaccard, (linked.row, linked.col)), shape=(n, n))


def _graph(weights: csr_matrix) -> Any:  # noqa: ANN401 - an igraph.Graph
    import igraph

    edges = weights.tocoo()
    pairs = np.column_stack([edges.row, edges.col])
    return igraph.Graph(n=weights.shape[0], edges=pairs, edge_attrs={"weight": edges.data})


def _communities(graph: Any, resolution: float, seed: int) -> NDArray[np.int64]:  # noqa: ANN401
    import igraph

    # igraph draws from one generator for the whole process; by default that is Python's `random`.
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = graph.community_leiden(
            objective_function="modularity",
            weights="weight",
            resolution=resolution,
            n_iterations=_N_ITERATIONS,
        )
    finally:
        igraph.set_random_number_generator(random)
    members = np.array(found.membership, np.int64)
    order = np.argsort(-np.bincount(members), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[members]


def _bisect(cluster: Callable[[float], NDArray[np.int64]], wanted: int) -> NDArray[np.int64]:
    """Clusters at the resolution whose number is nearest to the wanted one, as far as was tried."""
    low, high, at = _LOWEST, _HIGHEST, _START
    best, off = np.zeros(0, np.int64), float("inf")
    for _ in range(_N_TRIES):
        labels = cluster(at)
        n_found = int(labels.max()) + 1
        if abs(n_found - wanted) < off:
            best, off = labels, abs(n_found - wanted)
        if n_found == wanted:
            break
        low, high = (at, high) if n_found < wanted else (low, at)
        at = float(np.sqrt(low * high))
    return best
