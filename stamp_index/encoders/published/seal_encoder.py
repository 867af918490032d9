"""Published SEAL weights as an `Encoder`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
import torch
from torch import nn

from stamp_index.encoders.backbone_tower import PIXELS
from stamp_index.encoders.backbones import load_backbone
from stamp_index.encoders.neighbours import Neighbourhood
from stamp_index.encoders.published.seal_model import build_vae, linear
from stamp_index.encoders.published.state import below, fit
from stamp_index.encoders.vectors import in_batches, signature_direction
from stamp_index.errors import EncoderError, MissingGenesError
from stamp_index.genes import GenePanel, log1p_cp10k
from stamp_index.slides import PatchSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stamp_index.encoders.backbone_networks import Backbone
    from stamp_index.encoders.published.assets import GeneList
    from stamp_index.encoders.published.state import State
    from stamp_index.encoders.vae_tower import VaeTower
    from stamp_index.slides import Slide

_PATCH: Final = PatchSpec(112.0, 224)  # 0.5 um per pixel (recipes 4.1)
_REGION: Final = PatchSpec(336.0, 224)
_BATCH: Final = 64
# The released code averages within sqrt(2) array steps with the spot among them, and then gives the spot a
# half again: on Visium four neighbours share 0.4 (recipes 4.7). Here they are the six around it, in microns.
_AROUND: Final = Neighbourhood(6, 150.0, 0.6)
_CONTROLS: Final = re.compile("BLANK|CONTROL|AMBIGUOUS", re.IGNORECASE)
_LEAST_SHARE: Final = 0.1  # of the model's genes that counts must hold
_SIGNATURE_Z: Final = 4.0  # as in GeneInput


class SealVision(nn.Module):
    """SEAL's image side: a backbone with LoRA merged in, and the projection where there is one.

    Parameters
    ----------
    name : str
        Of the backbone in the registry.
    backbone : Backbone
    projection : Module, optional
    """

    def __init__(self, name: str, backbone: Backbone, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.name = name
        self.backbone = backbone
        self.projection = projection or nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed RGB images (b, s, s, 3) in [0, 255]: (b, d)."""
        features = self.backbone(self.backbone.normal(images))
        embedded: torch.Tensor = self.projection(features)
        return embedded


class PublishedSealEncoder:
    """Encoder of published SEAL weights (arXiv 2602.14177; mahmoodlab/SEAL @2137d8d).

    Genes: the VAE's mean through the flows, without the noise that the released code adds at inference
    too. Images: the backbone with LoRA, in its own pooling (recipes 4.8).

    Parameters
    ----------
    vae : VaeTower
    genes : GeneList
        Of the VAE's columns.
    vision : SealVision, optional
        Without it images are refused.
    projection : Module, optional
        On the gene side, where there is one.
    name, fingerprint : str
        See `Encoder`.

    Raises
    ------
    EncoderError
        If the two sides have embeddings of different lengths.
    """

    kind: ClassVar = "published_seal"

    def __init__(
        self,
        vae: VaeTower,
        genes: GeneList,
        *,
        vision: SealVision | None = None,
        projection: nn.Module | None = None,
        name: str = "seal",
        fingerprint: str = "",
    ) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.vae = vae.to(self.device).eval()
        self.projection = (projection or nn.Identity()).to(self.device).eval()
        self.vision = None if vision is None else vision.to(self.device).eval()
        self.genes = genes
        self.name = name
        self.fingerprint = fingerprint
        self.dim: int = vae.width
        if vision is not None and vision.backbone.width != self.dim:
            msg = (
                f"The gene model's embeddings have length {self.dim}, those of backbone {vision.name} "
                f"{vision.backbone.width}: they are of different SEAL models. Give the files of one backbone."
            )
            raise EncoderError(msg)
        # The means of a rank tokeniser, which SEAL has not.
        self.panel = GenePanel(genes.genes, (1.0,) * len(genes.genes))
        self.patch, self.region = _PATCH, _REGION
        self._column_of = {gene.upper(): at for at, gene in enumerate(genes.genes)}

    def settings(self) -> dict[str, Any]:
        """Plain values that `from_parts` builds the same encoder from."""
        return {"backbone": None if self.vision is None else self.vision.name}

    def arrays_to_save(self) -> dict[str, NDArray[np.float32]]:
        """All weights and gene statistics by name."""
        parts = {"gene": self.vae, "projection": self.projection}
        if self.vision is not None:
            parts |= {
                "image": self.vision.backbone.network,
                "image_projection": self.vision.projection,
            }
        arrays = {
            f"{part}.{name}": value.cpu().numpy()
            for part, module in parts.items()
            for name, value in module.state_dict().items()
        }
        return {**arrays, "gene_mean": self.genes.mean, "gene_std": self.genes.std}

    @classmethod
    def from_parts(
        cls,
        settings: Mapping[str, Any],
        panel: GenePanel,
        arrays: Mapping[str, NDArray[np.float32]],
        names: tuple[str, str],
    ) -> Self:
        """Inverse of `settings` and `arrays_to_save`; `names` are the encoder's name and fingerprint."""
        from stamp_index.encoders.published.assets import GeneList

        state = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        vision = None
        if settings["backbone"] is not None:
            backbone = load_backbone(settings["backbone"])
            fit(backbone.network, below(state, "image."), f"backbone {settings['backbone']}")
            vision = SealVision(
                settings["backbone"], backbone, _projection(below(state, "image_projection."))
            )
        return cls(
            build_vae(below(state, "gene.")),
            GeneList(panel.genes, arrays["gene_mean"], arrays["gene_std"]),
            vision=vision,
            projection=_projection(below(state, "projection.")),
            name=names[0],
            fingerprint=names[1],
        )

    sees_regions: ClassVar = False

    @property
    def sees_images(self) -> bool:
        """False for a gene model without its vision side."""
        return self.vision is not None

    def prepared_id(self, side: str) -> str:
        """Name of what `prepare` gives."""
        return PIXELS

    def prepare(self, images: NDArray[np.uint8], side: str) -> NDArray[np.uint8]:
        """Pixels themselves: the backbone runs whole."""
        return images

    def encode_images(
        self,
        patches: NDArray[np.uint8],
        regions: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.float32]:
        """Embed RGB patches (n, s, s, 3): (n, d), unit length. Regions are not looked at.

        Raises
        ------
        EncoderError
            If the encoder was imported without its image side.
        """
        if self.vision is None:
            msg = (
                f"Encoder {self.name} was imported from SEAL's gene model alone and cannot see images. Import it "
                "again with --vision, --backbone and --backbone-name."
            )
            raise EncoderError(msg)
        return in_batches(patches, self.vision, dim=self.dim, size=_BATCH, device=self.device)

    def encode_prepared(
        self, patches: NDArray[np.uint8], regions: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Embed what `prepare` gave: (n, d), unit length."""
        return self.encode_images(patches, regions)

    def encode_counts(self, counts: csr_matrix, genes: Sequence[str]) -> NDArray[np.float32]:
        """Embed raw counts (n, k) with columns `genes`: (n, d), unit length. Nothing is smoothed."""
        return self._encode(self.inputs(counts, genes))

    def encode_spots(self, slide: Slide) -> NDArray[np.float32]:
        """Embed a slide's own spots, smoothed over their neighbours as in training: (n, d), unit length.

        Raises
        ------
        MissingPixelSizeError
            If the slide has no microns per pixel to find neighbours by.
        MissingGenesError
            If less than a tenth of the model's genes was measured.
        """
        n_found = len(self._column_of.keys() & {gene.upper() for gene in slide.genes})
        if n_found < _LEAST_SHARE * len(self.panel):
            raise MissingGenesError(self._too_few(n_found, slide.genes))
        smooth = _AROUND.weights(slide.xy_um) @ slide.counts.astype(np.float32)
        return self._encode(self.inputs(smooth, slide.genes))

    def encode_signature(self, weights: Mapping[str, float]) -> NDArray[np.float32]:
        """Embed a signature: (d,), unit length.

        Notes
        -----
        The direction from a spot with the low genes raised to one with the high genes raised, each by four
        standard deviations above the mean, others at their mean (0 and 1 where the statistics are unknown).

        Raises
        ------
        MissingGenesError
            If a gene is not among the model's.
        EncoderError
            If there is no gene, or the signature is embedded as its opposite is.
        """
        unknown = [gene for gene in weights if gene not in self.panel.column_of]
        if unknown:
            msg = f"{', '.join(unknown[:5])} cannot be asked for: not among SEAL's {len(self.panel)} genes."
            raise MissingGenesError(msg)
        x = np.tile(self.genes.mean, (2, 1))
        for gene, weight in weights.items():
            column = self.panel.column_of[gene]
            change = _SIGNATURE_Z * weight * self.genes.std[column]
            x[:, column] = np.maximum(self.genes.mean[column] + [change, -change], 0.0)
        towards, away = self._encode(x)
        return signature_direction(towards - away, weights, self.name)

    def inputs(self, counts: csr_matrix, genes: Sequence[str]) -> NDArray[np.float32]:
        """Make the VAE's inputs (n, g): log1p of counts per 10,000 over all genes measured, in its columns.

        Symbols are compared in upper case and the first of two that are then alike counts, controls are left
        out, and genes that were not measured stand at their mean (0 where it is unknown).

        Raises
        ------
        MissingGenesError
            If none of the model's genes was measured.
        """
        first = {gene.upper(): at for at, gene in reversed(list(enumerate(genes)))}
        kept = sorted(at for gene, at in first.items() if not _CONTROLS.search(gene))
        target = np.array([self._column_of.get(genes[at].upper(), -1) for at in kept], np.int64)
        found = target >= 0
        if not found.any():
            raise MissingGenesError(self._too_few(0, genes))
        expression = log1p_cp10k(counts.tocsc()[:, kept].tocsr())  # (n, k)
        x = np.tile(self.genes.mean, (counts.shape[0], 1))
        x[:, target[found]] = expression[:, np.flatnonzero(found)].toarray()
        return x

    def _too_few(self, n_found: int, genes: Sequence[str]) -> str:
        return (
            f"Only {n_found} of the model's {len(self.panel)} {self.panel.species} genes are among the "
            f"{len(genes)} genes measured ({', '.join(list(genes)[:5])}, ...); of a slide at least "
            f"{_LEAST_SHARE:.0%} are needed. Check the species."
        )

    def _encode(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return in_batches(x, self._embed_genes, dim=self.dim, size=_BATCH, device=self.device)

    def _embed_genes(self, x: torch.Tensor) -> torch.Tensor:
        z, _ = self.vae.flow(self.vae.posterior(x)[0])
        embedded: torch.Tensor = self.projection(z)
        return embedded


def _projection(state: State) -> nn.Module | None:
    return linear(state) if state else None
