"""What the rest of the library asks of an encoder, whatever it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.genes import GenePanel
    from stamp_index.slides import PatchSpec, Slide


@runtime_checkable
class Encoder(Protocol):
    """Maps patches and gene profiles into one space of unit vectors.

    Attributes
    ----------
    name : str
        Short name used in column names, ``[a-z0-9_]+``.
    fingerprint : str
        Hash of weights, gene panel, patch width and preprocessing. Two encoders with the same
        fingerprint give the same embeddings.
    dim : int
        Length d of an embedding.
    panel : GenePanel
        Genes that the encoder knows.
    patch, region : PatchSpec
        What the encoder sees around a spot: the patch and its wider surroundings.
    """

    name: str
    fingerprint: str
    dim: int
    panel: GenePanel
    patch: PatchSpec
    region: PatchSpec

    def encode_images(
        self, patches: NDArray[np.uint8], regions: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Embed patches of shape (n, h, w, 3), with their regions where there are any.

        Without regions the embedding rests on the patch alone. Returns (n, d), unit length.
        """
        ...

    def encode_counts(self, counts: csr_matrix, genes: Sequence[str]) -> NDArray[np.float32]:
        """Embed raw counts of shape (n, g) whose columns are `genes`. Returns (n, d), unit length."""
        ...

    def encode_spots(self, slide: Slide) -> NDArray[np.float32]:
        """Embed a slide's own spots, against the slide's mean expression. Returns (n, d), unit."""
        ...

    def encode_signature(self, weights: Mapping[str, float]) -> NDArray[np.float32]:
        """Embed a signature: positive weights for high genes, negative for low. Returns (d,), unit."""
        ...
