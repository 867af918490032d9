"""An index over one modality of a store."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stamp_index.index.build import Built
    from stamp_index.index.cores import Core, Hits
    from stamp_index.store import Store


def index_folder(store: Store, modality: Modality) -> Path:
    """Where a store's own index of a modality lies: ``STORE/indexes/<modality>``."""
    return store.path / "indexes" / modality


class Index:
    """Nearest rows of a store by one of its embeddings.

    Made by `Index.build` or `Index.load`. Searches change nothing, so threads may share it. Rows
    added to the store since it was built are searched exactly and merged.

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
        self._newer: tuple[int, NDArray[np.float16], NDArray[np.int64]] | None = None

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
        version, n_rows = store.version, store.n_spots
        every = slice(0, n_rows)
        present = store.has_vector(modality)[:n_rows]
        rows = np.flatnonzero(present)
        vectors = store.vectors(modality, every)
        vectors = vectors if present.all() else vectors[rows]
        recipe = recipe or IndexRecipe.for_rows(len(rows))
        held_out = _held_out(store, n_rows, modality, n=recipe.n_queries, seed=seed)
        built = build_from_vectors(vectors, held_out, recipe, seed=seed)
        card = _card(store, modality, built, version=version, n_rows=n_rows, seed=seed)
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
        """Rows of the store that were added since the index was built."""
        return max(self.store.n_spots - self.card.n_rows, 0)

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
        allowed : ndarray of shape (store.n_spots,), bool, optional
            Rows that may be found; all by default.
        nprobe, n_rerank : int, optional
            Lists to look into and candidates to rank again; the card's by default. Under a filter
            8 times as many lists, of those that hold an allowed row. Without effect on a flat index.

        Returns
        -------
        scores : ndarray of shape (q, k'), float32
            Exact cosine with the stored float16 vectors, descending. k' is k, or the number of
            allowed rows that have the embedding if that is less.
        rows : ndarray of shape (q, k'), int64
            Rows of the store; equal scores by ascending row.

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
        n_spots = self.store.n_spots
        if allowed is not None:
            check_allowed(allowed, n_spots)
        scores, positions = self._core.search(
            queries,
            k,
            allowed=self._allowed_here(allowed, n_spots),
            nprobe=nprobe or card.nprobe,
            n_rerank=n_rerank or card.n_rerank,
        )
        hits = scores, self._rows[positions]
        if n_spots <= card.n_rows:
            return hits
        newer_scores, newer_rows = self._search_newer(queries, k, allowed, n_spots)
        return merge_hits((hits[0], newer_scores), (hits[1], newer_rows), k)

    def _allowed_here(
        self, allowed: NDArray[np.bool_] | None, n_spots: int
    ) -> NDArray[np.bool_] | None:
        """Turn the filter into one by position in the index; None where everything is allowed."""
        if n_spots < self.card.n_rows:  # the store was opened at a version before the index's
            allowed = np.ones(n_spots, np.bool_) if allowed is None else allowed
            allowed = np.pad(allowed, (0, self.card.n_rows - n_spots))
        if allowed is None or allowed[: self.card.n_rows].all():
            return None
        return allowed[self._rows]

    def _search_newer(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None,
        n_spots: int,
    ) -> Hits:
        newer = self._newer
        if newer is None or newer[0] != n_spots:
            stretch = slice(self.card.n_rows, n_spots)
            present = self.store.has_vector(self.card.modality)[stretch]
            vectors = self.store.vectors(self.card.modality, stretch)[present]
            newer = (n_spots, vectors, self.card.n_rows + np.flatnonzero(present))
            self._newer = newer
        _, vectors, rows = newer
        here = None if allowed is None else allowed[rows]
        scores, positions = exact_search(vectors, queries, k, allowed=here)
        return scores, rows[positions]


def _held_out(
    store: Store, n_rows: int, modality: Modality, *, n: int, seed: int
) -> dict[str, HeldOut]:
    """Sample of the store's own rows as queries of each modality, at most a quarter of them."""
    out: dict[str, HeldOut] = {}
    every = slice(0, n_rows)
    indexed = store.has_vector(modality)[:n_rows]
    position = np.where(indexed, np.cumsum(indexed) - 1, -1)  # of each row in the index
    names: tuple[Modality, ...] = get_args(Modality)
    for name in names:
        rows = np.flatnonzero(store.has_vector(name)[:n_rows])
        rng = np.random.default_rng([seed, names.index(name)])
        rows = rng.choice(rows, min(n, len(rows) // 4), replace=False) if len(rows) else rows
        if len(rows) == 0:
            continue
        vectors = store.vectors(name, every)[rows].astype(np.float32)
        # a spot's other embedding lies in the index on its own merits: it may be found
        own = position[rows] if name == modality else np.full(len(rows), -1)
        out[name] = HeldOut(vectors, own.astype(np.int64))
    return out


def _card(
    store: Store, modality: Modality, built: Built, *, version: int, n_rows: int, seed: int
) -> IndexCard:
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
        store_version=version,
        fingerprint=store.card.fingerprint,
        modality=modality,
        n_rows=n_rows,
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
