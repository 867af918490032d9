"""A slide that was read from its files and is in no store, as a viewer needs it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stamp_index.errors import QueryError
from stamp_index.keys import Keys, Nums
from stamp_index.slides.deep_zoom import DeepZoom
from stamp_index.view.cards import card, check_index
from stamp_index.view.layers import UNIT, Layer, continuous, layer_of_label
from stamp_index.view.sources import SlideSource
from stamp_index.view.spots import SpotPlaces, places_on

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stamp_index.slides import Slide, SlideImage


class ReadSource(SlideSource):
    """A slide that `stamp_index.read` gave."""

    def __init__(self, slide: Slide) -> None:
        self.slide, self.slide_id, self.mpp = slide, slide.slide_id, slide.mpp
        self.zoom = DeepZoom(*slide.image.size_px) if slide.image is not None else None

    @cached_property
    def places(self) -> SpotPlaces:
        """Where its spots lie."""
        return places_on(self.slide)

    @property
    def picture(self) -> SlideImage:
        """Its image."""
        if self.slide.image is None:
            msg = f"Slide {self.slide_id} was read without an image, so it has no picture."
            raise QueryError(msg)
        return self.slide.image

    def gene_layer(self, gene: str) -> Layer:
        """Measured expression, log1p of counts per 10,000."""
        from stamp_index.genes import close_names

        if gene not in self.slide.genes:
            near = close_names(gene, self.slide.genes) if self.slide.has_counts else []
            hint = f"Close names: {', '.join(near)}." if near else "Choose another gene."
            msg = f"{gene} was not measured on slide {self.slide_id}. {hint}"
            raise QueryError(msg)
        counts = self.slide.counts[:, self.slide.genes.index(gene)].toarray()[:, 0]
        total = np.where(self._n_counts > 0, self._n_counts, 1.0)  # an empty spot stays 0
        scaled = np.log1p(counts * (Nums.COUNTS_PER_SPOT / total))
        return continuous(scaled.astype(np.float32), name=gene, unit=UNIT)

    def label_layer(self, label: str) -> Layer:
        """Label of every spot: a column of the slide's table of spots."""
        labels = [str(name) for name in self.slide.spots if name not in (Keys.X_PX, Keys.Y_PX)]
        if label not in labels:
            msg = f"Slide {self.slide_id} has no label '{label}'; its labels are {', '.join(labels) or 'none'}."
            raise QueryError(msg)
        return layer_of_label(self.slide.spots[label], name=label)

    def spot_ids(self, at: NDArray[np.int64] | None = None) -> list[str]:
        """Ids of some spots; of all by default."""
        barcodes = self.slide.spots.index if at is None else self.slide.spots.index[at]
        return [f"{self.slide_id}:{barcode}" for barcode in barcodes]

    def index_of(self, spot_id: str) -> int:
        """Find the number of a spot on the slide."""
        barcode = spot_id.removeprefix(f"{self.slide_id}:")
        found = self.slide.spots.index.get_indexer(pd.Index([barcode]))[0]
        if found < 0:
            msg = f"There is no spot '{spot_id}' on slide {self.slide_id}. Ids are '<slide_id>:<barcode>'."
            raise QueryError(msg)
        return int(found)

    def card(self, index: int) -> dict[str, Any]:
        """Say what is known of a spot."""
        check_index(self.slide_id, self.slide.n_spots, index)
        n_counts = float(self._n_counts[index]) if self.slide.has_counts else np.nan
        return card(self.spot_ids(np.array([index]))[0], self.slide_id, n_counts, [])

    def annotated(self, at: NDArray[np.int64]) -> AnnData:
        """Put some spots together with counts, labels and places."""
        from anndata import AnnData

        slide = self.slide
        counts = slide.counts.tocsr()[at]
        obs = slide.spots.iloc[at].drop(columns=[Keys.X_PX, Keys.Y_PX])
        obs = obs.set_axis(pd.Index(self.spot_ids(at), name=Keys.SPOT_ID))
        var = pd.DataFrame(index=pd.Index(slide.genes, dtype="str"))
        if slide.gene_ids:
            var["gene_ids"] = list(slide.gene_ids)
        factors = {"spot_diameter_fullres": slide.spot_diameter_um / slide.mpp} if slide.mpp else {}
        return AnnData(
            counts,
            obs,
            var,
            uns={"spatial": {slide.slide_id.replace("/", "_"): {"scalefactors": factors}}},
            obsm={"spatial": slide.xy_px[at]},
            layers={"counts": counts.copy()},
        )

    def close(self) -> None:
        """Free what the image holds; it opens again when it is read."""
        if self.slide.image is not None:
            self.slide.image.close()

    @cached_property
    def _n_counts(self) -> NDArray[np.float64]:
        return np.asarray(self.slide.counts.sum(axis=1), np.float64).ravel()
