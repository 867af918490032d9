"""Asking a store: one function for each kind of query."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from stamp_index.errors import EncoderMismatchError, QueryError
from stamp_index.genes import GeneResolver
from stamp_index.index import Index, exact_search, has_index
from stamp_index.search.filtering import evaluate, parse_filter
from stamp_index.search.hits import Hits, make_hits
from stamp_index.search.pictures import cut_query
from stamp_index.search.profiles import encode_profile
from stamp_index.search.selection import Excluded, Selection, own_rows, select
from stamp_index.search.signatures import resolve_signature
from stamp_index.store import Modality, Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.encoders.base import Encoder
    from stamp_index.genes import Signature
    from stamp_index.search.filtering import Allowed, Condition

DEFAULT_K = 48
_FILTERS_KEPT = 8  # a byte a row each


class Searcher:
    """Searches one version of a store; never writes to it. Threads may share it.

    Made by `Searcher.open`. Every query takes these keywords:

    - ``against``: ``"image"`` or ``"gene"``, the embeddings that the query is compared with.
    - ``k``: hits wanted, at most the spots of the store. Fewer come back only where fewer may be
      found, and `Hits.notes` says so.
    - ``filters``: which spots may be hits: text, such as ``'organ == "breast" and expr("CD8A") > 1'``, or a
      `Condition` that `parse_filter` or `all_of` made (see `stamp_index.search.filtering`).
    - ``genes``: genes whose measured expression the hits report (names as in signatures).

    Every query raises `QueryError` if `k` is more than the spots of the store, or nothing passes
    the filters; `MissingGenesError` for unknown `genes`; `ValueError` for an `against` or `k` that
    is no such thing.

    Attributes
    ----------
    store : Store
        At the version that was the newest when it was opened.
    encoder : Encoder
        Embeds the queries; the same one that embedded the spots.
    indexes : dict
        Index of each modality that has one; the others are searched exactly, in memory.
    """

    def __init__(
        self, store: Store, encoder: Encoder, indexes: Mapping[Modality, Index] | None = None
    ) -> None:
        if encoder.fingerprint != store.card.fingerprint:
            msg = (
                f"The store at {store.path} holds embeddings of encoder '{store.card.name}' "
                f"{store.card.fingerprint}; the encoder given is '{encoder.name}' "
                f"{encoder.fingerprint}. Search with the store's own encoder."
            )
            raise EncoderMismatchError(msg)
        self.store = store
        self.encoder = encoder
        self.indexes: dict[Modality, Index] = dict(indexes or {})
        self._vectors: dict[Modality, tuple[NDArray[np.int64], NDArray[np.float16]]] = {}
        self._present: dict[Modality, NDArray[np.bool_]] = {}
        self._allowed = lru_cache(_FILTERS_KEPT)(self._evaluate)

    @classmethod
    def open(cls, store_path: Path | str, *, encoder: Encoder | None = None) -> Self:
        """Open a store for searching, at its newest version.

        Parameters
        ----------
        store_path : path
            Folder of the store.
        encoder : Encoder, optional
            By default the one that the store carries.

        Raises
        ------
        StoreError, StoreVersionError
            If the store cannot be opened, or carries no encoder and none is given.
        EncoderError
            If the encoder that it carries cannot be loaded.
        EncoderMismatchError
            If the encoder is not the one that embedded the store's spots.
        AnnIndexError
            If the store has an index that cannot be used.
        """
        newest = Store.open(store_path).version
        store = Store.open(store_path, version=newest)  # later additions do not move the rows
        if encoder is None:
            from stamp_index.encoders import load_encoder

            encoder = load_encoder(store.encoder_path)
        searcher = cls(store, encoder)
        searcher.indexes = _load_indexes(store)
        return searcher

    # ---- kinds of query ----------------------------------------------------------------------

    def search_genes(
        self,
        signature: str | Signature | Mapping[str, float],
        *,
        against: Modality = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
    ) -> Hits:
        """Find spots that look (or read) as if they expressed a signature.

        Parameters
        ----------
        signature : str, Signature or mapping of gene to weight
            For example ``"CD8A high, EPCAM low"``. Its genes are reported at every hit.
        against, k, filters, genes
            As the class says.

        Raises
        ------
        EmptyQueryError
            If it names no gene.
        MissingGenesError
            If the store did not measure a gene, or the encoder does not know it.
        QueryError
            If it cannot be read or contradicts itself.
        """
        asked = resolve_signature(signature, self._resolver, self.encoder)
        reported = (*asked.shown.genes, *self._resolve(genes))
        selection = self._select(against, k, filters)
        vector = self.encoder.encode_signature(asked.weights)
        return self._hits(vector, against, selection, genes=reported, query=asked.shown.text)

    def search_image(
        self,
        patch: NDArray[np.uint8],
        *,
        mpp: float,
        against: Modality = "gene",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        centre_px: tuple[float, float] | None = None,
    ) -> Hits:
        """Find spots for a picture of tissue.

        Parameters
        ----------
        patch : ndarray of shape (h, w, 3), uint8
            RGB, at least as wide and high as the encoder's patch. Where it reaches as far as the
            encoder's region, the surroundings are used too.
        mpp : float
            Microns per pixel of the picture, above 0.
        against, k, filters, genes
            As the class says.
        centre_px : (float, float), optional
            x and y of the patch's centre in the picture; its middle by default.

        Raises
        ------
        QueryError
            If the picture is smaller than the encoder's patch, or the patch does not lie on it.
        ValueError
            If shape or dtype are wrong or `mpp` is not above 0.
        """
        cut = cut_query(patch, self.encoder, mpp=mpp, centre_px=centre_px)
        reported = self._resolve(genes)
        selection = self._select(against, k, filters)
        if cut.region is None:
            note = (
                f"The picture does not reach {self.encoder.region.width_um:g} um around the "
                f"patch: its surroundings were not used."
            )
            selection = selection.with_note(note)
        vector = self.encoder.encode_images(cut.patch, cut.region)[0]
        width, height = patch.shape[1] * mpp, patch.shape[0] * mpp
        query = f"picture of {width:.4g} x {height:.4g} um at {mpp:g} um per pixel"
        return self._hits(vector, against, selection, genes=reported, query=query)

    def search_spot(
        self,
        spot_id: str,
        *,
        query: Modality = "image",
        against: Modality = "image",
        exclude_own: Literal["nothing", "slide", "patient"] = "nothing",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
    ) -> Hits:
        """Find spots like a stored one, which is never its own hit.

        Parameters
        ----------
        spot_id : str
            ``<slide_id>:<barcode>``.
        query : {"image", "gene"}
            Which of the spot's embeddings asks.
        exclude_own : {"nothing", "slide", "patient"}
            What to leave out besides the spot: its slide, or all slides of its patient.
        against, k, filters, genes
            As the class says.

        Raises
        ------
        QueryError
            If there is no such spot, it has no such embedding, or its patient is to be left out
            and not known.
        """
        row = self.store.row_of(spot_id)
        if not self._has_vector(query)[row]:
            msg = f"Spot '{spot_id}' has no {query} embedding: its slide came without it."
            raise QueryError(msg)
        reported = self._resolve(genes)
        excluded = own_rows(self.store, row, exclude_own)
        selection = self._select(against, k, filters, excluded)
        vector = self.store.vectors(query, [row])[0].astype(np.float32)
        return self._hits(
            vector, against, selection, genes=reported, query=f"{query} of spot {spot_id}"
        )

    def search_profile(
        self,
        counts: Mapping[str, float],
        *,
        against: Modality = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
    ) -> Hits:
        """Find spots for a measured expression profile.

        Parameters
        ----------
        counts : mapping of gene to raw count
            Symbols or Ensembl ids; genes that the encoder does not know are counted in the notes.
        against, k, filters, genes
            As the class says.

        Raises
        ------
        EmptyQueryError
            If there is no count above 0 in a gene that the encoder knows.
        MissingGenesError
            If the encoder knows none of the genes.
        DuplicateGenesError
            If two names mean the same gene.
        ValueError
            If a count is negative or not finite.
        """
        vector, note = encode_profile(counts, self._resolver, self.encoder)
        reported = self._resolve(genes)
        selection = self._select(against, k, filters)
        if note:
            selection = selection.with_note(note)
        return self._hits(
            vector, against, selection, genes=reported, query=f"profile of {len(counts)} genes"
        )

    def search_vector(
        self,
        vector: ArrayLike,
        *,
        against: Modality = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
    ) -> Hits:
        """Find spots for an embedding of this store's encoder.

        Parameters
        ----------
        vector : array of shape (d,), float
            Scaled to unit length; not all zeros.
        against, k, filters, genes
            As the class says.

        Raises
        ------
        ValueError
            If it has another shape, holds NaN or infinite values, or is all zeros.
        """
        asked = _checked_vector(vector, self.encoder.dim)
        reported = self._resolve(genes)
        selection = self._select(against, k, filters)
        return self._hits(
            asked, against, selection, genes=reported, query=f"vector of {len(asked)} numbers"
        )

    # ---- helpers -----------------------------------------------------------------------------

    @cached_property
    def _resolver(self) -> GeneResolver:
        return GeneResolver(self.store.genes, self.store.gene_ids)

    def _resolve(self, genes: Sequence[str]) -> tuple[str, ...]:
        if isinstance(genes, str):
            msg = f"genes is the string {genes!r}; expected several names, as in ({genes!r},)."
            raise TypeError(msg)
        return tuple(self._resolver.resolve(genes).values())

    def _select(
        self,
        against: Modality,
        k: int,
        filters: Condition | str | None,
        excluded: Excluded | None = None,
    ) -> Selection:
        condition = parse_filter(filters) if isinstance(filters, str) else filters
        given = None if condition is None else (condition, self._allowed(condition))
        return select(self.store, self._has_vector(against), k=k, given=given, excluded=excluded)

    def _evaluate(self, condition: Condition) -> Allowed:
        return evaluate(condition, self.store.columns(self._resolver))

    def _has_vector(self, modality: Modality) -> NDArray[np.bool_]:
        if modality not in ("image", "gene"):
            msg = f"There are no '{modality}' embeddings; expected 'image' or 'gene'."
            raise ValueError(msg)
        if modality not in self._present:
            self._present[modality] = self.store.has_vector(modality)
        return self._present[modality]

    def _hits(
        self,
        vector: NDArray[np.float32],
        against: Modality,
        selection: Selection,
        *,
        genes: tuple[str, ...],
        query: str,
    ) -> Hits:
        scores, rows = self._nearest(vector[None, :], against, selection)
        return make_hits(
            self.store,
            (scores[0], rows[0]),
            tuple(dict.fromkeys(genes)),
            query=query,
            notes=selection.notes,
        )

    def _nearest(
        self, queries: NDArray[np.float32], against: Modality, selection: Selection
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        index = self.indexes.get(against)
        if index is not None:
            return index.search(queries, selection.k, allowed=selection.allowed)
        if against not in self._vectors:
            present = np.flatnonzero(self._has_vector(against))
            self._vectors[against] = present, self.store.vectors(against, present)
        rows, vectors = self._vectors[against]
        allowed = None if selection.allowed is None else selection.allowed[rows]
        scores, positions = exact_search(vectors, queries, selection.k, allowed=allowed)
        return scores, rows[positions]


def _load_indexes(store: Store) -> dict[Modality, Index]:
    modalities: tuple[Modality, ...] = ("image", "gene")
    return {side: Index.open(store, side) for side in modalities if has_index(store, side)}


def _checked_vector(vector: ArrayLike, dim: int) -> NDArray[np.float32]:
    values: NDArray[Any] = np.asarray(vector)
    if values.shape != (dim,) or values.dtype.kind not in "fiu":
        msg = (
            f"The vector is {values.dtype} of shape {values.shape}; this store's embeddings have "
            f"{dim} numbers."
        )
        raise ValueError(msg)
    asked = values.astype(np.float64)
    length = float(np.linalg.norm(asked))
    if not np.isfinite(length) or length == 0:
        msg = f"The vector has length {length}; expected a finite one that is not all zeros."
        raise ValueError(msg)
    return (asked / length).astype(np.float32)
