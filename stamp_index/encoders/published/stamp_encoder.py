"""Published STAMP weights as an `Encoder`: numpy in, unit vectors out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
import torch

from stamp_index.encoders.backbone_tower import PIXELS
from stamp_index.encoders.published.stamp_model import PublishedStamp, StampOptions
from stamp_index.encoders.published.vit import normalise_images
from stamp_index.encoders.published.vocabulary import Vocabulary, masked_tokens
from stamp_index.encoders.vectors import in_batches, signature_direction
from stamp_index.errors import EncoderError
from stamp_index.slides import PatchSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.genes import GenePanel
    from stamp_index.slides import Slide

_PATCH_UM: Final = 112.0  # 224 px at 20x (recipes 1.2)
_BATCH: Final = 8  # attention over 1,500 ranks takes 0.14 GB a spot where it is not fused


class PublishedStampEncoder:
    """Encoder of a published STAMP checkpoint.

    Embeddings are those of the released encoding script (Hanminghao/STAMP @78c4fd2,
    ``tokenize_and_encode.py``): patch head of CLS in patch mode, and spot head of the pooled gene features.
    Regions serve training alone there and are not looked at.

    Parameters
    ----------
    model : PublishedStamp
        Weights.
    vocabulary : Vocabulary
        Genes, means and symbols that go with the weights; another mean file gives other tokens.
    options : StampOptions
        As `model` was built with.
    name, fingerprint : str
        See `Encoder`.

    Raises
    ------
    EncoderError
        If weights and vocabulary are of different models.
    """

    kind: ClassVar = "published_stamp"

    def __init__(
        self,
        model: PublishedStamp,
        vocabulary: Vocabulary,
        options: StampOptions,
        *,
        name: str = "stamp",
        fingerprint: str = "",
    ) -> None:
        if model.n_genes != len(vocabulary.panel):
            msg = (
                f"The weights embed {model.n_genes} genes, but the vocabulary has {len(vocabulary.panel)}: they "
                "are of different models. Give the assets that were published with the weights."
            )
            raise EncoderError(msg)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.to(self.device).eval()
        self.vocabulary = vocabulary
        self.options = options
        self.name = name
        self.fingerprint = fingerprint
        self.dim: int = model.dim
        self.panel: GenePanel = vocabulary.panel
        self.patch = PatchSpec(_PATCH_UM, model.vision.image_px)
        self.region = PatchSpec(3 * _PATCH_UM, model.vision.image_px)

    def settings(self) -> dict[str, Any]:
        """Plain values that `from_parts` builds the same encoder from."""
        return {"options": self.options.to_dict(), "vocabulary": self.vocabulary.settings()}

    def arrays_to_save(self) -> dict[str, NDArray[np.float32]]:
        """All weights by name."""
        return {name: value.cpu().numpy() for name, value in self.model.state_dict().items()}

    @classmethod
    def from_parts(
        cls,
        settings: Mapping[str, Any],
        panel: GenePanel,
        arrays: Mapping[str, NDArray[np.float32]],
        names: tuple[str, str],
    ) -> Self:
        """Inverse of `settings` and `arrays_to_save`; `names` are the encoder's name and fingerprint."""
        options = StampOptions(**settings["options"])
        state = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        model = PublishedStamp.from_own(state, options)
        vocabulary = Vocabulary.from_settings(panel, settings["vocabulary"])
        return cls(model, vocabulary, options, name=names[0], fingerprint=names[1])

    sees_regions: ClassVar = False

    def prepared_id(self, side: str) -> str:
        """Name of what `prepare` gives."""
        return PIXELS

    def prepare(self, images: NDArray[np.uint8], side: str) -> NDArray[np.uint8]:
        """Pixels themselves: the ViT runs whole."""
        return images

    def encode_images(
        self,
        patches: NDArray[np.uint8],
        regions: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.float32]:
        """Embed RGB patches (n, s, s, 3): (n, d), unit length. Regions are not looked at."""
        return in_batches(
            patches, self._embed_images, dim=self.dim, size=_BATCH, device=self.device
        )

    def encode_prepared(
        self, patches: NDArray[np.uint8], regions: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Embed what `prepare` gave: (n, d), unit length."""
        return self.encode_images(patches, regions)

    def encode_counts(self, counts: csr_matrix, genes: Sequence[str]) -> NDArray[np.float32]:
        """Embed raw counts (n, k) with columns `genes`, symbols or Ensembl ids: (n, d), unit length."""
        tokens = self.vocabulary.tokens(
            counts, genes, self.model.context, compat=self.options.compat
        )
        return self._encode_tokens(tokens)

    def encode_spots(self, slide: Slide) -> NDArray[np.float32]:
        """Embed a slide's own spots: (n, d), unit length. Ranks need no slide mean."""
        return self.encode_counts(slide.counts, slide.genes)

    def encode_signature(self, weights: Mapping[str, float]) -> NDArray[np.float32]:
        """Embed a signature: (d,), unit length.

        Notes
        -----
        The direction from the low genes, as a spot that shows nothing else, to the high genes. Where one
        side is empty, as many masked genes stand in for it, so that what all short lists share cancels.

        Raises
        ------
        MissingGenesError
            If a gene is not in the vocabulary.
        EncoderError
            If there is no gene, or the high and the low ones are embedded alike.
        """
        strongest = sorted(weights, key=lambda gene: -abs(weights[gene]))
        high = [gene for gene in strongest if weights[gene] > 0]
        low = [gene for gene in strongest if weights[gene] < 0]
        context = self.model.context
        tokens = [
            self.vocabulary.named_tokens(side, context)
            if side
            else masked_tokens(len(other), context)
            for side, other in ((high, low), (low, high))
        ]
        towards, away = self._encode_tokens(np.concatenate(tokens))
        return signature_direction(towards - away, weights, self.name)

    def _encode_tokens(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        return in_batches(
            tokens, self.model.embed_spots, dim=self.dim, size=_BATCH, device=self.device
        )

    def _embed_images(self, images: torch.Tensor) -> torch.Tensor:
        normal = normalise_images(images, self.patch.size_px, bgr=self.options.bgr)
        return self.model.embed_patches(normal)
