"""An index over one modality of a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from stamp_index.errors import AnnIndexError, EncoderMismatchError
from stamp_index.index.build import HeldOut, build_from_vectors
from stamp_index.index.card import FORMAT, IndexCard
from stamp_index.index.cores import IvfCore, load_faiss
from stamp_index.index.exact import check_allowed, check_queries, exact_search, merge_hits
from stamp_index.index.files import read_card, read_core, write_folder
from stamp_index.index.recipe import IndexRecipe
from stamp_index.store import Modality
from stamp_index.store.schema import vector_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.index.build import Built
    from stamp_index.index.cores import Core
    from stamp_index.store import Store


def index_folder(store: Store, modality: Modality) -> Path:
    """Where a store's own index of a modality lies: ``STORE/indexes/<modality>_<encoder>``."""
    return store.path / "indexes" / vector_column(store.encoder, modality)


@dataclass(frozen=True)
class _Since:
    """How one version of the store differs from the rows of an index.

    Attributes
    ----------
    version : int
        Version of the store.
    gone : ndarray of shape (n,), bool, or None
        Positions in the index whose row the store does not have; None where it has all.
    rows : ndarray of shape (m,), int64
        Rows of the store that are not in the index, ascending.
    vectors : ndarray of shape (m, d), float16
        Their vectors.
    """

    version: int
    gone: NDArray[np.bool_] | None
    rows: NDArray[np.int64]
    vectors: NDArray[np.float16]


class Index:
    """Nearest rows of a store by one of its embeddings.

    Made by `Index.build` or `Index.load`. Searches change nothing, so threads may share it. Rows
    added to the store since it was built are searched exactly and merged, and rows that were deleted since
    are not found: a search is right just after an add or a delete.

    Attributes
    ----------
    store : Store
        The store whose rows are found.
    card : IndexCard
        What it is and its measured recall.
    """

    def __init__(self, store: Store, card: IndexCard, core: Core, rows: NDArray[np.int64]) -> None:
        self.store = store
        self.card = card
        self._core = core
        self._rows = rows
        self._since: _Since | None = None

    def __repr__(self) -> str:
        card = self.card
        return f"Index({card.recipe['name']}, {card.modality}, {card.n} x {card.dim})"

    # ---- making ------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        store: Store,
        modality: Modality,
        recipe: IndexRecipe | None = None,
        *,
        seed: int = 0,
    ) -> Index:
        """Build over all rows of the store that have the embedding.

        Parameters
        ----------
        store : Store
            Its rows are indexed as they are now.
        modality : {"image", "gene"}
            Which embedding to search.
        recipe : IndexRecipe, optional
            Flat below 200,000 rows, else ``ivf_pq``, by default.
        seed : int
            Seed of the training sample and of the held-out queries.

        Raises
        ------
        ValueError
            If the modality is unknown.
        """
        if modality not in get_args(Modality):
            msg = f"There is no modality {modality!r}; expected {' or '.join(get_args(Modality))}."
            raise ValueError(msg)
        rows, vectors = _read_vectors(store, modality)
        recipe = recipe or IndexRecipe.for_rows(len(rows))
        held_out = _held_out(store, modality, rows, n=recipe.n_queries, seed=seed)
        built = build_from_vectors(vectors, held_out, recipe, seed=seed)
        card = _card(store, modality, built, seed=seed)
        return cls(store, card, built.core, rows)

    def save(self, folder: Path | str) -> Path:
        """Write to a folder, replacing an index there; either all of it is written or nothing.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        AnnIndexError
            If something that is not an index is there.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            read_card(folder)
        write_folder(folder, self.card, self._core, self._rows)
        return folder

    @classmethod
    def load(cls, folder: Path | str, store: Store) -> Index:
        """Open a saved index of this store.

        Raises
        ------
        AnnIndexError
            If it is missing, damaged, of another store or of a newer release.
        EncoderMismatchError
            If its embeddings are not of the store's encoder.
        """
        folder = Path(folder)
        card, files = read_card(folder)
        if card.store_id != store.store_id:
            msg = (
                f"The index at {folder} belongs to store {card.store_id}; the store at "
                f"{store.path} is {store.store_id}. Build an index of this store."
            )
            raise AnnIndexError(msg)
        if card.fingerprint != store.card.fingerprint:
            msg = (
                f"The index at {folder} was made with encoder {card.fingerprint}; the store's is "
                f"{store.card.fingerprint}. Build the index again."
            )
            raise EncoderMismatchError(msg)
        core, rows = read_core(folder, card, files)
        return cls(store, card, core, rows)

    # ---- searching ---------------------------------------------------------------------------

    @property
    def n_newer(self) -> int:
        """Rows of the store that are not in the index."""
        return len(self._difference().rows)

    @property
    def n_gone(self) -> int:
        """Rows of the index that the store does not have any more."""
        gone = self._difference().gone
        return 0 if gone is None else int(gone.sum())

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        nprobe: int | None = None,
        n_rerank: int | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the rows of highest cosine.

        Parameters
        ----------
        queries : ndarray of shape (q, d), float32
            Scaled to unit length.
        k : int
            Hits per query.
        allowed : ndarray of shape (store.n_rows,), bool, optional
            Rows that may be found, by row id; all by default.
        nprobe, n_rerank : int, optional
            Lists to look into and candidates to rank again; the card's by default. Under a filter
            8 times as many lists, of those that hold an allowed row. Without effect on a flat index.

        Returns
        -------
        scores : ndarray of shape (q, k'), float32
            Exact cosine with the stored float16 vectors, descending. k' is k, or the number of
            allowed rows that have the embedding if that is less.
        rows : ndarray of shape (q, k'), int64
            Row ids of the store; equal scores by ascending row.

        Raises
        ------
        ValueError
            If shapes, dtypes, values or numbers are wrong.
        """
        card = self.card
        queries = check_queries(queries, card.dim, k)
        for name, value in (("nprobe", nprobe), ("n_rerank", n_rerank)):
            if value is not None and value < 1:
                msg = f"{name} is {value}; expected 1 or more."
                raise ValueError(msg)
        if allowed is not None:
            check_allowed(allowed, self.store.n_rows)
        since = self._difference()
        scores, positions = self._core.search(
            queries,
            k,
            allowed=_allowed_here(allowed, self._rows, since.gone),
            nprobe=nprobe or card.nprobe,
            n_rerank=n_rerank or card.n_rerank,
        )
        hits = scores, self._rows[positions]
        if len(since.rows) == 0:
            return hits
        here = None if allowed is None else allowed[since.rows]
        newer, at = exact_search(since.vectors, queries, k, allowed=here)
        return merge_hits((hits[0], newer), (hits[1], since.rows[at]), k)

    def _difference(self) -> _Since:
        since = self._since
        if since is None or since.version != self.store.version:
            since = self._since = self._compare()
        return since

    def _compare(self) -> _Since:
        store, modality = self.store, self.card.modality
        version, newer = store.version, store.has_vector(modality)
        inside = self._rows < len(newer)  # the store may be open at a version before the index's
        gone = np.ones(len(self._rows), np.bool_)
        gone[inside] = ~newer[self._rows[inside]]
        newer[self._rows[inside]] = False
        rows = np.flatnonzero(newer)
        vectors = store.vectors(modality, rows)
        return _Since(version, gone if gone.any() else None, rows, vectors)


def _allowed_here(
    allowed: NDArray[np.bool_] | None, rows: NDArray[np.int64], gone: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    """Turn a filter by row into one by position in the index; None where everything is allowed."""
    if allowed is None:
        return None if gone is None else ~gone
    here = np.zeros(len(rows), np.bool_)
    inside = rows < len(allowed)
    here[inside] = allowed[rows[inside]]
    if gone is not None:
        here &= ~gone
    return None if here.all() else here


def _read_vectors(
    store: Store, modality: Modality
) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Row ids (n,), ascending, and vectors (n, d) of every embedding."""
    rows = np.flatnonzero(store.has_vector(modality))
    vectors = np.empty((len(rows), store.card.dim), np.float16)
    for ids, part in store.vector_batches(modality):
        vectors[np.searchsorted(rows, ids)] = part
    return rows, vectors


def _held_out(
    store: Store, modality: Modality, indexed: NDArray[np.int64], *, n: int, seed: int
) -> dict[str, HeldOut]:
    """Sample of the store's own rows as queries of each modality, at most a quarter of them."""
    out: dict[str, HeldOut] = {}
    position = np.full(store.n_rows, -1, np.int64)  # of each row in the index
    position[indexed] = np.arange(len(indexed))
    names: tuple[Modality, ...] = get_args(Modality)
    for name in names:
        rows = np.flatnonzero(store.has_vector(name))
        rng = np.random.default_rng([seed, names.index(name)])
        rows = rng.choice(rows, min(n, len(rows) // 4), replace=False) if len(rows) else rows
        if len(rows) == 0:
            continue
        vectors = store.vectors(name, rows).astype(np.float32)
        # a spot's other embedding lies in the index on its own merits: it may be found
        own = position[rows] if name == modality else np.full(len(rows), -1)
        out[name] = HeldOut(vectors, own.astype(np.int64))
    return out


def _card(store: Store, modality: Modality, built: Built, *, seed: int) -> IndexCard:
    core = built.core
    n, dim = core.vectors.shape
    size, faiss_version = 2 * n * dim + 8 * n, ""
    if isinstance(core, IvfCore):
        faiss = load_faiss()
        size += faiss.serialize_index(core.index).nbytes
        faiss_version = faiss.__version__
    return IndexCard(
        format=FORMAT,
        recipe=built.recipe.to_dict(),
        store_id=store.store_id,
        store_version=store.version,
        fingerprint=store.card.fingerprint,
        modality=modality,
        n_rows=store.n_rows,
        n=n,
        dim=dim,
        bytes=size,
        nprobe=built.nprobe,
        n_rerank=built.n_rerank,
        ann_recall_at_10=built.ann_recall_at_10,
        target_recall=built.recipe.target_recall,
        reached=built.reached,
        build_seconds=built.seconds,
        seed=seed,
        faiss_version=faiss_version,
        gpu=built.gpu,
    )
