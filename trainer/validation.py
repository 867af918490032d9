"""Retrieval on validation slides, before training and after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from stamp_index.encoders.features import CENTRE_CELL
from stamp_index.encoders.trained_encoder import TrainedEncoder
from stamp_index.evaluate.metrics import retrieval_ranks, retrieval_recall_at_k

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stamp_index.encoders.features import FeatureCache
    from stamp_index.encoders.gene_input import GeneInput
    from stamp_index.encoders.model import AlignModel
    from stamp_index.slides import Slide


class Validator:
    """Measures recall@k within each validation slide, both ways.

    Parameters
    ----------
    slides : sequence of Slide
    gene_input : GeneInput
        Of the encoder under training.
    cache : FeatureCache
        Holds the slides' prepared images, so that an epoch's check costs the towers alone.
    k : int
        Cut-off.
    """

    def __init__(
        self, slides: Sequence[Slide], gene_input: GeneInput, cache: FeatureCache, k: int
    ) -> None:
        self.slides, self.gene_input, self.cache, self.k = slides, gene_input, cache, k

    def prepare(self, model: AlignModel, *, quiet: bool) -> None:
        """Fill the cache, so that nobody waits for it unseen when the start is measured."""
        sides = 1 + (model.config.retrieval != "patch")
        n_images = sides * sum(slide.n_spots for slide in self.slides)
        with tqdm(
            total=n_images, unit="image", desc="preparing validation images", disable=quiet
        ) as bar:
            self.cache.progress = bar.update
            for slide in self.slides:
                self._images(slide, model)

    def _images(
        self, slide: Slide, model: AlignModel
    ) -> tuple[NDArray[np.float16], NDArray[np.float16] | None]:
        """Give prepared patches of a slide and, where retrieval sees them, its centred regions."""
        patches = self.cache.patches(slide, model.config.patch)
        if model.config.retrieval == "patch":
            return patches, None
        centre = np.full(slide.n_spots, CENTRE_CELL)
        return patches, self.cache.regions(slide, model.config.region, centre)

    def __call__(self, model: AlignModel) -> dict[str, float]:
        """Measure a model in eval mode.

        Returns
        -------
        dict of str to float
            ``recall`` (mean over slides and directions), ``image_to_gene`` and ``gene_to_image``, and ``chance``, the
            recall of an order drawn by lot.
        """
        encoder = TrainedEncoder(model, self.gene_input, name="validation", fingerprint="")
        found: dict[str, list[float]] = {"image_to_gene": [], "gene_to_image": []}
        state = torch.get_rng_state()
        for slide in self.slides:
            prepared = self._images(slide, model)
            images, genes = encoder.encode_prepared(*prepared), encoder.encode_spots(slide)
            for name, pair in (
                ("image_to_gene", (images, genes)),
                ("gene_to_image", (genes, images)),
            ):
                found[name].append(retrieval_recall_at_k(retrieval_ranks(*pair), self.k))
        torch.set_rng_state(state)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        chance = float(np.mean([min(self.k / slide.n_spots, 1.0) for slide in self.slides]))
        return {"recall": float(np.mean(list(means.values()))), **means, "chance": chance}
