"""Asking a store: one function for each kind of query."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal, Self

from stamp_index.errors import EncoderMismatchError, QueryError
from stamp_index.genes import GeneResolver
from stamp_index.search.asking import (
    DEFAULT_K,
    DEFAULT_RECALL,
    ROW_KINDS,
    Against,
    Ask,
    Asked,
    OnePer,
    QueryKind,
)
from stamp_index.search.indexes import open_indexes
from stamp_index.search.pictures import cut_query
from stamp_index.search.profiles import encode_profile
from stamp_index.search.signatures import random_signatures, resolve_signature
from stamp_index.search.vector_searcher import VectorSearcher
from stamp_index.store import Modality, Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from stamp_index.encoders.base import Encoder
    from stamp_index.genes import Signature
    from stamp_index.index import Index
    from stamp_index.search.filtering import Condition
    from stamp_index.search.hits import Hits


class Searcher(VectorSearcher):
    """Searches one version of a store; never writes to it. Threads may share it.

    Made by `Searcher.open`. Every query takes the keywords that `VectorSearcher` explains: ``against``, ``k``,
    ``filters``, ``genes``, ``one_per`` and ``recall``. None of them changes the searcher.

    Attributes
    ----------
    store : Store
        At the version that was the newest when it was opened, for reading.
    encoder : Encoder
        Embeds the queries; the same one that embedded the spots.
    indexes : dict
        Index of each modality that has one, at that version; the others are searched exactly, in memory.
    """

    def __init__(
        self, store: Store, encoder: Encoder, indexes: Mapping[Modality, Index] | None = None
    ) -> None:
        if encoder.fingerprint != store.card.fingerprint:
            msg = (
                f"The store at {store.place} holds embeddings of encoder '{store.card.name}' "
                f"{store.card.fingerprint}; the encoder given is '{encoder.name}' "
                f"{encoder.fingerprint}. Search with an encoder of the store: it has those named "
                f"{', '.join(store.encoders)}."
            )
            raise EncoderMismatchError(msg)
        super().__init__(store, indexes)
        self.encoder = encoder

    @classmethod
    def open(
        cls,
        store_path: Path | str,
        *,
        encoder: Encoder | str | None = None,
        shards: str | None = None,
    ) -> Self:
        """Open a store for searching, at its newest version.

        Parameters
        ----------
        store_path : path
            Folder of the store.
        encoder : Encoder or str, optional
            One of those whose embeddings the store has, or its name in the store (see `Store.encoders`), under which
            the store carries it; the store's first by default.
        shards : str, optional
            As `VectorSearcher.open`.

        Raises
        ------
        StoreError, StoreVersionError
            If the store cannot be opened, has no encoder of that name, or carries none and none is given.
        EncoderError
            If the encoder that it carries cannot be loaded.
        EncoderMismatchError
            If the encoder is not one that embedded the store's spots.
        AnnIndexError
            If the store has an index that cannot be used.
        ShardError
            If the shards cannot be reached, or are of another store or encoder.
        """
        if encoder is None or isinstance(encoder, str):
            from stamp_index.encoders import load_encoder

            store = Store.open(store_path, encoder=encoder)
            encoder = load_encoder(store.encoder_path)
        else:
            store = Store.open(store_path)
            for name, card in store.encoders.items():
                if card.fingerprint == encoder.fingerprint:
                    store = Store.open(store_path, encoder=name)
        return cls(store, encoder, open_indexes(store, shards))

    @cached_property
    def _askable(self) -> GeneResolver:
        """Knows the store's genes, and those that only the encoder has: plain H&E is searched by these too."""
        genes, ids = self.store.genes, self.store.gene_ids
        stored = self._resolver
        # The encoder may know a gene of the store by an older name, which must not stand beside the store's.
        others = [gene for gene in self.encoder.panel.genes if not stored.knows(gene)]
        return GeneResolver((*genes, *others), (*ids, *[""] * len(others)))

    # ---- kinds of query ----------------------------------------------------------------------

    def search_genes(  # noqa: PLR0913 - what every query takes, and `rank_by`
        self,
        signature: str | Signature | Mapping[str, float],
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
        rank_by: Literal["score", "measured"] = "score",
    ) -> Hits:
        """Find spots that look (or read) as if they expressed a signature.

        Parameters
        ----------
        signature : str, Signature or mapping of gene to weight
            For example ``"CD8A high, EPCAM low"``. Its genes are reported at every hit, and the column
            `measured` says how well they fit: see `Hits`.
        rank_by : {"score", "measured"}
            Order of the hits. They are the k of highest score in any case.
        against, k, filters, genes, one_per, recall
            As `VectorSearcher` says.

        Raises
        ------
        EmptyQueryError
            If it names no gene.
        MissingGenesError
            If the encoder does not know a gene. One that no slide of the store measured can be asked for: a note says
            so.
        QueryError
            If it cannot be read or contradicts itself, or hits are to be ordered by what nobody measured.
        """
        if rank_by not in ("score", "measured"):
            msg = f"rank_by is {rank_by!r}; expected 'score' or 'measured'."
            raise ValueError(msg)
        asked = resolve_signature(signature, self._askable, self.encoder)
        ask = Ask.of(against, k=k, filters=filters, one_per=one_per, recall=recall)
        stored = set(self.store.genes)
        unmeasured = [gene for gene in asked.shown.genes if gene not in stored]
        if unmeasured and rank_by == "measured":
            msg = (
                f"{', '.join(unmeasured)} was measured on no slide of the store, so hits cannot be ordered by what "
                f"was measured. Leave out rank_by='measured'."
            )
            raise QueryError(msg)
        measured = [gene for gene in asked.shown.genes if gene in stored]
        reported = (*measured, *self.resolve_genes(genes))
        vector = self.encoder.encode_signature(asked.weights)
        query = Asked(
            asked.shown.text,
            reported,
            weights=() if unmeasured else asked.shown.items,
            notes=_measured_nowhere(unmeasured),
            by_measured=rank_by == "measured",
            kind=QueryKind("signature", partial(random_signatures, self.encoder)),
        )
        return self._engine.hits(vector[None], ask, [query])[0]

    def search_image(  # noqa: PLR0913 - what every query takes, and where it lies
        self,
        patch: NDArray[np.uint8],
        *,
        mpp: float,
        against: Against = "gene",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
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
        against, k, filters, genes, one_per, recall
            As `VectorSearcher` says.
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
        ask = Ask.of(against, k=k, filters=filters, one_per=one_per, recall=recall)
        width, height = patch.shape[1] * mpp, patch.shape[0] * mpp
        query = Asked(
            f"picture of {width:.4g} x {height:.4g} um at {mpp:g} um per pixel",
            self.resolve_genes(genes),
            notes=cut.notes(self.encoder),
            kind=ROW_KINDS["image"],
        )
        vector = self.encoder.encode_images(cut.patch, cut.region)
        return self._engine.hits(vector, ask, [query])[0]

    def search_profile(
        self,
        counts: Mapping[str, float],
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> Hits:
        """Find spots for a measured expression profile.

        Parameters
        ----------
        counts : mapping of gene to raw count
            Symbols or Ensembl ids; genes that the encoder does not know are counted in the notes.
        against, k, filters, genes, one_per, recall
            As `VectorSearcher` says.

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
        ask = Ask.of(against, k=k, filters=filters, one_per=one_per, recall=recall)
        query = Asked(
            f"profile of {len(counts)} genes",
            self.resolve_genes(genes),
            notes=(note,) if note else (),
            kind=ROW_KINDS["gene"],
        )
        return self._engine.hits(vector[None], ask, [query])[0]


def _measured_nowhere(genes: Sequence[str]) -> tuple[str, ...]:
    if not genes:
        return ()
    was = "was" if len(genes) == 1 else "were"
    return (
        f"{', '.join(genes)} {was} measured on no slide of this store: hits rest on what the encoder learned elsewhere.",
    )
