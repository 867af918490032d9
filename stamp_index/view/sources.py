"""One slide as a viewer needs it, wherever it comes from: picture, places, values, ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stamp_index.errors import QueryError
from stamp_index.view.cards import spot_card
from stamp_index.view.layers import Layer, gene_layer, label_layer
from stamp_index.view.pictures import geometry, is_whole, slide_picture
from stamp_index.view.predicted import predicted_layer
from stamp_index.view.spots import SpotPlaces, spot_places

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from stamp_index.search.vector_searcher import VectorSearcher
    from stamp_index.slides import SlideImage
    from stamp_index.slides.deep_zoom import DeepZoom
    from stamp_index.store.view import StoreView


class SlideSource(ABC):
    """One slide that can be shown. Places and picture are read once.

    Attributes
    ----------
    slide_id : str
    mpp : float or None
        Microns per level-0 pixel.
    zoom : DeepZoom or None
        Its picture as tiles; None where it has none.
    """

    slide_id: str
    mpp: float | None
    zoom: DeepZoom | None

    @property
    @abstractmethod
    def places(self) -> SpotPlaces:
        """Where its spots lie."""

    @property
    @abstractmethod
    def picture(self) -> SlideImage:
        """Its picture.

        Raises
        ------
        QueryError
            If it has none.
        """

    @abstractmethod
    def gene_layer(self, gene: str) -> Layer:
        """Expression of a gene at every spot.

        Raises
        ------
        StampIndexError
            If it is not known on this slide.
        """

    @abstractmethod
    def label_layer(self, label: str) -> Layer:
        """Label of every spot.

        Raises
        ------
        QueryError
            If there is no such label, or it has too many values.
        """

    @abstractmethod
    def spot_ids(self, at: NDArray[np.int64] | None = None) -> list[str]:
        """Ids of some spots, by their numbers on the slide; of all by default."""

    @abstractmethod
    def index_of(self, spot_id: str) -> int:
        """Find the number of a spot on the slide.

        Raises
        ------
        QueryError
            If the slide has no such spot.
        """

    @abstractmethod
    def card(self, index: int) -> dict[str, Any]:
        """Say of a spot what stands beside the pointer; see `spot_card`."""

    @abstractmethod
    def annotated(self, at: NDArray[np.int64]) -> AnnData:
        """Put some spots, by their numbers on the slide, into AnnData with counts."""

    @abstractmethod
    def close(self) -> None:
        """Free the picture."""


class StoredSource(SlideSource):
    """A slide of a store.

    Parameters
    ----------
    store : Store
    slide_id : str
    searcher : VectorSearcher, optional
        Of the same store, for predictions; made when it is first needed.

    Raises
    ------
    QueryError
        If there is no such slide.
    """

    def __init__(
        self, store: StoreView, slide_id: str, searcher: VectorSearcher | None = None
    ) -> None:
        from stamp_index.export.choosing import choose_slides

        self.store, self.slide_id, self._searcher = store, slide_id, searcher
        self._row: pd.Series[Any] = choose_slides(store, slide_id).iloc[0]
        self.zoom = geometry(self._row)
        mpp = float(self._row["mpp"])
        self.mpp = mpp if mpp > 0 else None  # NaN is not known

    @cached_property
    def places(self) -> SpotPlaces:
        """Where its spots lie."""
        return spot_places(self.store, self.slide_id)

    @cached_property
    def picture(self) -> SlideImage:
        """Its image, or the stored overview."""
        return slide_picture(self.store, self._row)

    @property
    def whole_picture(self) -> SlideImage | None:
        """The image with the slide's own pixels; None where only an overview is left."""
        return self.picture if self.zoom is not None and is_whole(self.picture) else None

    def gene_layer(self, gene: str) -> Layer:
        """Measured expression; predicted where other slides measured the gene and this one did not."""
        measured = self.store.genes_of(self.slide_id)
        if gene in measured:
            return gene_layer(self.store, self.slide_id, gene)
        name = self.searcher.resolve_genes([gene])[0]
        if name in measured:
            return gene_layer(self.store, self.slide_id, name)
        return predicted_layer(self.searcher, self.slide_id, name)

    def label_layer(self, label: str) -> Layer:
        """Label of every spot."""
        return label_layer(self.store, self.slide_id, label)

    @property
    def searcher(self) -> VectorSearcher:
        """What predicts."""
        if self._searcher is None:
            from stamp_index.search.indexes import open_indexes
            from stamp_index.search.vector_searcher import VectorSearcher
            from stamp_index.store import Store

            store = Store.open(
                self.store.place, version=self.store.version, encoder=self.store.encoder
            )
            self._searcher = VectorSearcher(store, open_indexes(store))
        return self._searcher

    def spot_ids(self, at: NDArray[np.int64] | None = None) -> list[str]:
        """Ids of some spots; of all by default."""
        rows = self.places.rows if at is None else self.places.rows[at]
        return [str(one) for one in self.store.spots(["spot_id"], rows)["spot_id"]]

    def index_of(self, spot_id: str) -> int:
        """Find the number of a spot on the slide."""
        at = self.store.row_of(spot_id) - int(self._row["first_spot"])
        if not 0 <= at < len(self.places.rows):
            msg = f"Spot '{spot_id}' does not lie on slide {self.slide_id}. Show its slide first."
            raise QueryError(msg)
        return at

    def card(self, index: int) -> dict[str, Any]:
        """Say what is known of a spot."""
        return spot_card(self.store, self._row, index)

    def annotated(self, at: NDArray[np.int64]) -> AnnData:
        """Put some spots together as `to_anndata` does."""
        from stamp_index.export.annotated import to_anndata

        return to_anndata(self.store, self.slide_id)[at].copy()

    def close(self) -> None:
        """Free the picture."""
        held = self.__dict__.pop("picture", None)
        if held is not None:
            held.close()
