"""Searching: candidates from short codes, the answer from exact scores.

Nothing is changed by a search, so threads may share an engine. Under a filter one of three ways is
taken, the first two by what they would cost:

1. *Exact*: the allowed rows are compared one by one, where they lie if they lie in stretches, from a
   copy if they are scattered and few. ``n_allowed * d * 0.16 ns`` for one query on one core, a
   fifth of that for each of many.
2. *Lists that hold an allowed row*, up to four times as many as without a filter, in which rows that
   are not allowed are passed over. Where a query gets fewer than k hits, four times as many again,
   until it has k or all lists were looked into.
3. The same with all lists: what 2. becomes when every list holds an allowed row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from stamp_index.errors import AnnIndexError
from stamp_index.index.engine import allowed as filters
from stamp_index.index.engine import gpu
from stamp_index.index.engine.checks import require_places
from stamp_index.index.engine.sources import Graph, Lists, Look
from stamp_index.index.engine.structure import inner_lists
from stamp_index.index.exact import check_queries, in_order, score, search_pieces

if TYPE_CHECKING:
    import faiss
    from numpy.typing import NDArray

    from stamp_index.index.engine.allowed import Allowed

    Hits = tuple[NDArray[np.float32], NDArray[np.int64]]

_QUERIES: Final = 1_024  # searched at once, which bounds the tables of candidates
_DEEPER: Final = 4  # candidates per hit asked for, where that is more than the setting says
_WIDER: Final = 4  # times the breadth for queries that got fewer than k
_NS_SCAN: Final = 0.16  # per dimension of a row compared as it lies
_NS_PRODUCT: Final = 0.03  # the same through a matrix product, and
_NS_CONVERT: Final = 1.0  # for the conversion that it needs, shared by all queries
_NS_GATHER: Final = 0.7  # to read a row from anywhere, shared likewise
_FEW: Final = 12  # queries below which rows are compared as they lie


@dataclass(frozen=True)
class Settings:
    """How thoroughly to search.

    Attributes
    ----------
    breadth : int
        nprobe of inverted lists, efSearch of a graph; no meaning for exact search.
    n_rerank : int
        Candidates that are scored again exactly.
    """

    breadth: int = 32
    n_rerank: int = 200

    def __post_init__(self) -> None:
        for name in ("breadth", "n_rerank"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                msg = f"{name} is {value!r}; expected a whole number of 1 or more."
                raise ValueError(msg)


class PositionSearch(Protocol):
    """What an index needs of its engine; see `Engine`. What `prepare` returns is of use to that engine only."""

    @property
    def is_exact(self) -> bool:
        """Whether every search compares all rows, as without a FAISS index."""
        ...

    def prepare(self, mask: NDArray[np.bool_]) -> Any:  # noqa: ANN401 - each engine has its own
        """See `Engine.prepare`."""
        ...

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        settings: Settings | None = None,
        allowed: Any = None,  # noqa: ANN401
    ) -> Hits:
        """See `Engine.search`."""
        ...

    def exact(self, queries: NDArray[np.float32], k: int, allowed: Any) -> Hits:  # noqa: ANN401
        """See `Engine.exact`."""
        ...

    def cosines(
        self, positions: NDArray[np.int64], query: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine.cosines`."""
        ...


class Engine:
    """Search over one array of unit vectors.

    Parameters
    ----------
    index : faiss.Index or None
        Filled index whose ids are positions; None to search exactly.
    vectors : ndarray of shape (n, d), float16
        Unit vectors by position, C-contiguous; usually a memory map.
    settings : Settings, optional
        For searches that bring none.

    Raises
    ------
    AnnIndexError
        If the index does not hold as many vectors, of the same length, each at its place.
    """

    def __init__(
        self,
        index: faiss.Index | None,
        vectors: NDArray[np.float16],
        *,
        settings: Settings | None = None,
    ) -> None:
        self.vectors = np.asarray(vectors)  # a plain view: a memory map's own is slower to index
        self.settings = settings or Settings()
        self.source: Lists | Graph | None = None
        if index is None or not len(vectors):
            return
        if (index.ntotal, index.d) != vectors.shape:
            msg = (
                f"The index holds {index.ntotal} vectors of {index.d} dimensions; the array has shape "
                f"{vectors.shape}. Build the index again."
            )
            raise AnnIndexError(msg)
        require_places(index, len(vectors))
        self.source = (Graph if inner_lists(index) is None else Lists)(index, vectors)

    def on_gpus(self, *, shard: bool = False) -> Engine:
        """Return an engine that searches on the GPUs and gives the same answers.

        Parameters
        ----------
        shard : bool
            Divide the rows over the GPUs instead of giving each a copy.

        Raises
        ------
        AnnIndexError
            If FAISS sees no GPU, the index is not of a kind that it has there, or they have no room for it.
        """
        if not isinstance(self.source, Lists):
            msg = "Only inverted lists go to a GPU; build with the recipe 'ivf_pq'."
            raise AnnIndexError(msg)
        other = Engine(None, self.vectors, settings=self.settings)
        other.source = gpu.GpuLists(self.source.index, self.vectors, shard=shard)
        return other

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def is_exact(self) -> bool:
        """Whether every search compares all rows."""
        return self.source is None

    def prepare(self, mask: NDArray[np.bool_]) -> Allowed:
        """Make a filter ready, to be used for any number of searches.

        Parameters
        ----------
        mask : ndarray of shape (n,), bool
            Rows that may be found.

        Raises
        ------
        ValueError
            If it is not one bool per row.
        """
        source = self.source
        if source is None:
            return filters.prepare(mask, self.vectors, None, 0)
        return filters.prepare(mask, self.vectors, source.list_of, source.n_lists)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        settings: Settings | None = None,
        allowed: Allowed | None = None,
    ) -> Hits:
        """Find the rows of highest cosine.

        Parameters
        ----------
        queries : ndarray of shape (q, d), float32
            Scaled to unit length.
        k : int
            Hits per query.
        settings : Settings, optional
            The engine's own by default.
        allowed : Allowed, optional
            Rows that may be found, from `prepare`; all by default.

        Returns
        -------
        scores : ndarray of shape (q, k'), float32
            Cosine with the float16 vectors, descending; the same to the last bit in whatever batch
            or filter a row is found. k' is k, or what is allowed if less.
        positions : ndarray of shape (q, k'), int64
            Equal scores by ascending position.

        Raises
        ------
        ValueError
            If the queries or `k` are wrong.
        """
        queries = check_queries(queries, self.vectors.shape[1], k)
        settings = settings or self.settings
        if allowed is not None and allowed.n == len(self):
            allowed = None
        k = min(int(k), len(self) if allowed is None else allowed.n)
        if self.source is None or k == 0 or len(queries) == 0:
            return self.exact(queries, k, allowed)
        look = Look(
            breadth=self.source.breadth_for(settings.breadth, k, allowed),
            depth=min(
                max(settings.n_rerank, _DEEPER * k), len(self) if allowed is None else allowed.n
            ),
            allowed=allowed,
        )
        if self._exact_is_cheaper(len(queries), look):
            return self.exact(queries, k, allowed)
        if len(queries) <= _QUERIES:
            return self._search_source(queries, k, look)
        blocks = [queries[at : at + _QUERIES] for at in range(0, len(queries), _QUERIES)]
        hits = [self._search_source(block, k, look) for block in blocks]
        return np.concatenate([hit[0] for hit in hits]), np.concatenate([hit[1] for hit in hits])

    def exact(self, queries: NDArray[np.float32], k: int, allowed: Allowed | None) -> Hits:
        """Compare unit queries with every allowed row; as `search` otherwise."""
        if allowed is None:
            return search_pieces(self.vectors, queries, k, [(0, len(self))])
        if allowed.copy is not None and allowed.positions is not None:
            scores, rows = search_pieces(allowed.copy, queries, k, [(0, allowed.n)])
            return scores, allowed.positions[rows]
        return search_pieces(self.vectors, queries, k, allowed.all_pieces())

    def cosines(
        self, positions: NDArray[np.int64], query: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Cosine of rows at some positions (m,) with one unit query (d,), (m,): as `search` scores them, to the last bit."""
        return score(self.vectors, positions, query)

    def _exact_is_cheaper(self, n_queries: int, look: Look) -> bool:
        """Whether comparing all allowed rows costs less than looking for candidates."""
        allowed = look.allowed
        if self.source is None or allowed is None or allowed.pieces is None:
            return False
        each = compare_ns(n_queries)
        if allowed.stretches is None and allowed.copy is None:
            each += _NS_GATHER / n_queries
        return bool(allowed.n * self.vectors.shape[1] * each < self.source.cost_ns(look))

    def _search_source(self, queries: NDArray[np.float32], k: int, look: Look) -> Hits:
        source = self.source
        if source is None:
            return self.exact(queries, k, look.allowed)
        width = min(look.depth, k + 1)  # one more tells whether the last hit has an equal
        scores, rows = source.best(queries, width, look)
        equal = scores[:, 1:] == scores[:, :-1]
        if not equal.any() and rows.min() >= 0:  # nearly always
            return scores[:, :k], rows[:, :k]
        again = rows[:, k - 1] < 0
        if k < width < look.depth:
            again |= equal[:, -1]  # of equal scores the lowest positions count: see them all
        scores, rows = in_order(scores, rows, k)
        if again.any():
            scores[again], rows[again] = self._search_again(queries[again], k, look)
        return scores, rows

    def _search_again(self, queries: NDArray[np.float32], k: int, look: Look) -> Hits:
        """Answer queries that got fewer than k hits, or more than k with the score of the last."""
        source, left = self.source, np.arange(len(queries))
        scores = np.empty((len(queries), k), np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        while source is not None and len(left):
            near = source.best(queries[left], look.depth, look)
            scores[left], rows[left] = in_order(*near, k)
            left = left[rows[left, k - 1] < 0]
            most = source.most(look.allowed)
            if look.breadth >= most:
                break
            look = replace(look, breadth=min(look.breadth * _WIDER, most))
        if len(left):  # a graph can fail to reach what is there
            scores[left], rows[left] = self.exact(queries[left], k, look.allowed)
        return scores, rows


def compare_ns(n_queries: int) -> float:
    """CPU time to compare one dimension of a row with each of some queries, where rows lie together."""
    return _NS_SCAN if n_queries < _FEW else _NS_PRODUCT + _NS_CONVERT / n_queries


def on_gpus_if_any(engine: Engine) -> Engine:
    """Return an engine that searches on the GPUs, where FAISS has its kind there and they have room for it.

    Each gets a copy; where one has no room for that, the rows are divided over all.
    """
    if isinstance(engine.source, Lists) and gpu.supports(engine.source.index):
        for shard in (False, True) if gpu.n_gpus() > 1 else (False,):
            try:
                return engine.on_gpus(shard=shard)
            except AnnIndexError as exc:
                gpu.warn("Opening an index", exc)
    return engine
