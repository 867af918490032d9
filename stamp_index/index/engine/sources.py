"""Where candidates come from: inverted lists or a graph, scored again by FAISS from float16 rows.

One FAISS call does both for a batch, in C++ and without Python's lock; parameters and filters go
with the call, so that threads may share a source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.exact import in_order
from stamp_index.index.faiss_library import load_faiss
from stamp_index.index.halves import half_index

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray

    from stamp_index.index.engine.allowed import Allowed

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]

# A filter may follow the clusters, as organ and slide do: then the lists nearest a query hold little
# that is allowed, and the next ones are about equally far. So 1.5 / share - 0.5 times as many lists
# are looked into, up to 4 times. At 1M x 512 that keeps recall at 10 above .95 from 50 % down to
# 0.1 % of the rows, for at most 2.5 times the cost; with 1 / share times as many it was .945 at 50 %.
_MOST_FILTER_FACTOR: Final = 4.0
# Lists are looked into until, on average, so many rows per wanted hit lie in them.
_ROWS_PER_HIT: Final = 8

# Costs on one core, in ns. They only decide between ways that all give the answer.
_NS_CENTRE: Final = 0.11  # per dimension of a centre
_NS_MEMBER: Final = 2.0  # to see that a code is not allowed
_NS_CODE: Final = 0.8  # per byte of a code that is
_NS_RERANK: Final = 0.8  # per dimension of a row scored again, read from anywhere
_NS_LINK: Final = 0.15  # per dimension of a vector met in a graph


def breadth_under(breadth: int, share: float) -> int:
    """Return the lists to look into under a filter that allows this share of the rows, for `breadth` without one."""
    return round(breadth * min(_MOST_FILTER_FACTOR, 1.5 / share - 0.5))


def least_breadth(k: int, n: int, n_lists: int) -> int:
    """Count the lists that hold enough rows for k hits on average, where `n` rows lie in `n_lists`."""
    return -(-_ROWS_PER_HIT * k * n_lists // n)


def lists_cost_ns(
    dim: int, code_bytes: int, *, n_centres: int, met: float, inside: float, depth: int
) -> float:
    """Rough CPU time of a query of inverted lists.

    Parameters
    ----------
    dim, code_bytes : int
        Of a vector and of its code.
    n_centres : int
        Centres that the query is compared with.
    met, inside : float
        Rows in the lists that are looked into, and those of them that are allowed.
    depth : int
        Candidates that are scored again.
    """
    codes = _NS_MEMBER * met + _NS_CODE * code_bytes * inside
    return float(_NS_CENTRE * dim * n_centres + codes + _NS_RERANK * dim * min(depth, inside))


@dataclass(frozen=True, slots=True)
class Look:
    """How far one search looks.

    Attributes
    ----------
    breadth : int
        nprobe or efSearch.
    depth : int
        Candidates that are scored again.
    allowed : Allowed or None
        Rows that may be found; None for all.
    """

    breadth: int
    depth: int
    allowed: Allowed | None = None


class Source(Protocol):
    """What the engine needs of a candidate search."""

    def breadth_for(self, breadth: int, k: int, allowed: Allowed | None) -> int:
        """Breadth (nprobe or efSearch) to begin with, for k hits under a filter."""
        ...

    def most(self, allowed: Allowed | None) -> int:
        """Breadth beyond which nothing more is found."""
        ...

    def best(self, queries: NDArray[np.float32], width: int, look: Look) -> Hits:
        """Best of the candidates: scores and positions (q, width), -1 where there are fewer."""
        ...

    def codes(self, queries: NDArray[np.float32], look: Look) -> NDArray[np.int64]:
        """Candidates as the codes rank them, (q, depth), -1 where there are fewer."""
        ...

    def cost_ns(self, look: Look) -> float:
        """Rough CPU time of a query."""
        ...


class _Refined:
    """A FAISS index, and the rows that score its candidates again."""

    def __init__(self, index: faiss.Index, vectors: NDArray[np.float16]) -> None:
        faiss = load_faiss()
        self.index = index
        self._vectors = vectors  # the view below does not keep them
        self._rows = half_index(vectors)
        self._refined = faiss.IndexRefine(index, self._rows)

    def _parameters(self, breadth: int, allowed: Allowed | None) -> Any:  # noqa: ANN401 - faiss.SearchParameters
        raise NotImplementedError

    def best(self, queries: NDArray[np.float32], width: int, look: Look) -> Hits:
        """See `Source`."""
        # FAISS takes depth = int(width * k_factor); the half keeps rounding away from the next one
        parameters = load_faiss().IndexRefineSearchParameters(
            k_factor=(look.depth + 0.5) / width,
            base_index_params=self._parameters(look.breadth, look.allowed),
        )
        scores, rows = self._refined.search(queries, width, params=parameters)
        return scores, rows

    def codes(self, queries: NDArray[np.float32], look: Look) -> NDArray[np.int64]:
        """See `Source`."""
        parameters = self._parameters(look.breadth, look.allowed)
        _, rows = self.index.search(queries, look.depth, params=parameters)
        return np.asarray(rows, np.int64)


class Lists(_Refined):
    """Inverted lists of any code; `breadth` is nprobe.

    Parameters
    ----------
    index : faiss.Index
        Lists, or a rotation and lists. Ids are positions.
    vectors : ndarray of shape (n, d), float16
        By position.
    """

    def __init__(self, index: faiss.Index, vectors: NDArray[np.float16]) -> None:
        super().__init__(index, vectors)
        self._lists = inner_lists(index)
        self.n_lists = int(self._lists.nlist)

    def breadth_for(self, breadth: int, k: int, allowed: Allowed | None) -> int:
        """See `Source`; more lists under a filter, and where `k` is large."""
        n, n_lists = len(self._vectors), self.n_lists
        if allowed is not None:
            n, n_lists = allowed.n, allowed.n_lists
            breadth = breadth_under(breadth, allowed.share)
        return min(max(breadth, least_breadth(k, n, n_lists)), n_lists)

    def most(self, allowed: Allowed | None) -> int:
        """See `Source`: all lists that hold an allowed row."""
        return self.n_lists if allowed is None else allowed.n_lists

    def cost_ns(self, look: Look) -> float:
        """See `Source`."""
        n, dim = self._vectors.shape
        allowed = look.allowed
        n_allowed, n_lists = (n, self.n_lists) if allowed is None else (allowed.n, allowed.n_lists)
        met = look.breadth * n / self.n_lists
        inside = min(look.breadth * n_allowed / max(n_lists, 1), n_allowed)
        return lists_cost_ns(
            dim,
            int(self._lists.code_size),
            n_centres=n_lists,
            met=met,
            inside=inside,
            depth=look.depth,
        )

    def _parameters(self, breadth: int, allowed: Allowed | None) -> Any:  # noqa: ANN401
        faiss = load_faiss()
        if allowed is None:
            return faiss.SearchParametersIVF(nprobe=breadth)
        if allowed.n_lists == self.n_lists:  # comparing with all centres at once is quicker
            return faiss.SearchParametersIVF(nprobe=breadth, sel=allowed.selector)
        centres = faiss.SearchParameters(sel=allowed.list_selector)
        return faiss.SearchParametersIVF(
            nprobe=breadth, sel=allowed.selector, quantizer_params=centres
        )

    @cached_property
    def list_of(self) -> NDArray[np.int32]:
        """Inverted list of every position, (n,); read once, 4 bytes a row."""
        faiss = load_faiss()
        lists = self._lists.invlists
        out = np.zeros(len(self._vectors), np.int32)
        for number in range(self.n_lists):
            size = lists.list_size(number)
            if size:
                out[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return out


class Graph(_Refined):
    """A graph of neighbours; `breadth` is efSearch.

    Under a filter the graph is searched without it, deeper, and what is not allowed is dropped. FAISS
    can filter on the way, but then takes rows it came past for neighbours: .83 recall at 10 where a
    filter of half the rows followed the clusters. A query with too few left is searched exactly.
    """

    n_lists = 0
    list_of = None

    def __init__(self, index: Any, vectors: NDArray[np.float16]) -> None:  # noqa: ANN401 - a faiss.IndexHNSW
        super().__init__(index, vectors)
        self._links = int(index.hnsw.nb_neighbors(0))

    def breadth_for(self, breadth: int, k: int, allowed: Allowed | None) -> int:
        """See `Source`."""
        share = 1.0 if allowed is None else allowed.share
        return min(round(max(breadth, 2 * k) / share), len(self._vectors))

    def most(self, allowed: Allowed | None) -> int:
        """See `Source`: under a filter a second try is exact."""
        return len(self._vectors) if allowed is None else 0

    def best(self, queries: NDArray[np.float32], width: int, look: Look) -> Hits:
        """See `Source`."""
        allowed = look.allowed
        if allowed is None:
            return super().best(queries, width, look)
        depth = min(round(look.depth / allowed.share), len(self._vectors))
        scores, rows = super().best(queries, depth, Look(max(look.breadth, depth), depth))
        hidden = (rows < 0) | ~allowed.holds(rows)
        scores[hidden], rows[hidden] = -np.inf, -1
        return in_order(scores, rows, width)

    def cost_ns(self, look: Look) -> float:
        """See `Source`."""
        depth = look.depth / (1.0 if look.allowed is None else look.allowed.share)
        met = _NS_LINK * max(look.breadth, depth) * self._links / 2  # half were met before
        return float(self._vectors.shape[1] * (met + _NS_RERANK * depth))

    def _parameters(self, breadth: int, allowed: Allowed | None) -> Any:  # noqa: ANN401
        return load_faiss().SearchParametersHNSW(efSearch=breadth)
