"""The trained model as an `Encoder`: numpy in, unit vectors out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.encoders.gene_input import GeneBatch, GeneInput
    from stamp_index.encoders.model import StampModel
    from stamp_index.genes import GenePanel
    from stamp_index.slides import PatchSpec, Slide

_BATCH: Final = 128


class StampEncoder:
    """Encoder of a trained `StampModel`.

    Parameters
    ----------
    model : StampModel
        Trained weights.
    gene_input : GeneInput
        Panel and the statistics that go with it.
    name, fingerprint : str
        See `Encoder`.
    """

    def __init__(
        self, model: StampModel, gene_input: GeneInput, *, name: str, fingerprint: str
    ) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.to(self.device).eval()
        self.gene_input = gene_input
        self.name = name
        self.fingerprint = fingerprint
        self.dim: int = model.config.dim
        self.panel: GenePanel = gene_input.panel
        self.patch: PatchSpec = model.config.patch
        self.region: PatchSpec = model.config.region
        self.prepared_id: str = model.image.prepared_id

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float16] | NDArray[np.uint8]:
        """Map images (n, s, s, 3) to what `encode_prepared` takes; fixed, so it can be cached."""
        return self.model.image.prepare(images)

    def encode_images(
        self, patches: NDArray[np.uint8], regions: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Embed patches (n, s, s, 3), with their centred regions where there are any: (n, d), unit."""
        prepared_regions = None if regions is None else self.prepare(regions)
        return self.encode_prepared(self.prepare(patches), prepared_regions)

    def encode_prepared(
        self,
        patches: NDArray[np.float16] | NDArray[np.uint8],
        regions: NDArray[np.float16] | NDArray[np.uint8] | None = None,
    ) -> NDArray[np.float32]:
        """Embed prepared images: (n, d), unit length.

        Notes
        -----
        With a region the embedding is the direction of patch + region embedding. Both are trained
        against the same gene embedding, and on HER2ST the wider view is worth more than any other change.
        """
        parts = []
        for start in range(0, len(patches), _BATCH):
            patch = self._tensor(patches[start : start + _BATCH])
            with torch.inference_mode():
                vectors = self.model.embed_patch(patch)  # (b, d)
                if regions is not None:
                    region = self._tensor(regions[start : start + _BATCH])
                    vectors = vectors + self.model.embed_region(region, patch)
                parts.append(functional.normalize(vectors, dim=-1).cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), dtype=np.float32)

    def encode_counts(self, counts: csr_matrix, genes: Sequence[str]) -> NDArray[np.float32]:
        """Embed profiles (n, k) from anywhere, against the training mean: (n, d), unit length."""
        return self._encode_genes(self.gene_input.batch(counts, genes, own_slide=False))

    def encode_spots(self, slide: Slide) -> NDArray[np.float32]:
        """Embed a slide's own spots, against the slide's mean: (n, d), unit length."""
        return self._encode_genes(self.gene_input.batch(slide.counts, slide.genes, own_slide=True))

    def encode_signature(self, weights: Mapping[str, float]) -> NDArray[np.float32]:
        """Embed a signature: (d,), unit length.

        Notes
        -----
        The direction from the opposite signature to this one. The difference cancels what all short panels
        share, which on its own would send every query to the same spots. On HER2ST C5, top-20 hits of 60
        single HVGs were told from other spots by measured expression with a mean AUC of .60 without and .62
        with it (benchmarks/RESULTS.md has what planted queries find).
        """
        opposite = {gene: -weight for gene, weight in weights.items()}
        towards, away = (
            self._encode_genes(self.gene_input.signature(side))[0] for side in (weights, opposite)
        )
        difference = towards - away
        vector: NDArray[np.float32] = difference / np.linalg.norm(difference)
        return vector

    def _encode_genes(self, batch: GeneBatch) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(batch.tokens), _BATCH):
            stop = start + _BATCH
            with torch.inference_mode():
                vectors = self.model.embed_genes(
                    self._tensor(batch.tokens[start:stop]), self._tensor(batch.profile[start:stop])
                )
                parts.append(vectors.cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), dtype=np.float32)

    def _tensor(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)
