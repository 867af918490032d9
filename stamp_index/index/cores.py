"""The searching part of an index: positions in, positions out, no store and no files.

Positions are row numbers of the vector table the core was made from. Both cores end in
`rank_exactly`, so scores do not depend on the kind of index.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from stamp_index.index.exact import exact_search, rank_exactly

if TYPE_CHECKING:
    from types import ModuleType

    import faiss
    from numpy.typing import NDArray

    from stamp_index.index.exact import Vectors

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]

_QUERIES: Final = 256  # searched at once, which bounds the tables of lists and candidates
_DEEPER: Final = 4  # candidates per hit asked for, where that is more than the measured number
# Under a filter that follows the clusters a query's own lists may hold nothing that is allowed, and
# the next ones are about equally far: 50,000 rows, half or a quarter allowed, recall at 10 .86 to .91
# with the measured nprobe, .999 with 8 times that.
_FILTER_PROBES: Final = 8
_FLOAT32_BYTES: Final = 256 * 2**20  # up to here a flat index keeps a float32 copy: twice as fast


def load_faiss() -> ModuleType:
    """Import FAISS, set for our sizes.

    Returns
    -------
    module
        FAISS with a threshold at which small batches go through BLAS: its default makes a batch of
        200 flat queries ten times slower per query than one of 400.
    """
    with warnings.catch_warnings():
        # SWIG's own types lack __module__; Python 3.12 and later say so on import.
        warnings.filterwarnings("ignore", "builtin type .* has no __module__", DeprecationWarning)
        import faiss
    faiss.cvar.distance_compute_blas_threshold = 20
    return faiss


class Core(Protocol):
    """What an index needs of its searching part."""

    vectors: Vectors

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None,
        nprobe: int,
        n_rerank: int,
    ) -> Hits:
        """Search for unit queries (q, d): scores and positions (q, min(k, allowed))."""
        ...


class FlatCore:
    """Exact search over all vectors."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors

    @cached_property
    def _fast(self) -> Vectors:
        small = 4 * self.vectors.size <= _FLOAT32_BYTES
        return np.asarray(self.vectors, np.float32) if small else self.vectors

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None,
        nprobe: int,
        n_rerank: int,
    ) -> Hits:
        """Search; `nprobe` and `n_rerank` mean nothing here."""
        return exact_search(self._fast, queries, k, allowed=allowed)


class IvfCore:
    """Inverted lists of short codes, re-ranked exactly.

    Nothing of the FAISS index is changed by a search, so threads may share it.

    Parameters
    ----------
    index : faiss.IndexPreTransform
        A rotation, then an IndexIVFPQ whose ids are positions.
    vectors : ndarray of shape (n, d), float16
        Unit vectors by position; may be memory-mapped.
    exact_below : int
        Filters that leave at most so many rows are answered exactly.
    """

    def __init__(self, index: faiss.IndexPreTransform, vectors: Vectors, exact_below: int) -> None:
        faiss = load_faiss()
        self.index = index
        self.vectors = vectors
        self._exact_below = exact_below
        chain: Any = index.chain  # a C++ vector, whatever its type stub says
        self._rotation = faiss.downcast_VectorTransform(chain.at(0))
        self._ivf = faiss.downcast_index(index.index)

    @property
    def n_lists(self) -> int:
        """Number of inverted lists."""
        return int(self._ivf.nlist)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None,
        nprobe: int,
        n_rerank: int,
    ) -> Hits:
        """Search; a filter is applied inside the lists, never after them."""
        n = len(self.vectors) if allowed is None else int(allowed.sum())
        if allowed is not None and n <= self._exact_below:
            return exact_search(self.vectors, queries, k, allowed=allowed)
        k = min(k, n)
        # A filter thins the lists, so there we go on until the re-ranking has its candidates.
        depth = min(max(n_rerank, _DEEPER * k), n)
        full = k if allowed is None else depth
        nprobe = nprobe if allowed is None else nprobe * _FILTER_PROBES
        scores = np.empty((len(queries), k), np.float32)
        found = np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), _QUERIES):
            block = queries[start : start + _QUERIES]
            table = self.candidates(block, depth, nprobe=nprobe, full=full, allowed=allowed)
            for i, positions in enumerate(table, start):
                scores[i], found[i] = rank_exactly(
                    self.vectors, positions[positions >= 0], queries[i], k
                )
        return scores, found

    def candidates(
        self,
        queries: NDArray[np.float32],
        depth: int,
        *,
        nprobe: int,
        full: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Best positions by their codes, (q, depth), -1 where there are fewer.

        Looks into `nprobe` lists, then into twice as many, until every query has `full`.
        """
        faiss = load_faiss()
        usable = None if allowed is None else self._lists_holding(allowed)
        n_lists = self.n_lists if usable is None else int(usable.sum())
        selector = None
        if allowed is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        rotated = self._rotation.apply(queries)
        found = np.full((len(queries), depth), -1, np.int64)
        todo = np.arange(len(queries))
        while len(todo):
            nprobe = min(nprobe, n_lists)
            nearest = self._nearest_lists(rotated[todo], nprobe, usable)
            params = faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)
            found[todo] = self._look_into(rotated[todo], depth, nearest, params)
            todo = todo[(found[todo] >= 0).sum(axis=1) < full]
            if nprobe == n_lists:
                break
            nprobe *= 2
        return found

    def _look_into(
        self,
        rotated: NDArray[np.float32],
        depth: int,
        nearest: Hits,
        params: faiss.SearchParametersIVF,
    ) -> NDArray[np.int64]:
        """Best positions in given lists (closeness and numbers, (q, nprobe)): (q, depth).

        FAISS's own wrapper of this call takes no parameters; it would have us set nprobe on the
        index, which other threads are searching.
        """
        faiss = load_faiss()
        scores = np.empty((len(rotated), depth), np.float32)
        found = np.empty((len(rotated), depth), np.int64)
        arrays = [faiss.swig_ptr(array) for array in (*nearest[::-1], scores, found)]
        store_pairs = False  # ids, not list and offset
        self._ivf.search_preassigned_c(
            len(rotated), faiss.swig_ptr(rotated), depth, *arrays, store_pairs, params
        )
        return found

    def _nearest_lists(
        self, rotated: NDArray[np.float32], nprobe: int, usable: NDArray[np.bool_] | None
    ) -> Hits:
        """Closest lists of each query; under a filter only those that hold an allowed row.

        A filter by slide or organ follows the clusters, so most of the closest lists would
        otherwise hold nothing that is allowed.
        """
        n = nprobe if usable is None else self.n_lists
        closeness, lists = self._ivf.quantizer.search(rotated, n)
        if usable is not None:
            keep = usable[lists]  # (q, n_lists), as many in every row
            closeness = closeness[keep].reshape(len(rotated), -1)[:, :nprobe]
            lists = lists[keep].reshape(len(rotated), -1)[:, :nprobe]
        return np.ascontiguousarray(closeness), np.ascontiguousarray(lists)

    def _lists_holding(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        usable = np.zeros(self.n_lists, np.bool_)
        usable[self._list_of[allowed]] = True
        return usable

    @cached_property
    def _list_of(self) -> NDArray[np.int32]:
        """List of every position, (n,)."""
        faiss = load_faiss()
        lists = self._ivf.invlists
        out = np.empty(len(self.vectors), np.int32)
        for number in range(self.n_lists):
            size = lists.list_size(number)
            if size:
                out[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return out
