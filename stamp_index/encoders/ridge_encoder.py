"""Closed-form encoder: image features regressed onto the principal axes of expression.

It fits in seconds on the user's own slides and is the floor that every trained encoder must beat.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from stamp_index.encoders.gene_input import GeneInput
from stamp_index.encoders.trunk import load_trunk
from stamp_index.encoders.vectors import signature_direction
from stamp_index.slides import PatchSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.genes import GenePanel
    from stamp_index.slides import Slide


class RidgeEncoder:
    """PCA of expression and ridge regression of mean trunk features onto it.

    Parameters
    ----------
    gene_input : GeneInput
        Panel and profile statistics.
    arrays : dict of ndarray
        ``axes`` (g, d); ``patch_weights`` (c, d) of the patch alone and, where regions are seen, ``weights`` (2c, d)
        of patch and region together; ``feature_mean``, ``feature_std`` (c,) or (2c,).
    patch, region : PatchSpec
        As in `Encoder`.
    name, fingerprint : str
        As in `Encoder`.
    """

    kind: ClassVar = "ridge"

    def __init__(
        self,
        gene_input: GeneInput,
        arrays: Mapping[str, NDArray[np.float32]],
        specs: tuple[PatchSpec, PatchSpec],
        *,
        name: str = "ridge",
        fingerprint: str = "",
    ) -> None:
        self.gene_input = gene_input
        self.arrays = dict(arrays)
        self.patch, self.region = specs
        self.name = name
        self.fingerprint = fingerprint
        self.dim = int(self.arrays["axes"].shape[1])
        self.panel: GenePanel = gene_input.panel

    @property
    def sees_regions(self) -> bool:
        """False where the embedding of an image rests on the patch alone."""
        return "weights" in self.arrays

    def settings(self) -> dict[str, Any]:
        """Plain values that `from_parts` builds the same encoder from."""
        specs = {"patch": self.patch, "region": self.region}
        widths = {name: asdict(spec) for name, spec in specs.items()}
        return {**widths, "gene_input": self.gene_input.settings()}

    def arrays_to_save(self) -> dict[str, NDArray[np.float32]]:
        """Everything that was fitted, by name."""
        return {**self.arrays, **self.gene_input.arrays()}

    @classmethod
    def from_parts(
        cls,
        settings: Mapping[str, Any],
        panel: GenePanel,
        arrays: Mapping[str, NDArray[np.float32]],
        names: tuple[str, str],
    ) -> Self:
        """Inverse of `settings` and `arrays_to_save`; `names` are the encoder's name and fingerprint."""
        gene_input = GeneInput.from_parts(settings["gene_input"], panel, arrays)
        specs = (PatchSpec(**settings["patch"]), PatchSpec(**settings["region"]))
        own = {name: array for name, array in arrays.items() if not name.startswith("profile_")}
        return cls(gene_input, own, specs, name=names[0], fingerprint=names[1])

    @classmethod
    def fit(
        cls,
        gene_input: GeneInput,
        profiles: NDArray[np.float32],
        features: tuple[NDArray[np.float32], NDArray[np.float32] | None],
        specs: tuple[PatchSpec, PatchSpec],
        *,
        dim: int = 32,
    ) -> Self:
        """Fit on training spots.

        Parameters
        ----------
        gene_input : GeneInput
            Made the profiles.
        profiles : ndarray of shape (n, g), float32
            Profiles of the training spots.
        features : pair of ndarray of shape (n, c), float32
            Mean trunk token of each spot's patch and region; None in the place of regions that are not to be seen.
        specs : pair of PatchSpec
            Patch and region.
        dim : int
            Principal axes kept, at most min(n, g).

        Returns
        -------
        RidgeEncoder
            Without a fingerprint, which saving gives it.
        """
        _, size, axes = np.linalg.svd(profiles, full_matrices=False)
        # An axis of k-th variance is scaled so that its scores have the fourth root of it: the first axes
        # keep the lead, but do not drown the rest in a cosine.
        axes = axes[:dim].T / np.sqrt(size[:dim])  # (g, d)
        scores = profiles @ axes  # (n, d)
        patch, region = features
        seen = patch if region is None else np.concatenate([patch, region], axis=1)  # (n, c or 2c)
        mean, std = seen.mean(axis=0), seen.std(axis=0) + 1e-3
        x = (seen - mean) / std
        arrays = {"axes": axes, "feature_mean": mean, "feature_std": std}
        arrays["patch_weights"] = _ridge(x[:, : patch.shape[1]], scores)
        if region is not None:
            arrays["weights"] = _ridge(x, scores)
        return cls(gene_input, {k: v.astype(np.float32) for k, v in arrays.items()}, specs)

    def prepared_id(self, side: str) -> str:
        """Name of the trunk that patches and regions go through."""
        return load_trunk().prepared_id

    def prepare(self, images: NDArray[np.uint8], side: str) -> NDArray[np.float16]:
        """Trunk tokens (n, h, w, c) of RGB images (n, s, s, 3)."""
        return load_trunk().tokens(images)

    def encode_images(
        self, patches: NDArray[np.uint8], regions: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Embed patches (n, s, s, 3), with their regions where there are any: (n, d), unit length."""
        around = None
        if regions is not None and self.sees_regions:
            around = self.prepare(regions, "region")
        return self.encode_prepared(self.prepare(patches, "patch"), around)

    def encode_prepared(
        self, patches: NDArray[np.float16], regions: NDArray[np.float16] | None = None
    ) -> NDArray[np.float32]:
        """Embed trunk tokens (n, h, w, c): (n, d), unit length."""
        x = mean_token(patches)  # (n, c)
        weights = self.arrays["patch_weights"]
        if regions is not None and self.sees_regions:
            x = np.concatenate([x, mean_token(regions)], axis=1)  # (n, 2c)
            weights = self.arrays["weights"]
        c = x.shape[1]
        x = (x - self.arrays["feature_mean"][:c]) / self.arrays["feature_std"][:c]
        return _unit(x @ weights)

    def encode_counts(self, counts: csr_matrix, genes: Sequence[str]) -> NDArray[np.float32]:
        """Embed profiles (n, k) from anywhere, against the training mean: (n, d), unit length."""
        batch = self.gene_input.batch(counts, genes)
        return _unit(batch.profile @ self.arrays["axes"])

    def encode_spots(self, slide: Slide) -> NDArray[np.float32]:
        """Embed a slide's own spots, against the slide's mean: (n, d), unit length."""
        batch = self.gene_input.slide_batch(slide)
        return _unit(batch.profile @ self.arrays["axes"])

    def encode_signature(self, weights: Mapping[str, float]) -> NDArray[np.float32]:
        """Embed a signature: (d,), unit length.

        Raises
        ------
        EncoderError
            If there is no gene, or none that any axis looks at.
        """
        profile = self.gene_input.signature(weights).profile[0]
        return signature_direction(profile @ self.arrays["axes"], weights, self.name)


def _ridge(x: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (c, d) from standardised features (n, c) to scores (n, d), the penalty by leaving one out."""
    from sklearn.linear_model import RidgeCV

    found: NDArray[np.float32] = (
        RidgeCV(np.logspace(1, 5, 9), fit_intercept=False).fit(x, scores).coef_.T
    )
    return found


def mean_token(prepared: NDArray[np.generic]) -> NDArray[np.float32]:
    """Mean over the grid: (n, h, w, c) to (n, c)."""
    mean: NDArray[np.float32] = prepared.astype(np.float32).mean(axis=(1, 2))
    return mean


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length 1; a zero row becomes the first axis, so that no embedding is undefined."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    unit[length[:, 0] == 0, 0] = 1.0
    scaled: NDArray[np.float32] = unit.astype(np.float32)
    return scaled
