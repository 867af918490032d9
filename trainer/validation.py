"""Retrieval on validation slides after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from stamp_index.encoders.features import CENTRE_CELL
from stamp_index.encoders.trained_encoder import TrainedEncoder
from stamp_index.evaluate.metrics import retrieval_ranks, retrieval_recall_at_k

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def __call__(self, model: AlignModel) -> dict[str, float]:
        """Return ``recall`` (mean over slides and directions), ``image_to_gene`` and ``gene_to_image``."""
        encoder = TrainedEncoder(model, self.gene_input, name="validation", fingerprint="")
        found: dict[str, list[float]] = {"image_to_gene": [], "gene_to_image": []}
        sees_region = model.config.retrieval != "patch"
        state = torch.get_rng_state()
        for slide in self.slides:
            patches = self.cache.patches(slide, encoder.patch)
            centre = np.full(slide.n_spots, CENTRE_CELL)
            regions = self.cache.regions(slide, encoder.region, centre) if sees_region else None
            images, genes = encoder.encode_prepared(patches, regions), encoder.encode_spots(slide)
            for name, pair in (
                ("image_to_gene", (images, genes)),
                ("gene_to_image", (genes, images)),
            ):
                found[name].append(retrieval_recall_at_k(retrieval_ranks(*pair), self.k))
        torch.set_rng_state(state)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        return {"recall": float(np.mean(list(means.values()))), **means}
