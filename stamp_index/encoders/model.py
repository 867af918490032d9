"""The two-tower model: towers, heads and one learnable scale."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stamp_index.encoders.gene_tower import GeneTower
from stamp_index.encoders.image_tower import HybridTower, ImageTower
from stamp_index.encoders.vit_tower import VitTower
from stamp_index.slides import PatchSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE_TOWERS: dict[str, type[HybridTower] | type[VitTower]] = {
    "hybrid": HybridTower,
    "vit": VitTower,
}
GENE_TOWERS: dict[str, type[GeneTower]] = {"rank_profile": GeneTower}
HEADS = ("patch", "region", "gene", "position")


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to build a model of the same shape.

    Attributes
    ----------
    patch, region : PatchSpec
        What the image tower sees; the region is three patches wide.
    dim : int
        Length of an embedding.
    image_tower, gene_tower : dict
        ``kind`` and the tower's own settings.
    region_sees_patch : bool
        True: the region's feature is read beside the inserted thumbnail of its patch, as in STAMP. False:
        the thumbnail serves localisation alone (``region_ref_leak = false`` in a recipe).
    """

    patch: PatchSpec
    region: PatchSpec
    dim: int = 128
    image_tower: dict[str, Any] = field(default_factory=lambda: {"kind": "hybrid"})
    gene_tower: dict[str, Any] = field(default_factory=lambda: {"kind": "rank_profile"})
    region_sees_patch: bool = True

    def __post_init__(self) -> None:
        if not np.isclose(self.region.width_um, 3 * self.patch.width_um):
            msg = (
                f"The region is {self.region.width_um:g} um wide and the patch {self.patch.width_um:g} um; "
                "the nine cells of a region are patches, so it must be three patches wide."
            )
            raise ValueError(msg)
        if self.dim < 1:
            msg = f"dim is {self.dim}; it must be at least 1."
            raise ValueError(msg)
        for kinds, tower, what in (
            (IMAGE_TOWERS, self.image_tower, "image tower"),
            (GENE_TOWERS, self.gene_tower, "gene tower"),
        ):
            if tower.get("kind") not in kinds:
                msg = f"Unknown {what} {tower.get('kind')!r}; expected one of {', '.join(kinds)}."
                raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(
            PatchSpec(**values["patch"]),
            PatchSpec(**values["region"]),
            int(values["dim"]),
            dict(values["image_tower"]),
            dict(values["gene_tower"]),
            bool(values["region_sees_patch"]),
        )


class StampModel(nn.Module):
    """Image tower, gene tower and linear heads into one space (arXiv 2602.13944, stage 2).

    Parameters
    ----------
    config : ModelConfig
        Shape of the model.
    n_genes : int
        Length of the gene panel.
    """

    def __init__(self, config: ModelConfig, n_genes: int) -> None:
        super().__init__()
        self.config = config
        image = {key: value for key, value in config.image_tower.items() if key != "kind"}
        gene = {key: value for key, value in config.gene_tower.items() if key != "kind"}
        self.image: ImageTower = IMAGE_TOWERS[config.image_tower["kind"]](
            config.patch.size_px, config.region.size_px, **image
        )
        self.gene = GENE_TOWERS[config.gene_tower["kind"]](n_genes, **gene)
        widths = {
            "patch": self.image.width,
            "region": self.image.width,
            "position": self.image.width,
        }
        widths["gene"] = self.gene.width
        self.heads = nn.ModuleDict({name: nn.Linear(widths[name], config.dim) for name in HEADS})
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))  # CLIP's start

    def project(self, head: str, features: torch.Tensor) -> torch.Tensor:
        """Map features (b, ..., width) through a head to unit vectors (b, ..., dim)."""
        return functional.normalize(self.heads[head](features), dim=-1)

    def embed_patch(self, patch: torch.Tensor) -> torch.Tensor:
        """Embed prepared patches in patch mode: (b, dim), unit length."""
        return self.project("patch", self.image(patch).cls)

    def embed_region(self, region: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
        """Embed prepared regions around prepared patches: (b, dim), unit length."""
        reference = patch if self.config.region_sees_patch else None
        return self.project("region", self.image(region, reference).cls)

    def embed_genes(self, tokens: torch.Tensor, profile: torch.Tensor) -> torch.Tensor:
        """Embed gene inputs: (b, dim), unit length."""
        return self.project("gene", self.gene(tokens, profile))
