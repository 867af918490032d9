"""Asking a store with embeddings: what every other kind of query ends in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stamp_index.errors import QueryError
from stamp_index.search.asking import (
    DEFAULT_K,
    DEFAULT_RECALL,
    ROW_KINDS,
    Against,
    Ask,
    Asked,
    OnePer,
    check_modality,
    checked_vector,
    checked_vectors,
)
from stamp_index.search.engine import SearchEngine
from stamp_index.search.indexes import index_at, open_indexes
from stamp_index.search.nearest import table_of
from stamp_index.search.regions import RegionSettings
from stamp_index.search.regions.query import ask_region, with_pixel_size
from stamp_index.search.regions.search import DEFAULT_REGIONS, Task, find_regions
from stamp_index.search.selection import Own, check_k, own_slides
from stamp_index.shards.silence import listening
from stamp_index.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from stamp_index.genes import GeneResolver
    from stamp_index.index import Index
    from stamp_index.search.filtering import Condition
    from stamp_index.search.hits import Hits
    from stamp_index.search.regions import Region, RegionHits
    from stamp_index.store import Modality


class VectorSearcher:
    """Searches one version of a store with embeddings of its encoder. Threads may share it.

    Every query takes these keywords:

    - ``against``: ``"image"`` or ``"gene"``, the embeddings that the query is compared with; or weights
      for both, such as ``{"image": 0.5, "gene": 0.5}``: the score is then the weighted mean of the two
      cosines, of spots that have both embeddings.
    - ``k``: hits wanted, at most the spots of the store. Fewer come back only where fewer may be
      found, and `Hits.notes` says so.
    - ``filters``: which spots may be hits: text, such as ``'organ == "breast" and expr("CD8A") > 1'``, or a
      `Condition` that `parse_filter` or `all_of` made (see `stamp_index.search.filtering`).
    - ``genes``: genes whose measured expression the hits report (names as in signatures).
    - ``one_per``: ``"slide"`` or ``"patient"`` for one hit of each, the best (a slide without a patient
      is a patient of its own); or a radius in microns, within which there is one hit on a slide. Spots
      without a place in microns have no neighbours.
    - ``recall``: share of the true best hits that an index is to find on average: 0.95, 0.99 (the
      settings that its card names), or 1.0 for exact search, which reads every vector. Where an index was
      measured to find less than that, it is searched all the same, and `Hits.notes` names what was measured.

    Z of a hit is against the same query's scores over the whole store; its percentile is against the best hits in
    the whole store of random queries, none of which finds its own patient. Where a filter keeps the best spots out
    both are lower, and nothing is said about what stands out. A stored spot may find its own patient, which scores
    higher: leave it out (`exclude_own`) before reading its percentiles. `search_region` has keywords of its own.

    Every query raises `QueryError` if `k` is more than the spots of the store, or nothing passes
    the filters; `MissingGenesError` for unknown `genes`; `ValueError` for an `against`, `k`, `one_per`
    or `recall` that is no such thing.

    Attributes
    ----------
    store : Store
        The store that was given, for reading, at the version that it showed then: what is added, deleted or
        refreshed later changes no answer.
    indexes : dict
        Index of each modality that has one, at that version; the others are searched exactly, in memory.

    Raises
    ------
    AnnIndexError, EncoderMismatchError
        If an index is of another store, embedding or encoder.
    """

    def __init__(self, store: Store, indexes: Mapping[Modality, Index] | None = None) -> None:
        self.store = Store.open(store.place, version=store.version, encoder=store.encoder)
        self.indexes: dict[Modality, Index] = {
            modality: index_at(self.store, modality, index)
            for modality, index in (indexes or {}).items()
        }
        self._engine = SearchEngine(self.store, self.indexes)

    @classmethod
    def open(
        cls, store_path: Path | str, *, encoder: str | None = None, shards: str | None = None
    ) -> Self:
        """Open a store for searching by vectors, spots and regions, at its newest version; no encoder is loaded.

        Parameters
        ----------
        store_path : path
            Folder of the store.
        encoder : str, optional
            Name in the store of the encoder whose embeddings are searched; its first by default.
        shards : str, optional
            Where the shards of its indexes are served, such as ``"http://host:8000"``, ``"ray://host:10001"``, or
            ``"local"`` for this process; by default the indexes are opened here.

        Raises
        ------
        StoreError, StoreVersionError
            If the store cannot be opened, or has no encoder of that name.
        AnnIndexError
            If the store has an index that cannot be used.
        ShardError
            If the shards cannot be reached, or are of another store or encoder.
        """
        store = Store.open(store_path, encoder=encoder)
        return cls(store, open_indexes(store, shards))

    def search_vector(
        self,
        vector: ArrayLike,
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> Hits:
        """Find spots for an embedding of this store's encoder.

        Parameters
        ----------
        vector : array of shape (d,), float
            Scaled to unit length; not all zeros. What an image and a signature say together is the
            weighted sum of their embeddings.
        against, k, filters, genes, one_per, recall
            As the class says.

        Raises
        ------
        ValueError
            If it has another shape, holds NaN or infinite values, or is all zeros.
        """
        ask = Ask.of(against, k=k, filters=filters, one_per=one_per, recall=recall)
        asked = checked_vector(vector, self.store.card.dim)
        query = Asked(f"vector of {asked.shape[1]} numbers", self.resolve_genes(genes))
        return self._engine.hits(asked, ask, [query])[0]

    def search_vectors(
        self,
        vectors: ArrayLike,
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> list[Hits]:
        """Ask with many embeddings at once: what `search_vector` answers for each, sooner.

        Parameters
        ----------
        vectors : array of shape (q, d), float
            As in `search_vector`.
        against, k, filters, genes, one_per, recall
            As the class says.

        Raises
        ------
        ValueError
            As `search_vector`; the first vector that is wrong is named.
        """
        ask = Ask.of(against, k=k, filters=filters, one_per=one_per, recall=recall)
        asked = checked_vectors(vectors, self.store.card.dim)
        query = Asked(f"vector of {asked.shape[1]} numbers", self.resolve_genes(genes))
        return self._engine.hits(asked, ask, [query] * len(asked))

    def nearest(
        self,
        vectors: ArrayLike,
        *,
        against: Against = "image",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find rows for many embeddings, and nothing about them: for evaluation.

        Parameters
        ----------
        vectors : array of shape (q, d), float
            As in `search_vector`.
        against, k, filters, one_per, recall
            As the class says.

        Returns
        -------
        scores : ndarray of shape (q, k'), float32
            Cosine, descending. k' is k, or what may be found if that is less.
        rows : ndarray of shape (q, k'), int64
            Row ids of the store. Where a query has fewer hits than another, which needs `one_per`,
            its row ends in -1 with score NaN.

        Raises
        ------
        ValueError
            As `search_vectors`.
        """
        ask = Ask.of(against, k=k, filters=filters, one_per=one_per, recall=recall)
        asked = checked_vectors(vectors, self.store.card.dim)
        return table_of([pair for pair, _ in self._engine.find(asked, ask)])

    def search_spot(  # noqa: PLR0913 - what every query takes, and which embedding asks
        self,
        spot_id: str,
        *,
        query: Modality = "image",
        against: Against = "image",
        exclude_own: Own = "nothing",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
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
        against, k, filters, genes, one_per, recall
            As the class says.

        Raises
        ------
        QueryError
            If there is no such spot, it has no such embedding, or its patient is to be left out
            and not known.
        """
        return self.search_spots(
            [spot_id],
            query=query,
            against=against,
            exclude_own=exclude_own,
            k=k,
            filters=filters,
            genes=genes,
            one_per=one_per,
            recall=recall,
        )[0]

    def search_spots(  # noqa: PLR0913 - as search_spot
        self,
        spot_ids: Sequence[str],
        *,
        query: Modality = "image",
        against: Against = "image",
        exclude_own: Own = "nothing",
        k: int = DEFAULT_K,
        filters: Condition | str | None = None,
        genes: Sequence[str] = (),
        one_per: OnePer = None,
        recall: float = DEFAULT_RECALL,
    ) -> list[Hits]:
        """Ask for many stored spots at once: what `search_spot` answers for each, sooner.

        Parameters
        ----------
        spot_ids : sequence of str
            ``<slide_id>:<barcode>`` each.
        query, against, exclude_own, k, filters, genes, one_per, recall
            As `search_spot` says.
        """
        ids = [spot_ids] if isinstance(spot_ids, str) else list(spot_ids)
        for spot_id in ids:
            if not isinstance(spot_id, str):
                msg = f"A spot is {spot_id!r}; expected ids such as 'SLIDE:BARCODE'."
                raise TypeError(msg)
        ask = Ask.of(against, k=k, filters=filters, one_per=one_per, recall=recall)
        rows = np.array([self.store.row_of(spot_id) for spot_id in ids], np.int64)
        has_vector = self._engine.sources.has_vector(check_modality(query))
        for spot_id, row in zip(ids, rows.tolist(), strict=True):
            if not has_vector[row]:
                msg = f"Spot '{spot_id}' has no {query} embedding: its slide came without it."
                raise QueryError(msg)
        excluded = [own_slides(self.store, row, exclude_own) for row in rows.tolist()]
        reported = self.resolve_genes(genes)
        kind = ROW_KINDS[query]
        asked = [Asked(f"{query} of spot {spot_id}", reported, kind=kind) for spot_id in ids]
        vectors = checked_vectors(self.store.vectors(query, rows), self.store.card.dim)
        return self._engine.hits(vectors, ask, asked, own=rows, excluded=excluded)

    def search_region(  # noqa: PLR0913 - what every query takes, and which embedding asks
        self,
        region: Region | Sequence[str] | ArrayLike,
        *,
        query: Modality = "image",
        against: Modality = "image",
        exclude_own: Own = "slide",
        k: int = DEFAULT_REGIONS,
        filters: Condition | str | None = None,
        recall: float = DEFAULT_RECALL,
        settings: RegionSettings | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> RegionHits:
        """Find regions like one of a slide: connected groups of spots with as much of the same kinds.

        Parameters
        ----------
        region : Region, sequence of str, or array of int
            A shape on a slide, or ids or rows of spots of one slide; at least five spots.
        query : {"image", "gene"}
            Which of these spots' embeddings ask.
        against : {"image", "gene"}
            Embeddings that they are compared with.
        exclude_own : {"nothing", "slide", "patient"}
            What to leave out besides the region's own spots: its slide, or all slides of its patient.
        k : int
            Regions wanted. Fewer come back where fewer are found, and `RegionHits.notes` says so.
        filters
            As the class says; regions consist of spots that pass the filters.
        recall
            As the class says, for the rows that choose the slides to look at.
        settings : RegionSettings, optional
            How hard to look and how to judge.
        progress : callable, optional
            Called with the slides that were looked at closely so far, and with those that there are in all: once they
            are chosen, with 0, and after each. What it raises ends the search.

        Raises
        ------
        EmptyQueryError
            If there is no spot in the region, or it has no area.
        QueryError
            If the region's slide or a spot of it is unknown, its outline crosses itself, its spots lie on several slides
            or are fewer than five, or the slide has no pixel size or no such embedding; `k` is more than the spots
            of the store; or nothing may be found.
        ValueError
            If an argument is no such thing.
        """
        ask = Ask.of(check_modality(against), k=k, filters=filters, recall=recall)
        check_k(self.store, ask.k)
        asked = ask_region(self.store, region, check_modality(query))
        excluded = own_slides(self.store, int(asked.rows[0]), exclude_own)
        ask = replace(ask, condition=with_pixel_size(self.store, ask.condition))
        selection, allowed = asked.besides(self.store, self._engine.selection(ask, excluded))
        sources = self._engine.sources
        task = Task(
            store=self.store,
            asked=asked,
            against=against,
            nearest=lambda queries, n: sources.nearest(
                against, queries, n, among=selection.rows, recall=ask.recall
            ),
            allowed=allowed,
            settings=settings or RegionSettings(),
        )
        with listening() as silence:
            found = find_regions(task, ask.k, progress=progress)
        if not silence:
            return found
        return replace(found, notes=(*found.notes, *silence.notes), is_whole=False)

    # ---- helpers -----------------------------------------------------------------------------

    @property
    def _resolver(self) -> GeneResolver:
        return self._engine.resolver

    def resolve_genes(self, genes: Sequence[str]) -> tuple[str, ...]:
        """Find the store's symbols of genes.

        Raises
        ------
        MissingGenesError
            If no slide of the store measured one of them.
        """
        if isinstance(genes, str):
            msg = f"genes is the string {genes!r}; expected several names, as in ({genes!r},)."
            raise TypeError(msg)
        return tuple(self._resolver.resolve(genes).values())
