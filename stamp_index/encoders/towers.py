"""Every kind of tower by the name that a recipe gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stamp_index.encoders.backbone_tower import BackboneTower
from stamp_index.encoders.gene_tower import GeneTower
from stamp_index.encoders.image_tower import HybridTower
from stamp_index.encoders.niche_tower import NicheTransformer
from stamp_index.encoders.profile_tower import ProfileTower
from stamp_index.encoders.rank_transformer import RankTransformer
from stamp_index.encoders.small_resnet import SmallResNet
from stamp_index.encoders.vae_tower import VaeTower
from stamp_index.encoders.vit_tower import VitTower

if TYPE_CHECKING:
    from torch import nn

IMAGE_TOWERS: Final[dict[str, Any]] = {
    "hybrid": HybridTower,
    "vit": VitTower,
    "backbone": BackboneTower,
    "resnet_cifar": SmallResNet,
}
GENE_TOWERS: Final[dict[str, Any]] = {
    "rank_profile": GeneTower,
    "rank": RankTransformer,
    "profile": ProfileTower,
    "vae": VaeTower,
    "niche_transformer": NicheTransformer,
}


def make_image_tower(settings: dict[str, Any], sizes_px: tuple[int, int]) -> nn.Module:
    """Build an image tower for patches and regions of `sizes_px`; settings are ``kind`` and its keywords."""
    own = {key: value for key, value in settings.items() if key != "kind"}
    tower: nn.Module = IMAGE_TOWERS[settings["kind"]](*sizes_px, **own)
    return tower


def make_gene_tower(settings: dict[str, Any], n_genes: int, n_scales: int) -> nn.Module:
    """Build a gene tower on a panel of `n_genes`; settings are ``kind`` and its keywords.

    Raises
    ------
    ValueError
        If the tower looks at one scale only and the recipe has more.
    """
    own = {key: value for key, value in settings.items() if key != "kind"}
    kind = GENE_TOWERS[settings["kind"]]
    if kind in _MANY_SCALES:
        own["n_scales"] = n_scales
    elif n_scales > 1:
        several = ", ".join(name for name, tower in GENE_TOWERS.items() if tower in _MANY_SCALES)
        msg = f"The gene tower {settings['kind']} reads one scale and the recipe has {n_scales}; {several} reads more."
        raise ValueError(msg)
    tower: nn.Module = kind(n_genes, **own)
    return tower


_MANY_SCALES: Final = (GeneTower, ProfileTower)
