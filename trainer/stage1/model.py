"""A gene tower with the two heads that stage 1 trains it by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from stamp_index.encoders.gene_tower import GeneTower
from stamp_index.encoders.rank_transformer import RankTransformer
from stamp_index.encoders.settings import check_settings
from stamp_index.genes import TOKEN_OFFSET
from trainer.recipe import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Gene towers that encode every rank (`positions`); the others have nothing to hide a gene in.
TOWERS: Final = {"rank_profile": GeneTower, "rank": RankTransformer}


class Stage1Model(nn.Module):
    """Tower and heads.

    Parameters
    ----------
    tower : Module
        With `width` and ``positions(tokens) -> (b, t, width)``.
    n_genes : int
        Length of the panel.

    Attributes
    ----------
    gene_head, niche_head : Linear
        From a rank's feature to a logit for every token id; as published, apart from each other, with a bias.
    """

    def __init__(self, tower: nn.Module, n_genes: int) -> None:
        super().__init__()
        self.tower = tower
        self.gene_head = nn.Linear(tower.width, n_genes + TOKEN_OFFSET)
        self.niche_head = nn.Linear(tower.width, n_genes + TOKEN_OFFSET)
        for head in (self.gene_head, self.niche_head):
            nn.init.xavier_normal_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode tokens (b, t) as features (b, t, width)."""
        features: torch.Tensor = self.tower.positions(tokens)
        return features


def build_tower(settings: Mapping[str, Any], n_genes: int) -> nn.Module:
    """Build the tower that ``[gene_tower]`` describes.

    Raises
    ------
    RecipeError
        If the kind is not one that stage 1 can train, or a setting is unknown or impossible.
    """
    own = {key: value for key, value in settings.items() if key != "kind"}
    kind = settings.get("kind")
    if kind not in TOWERS:
        msg = f"gene_tower.kind is {kind!r}; stage 1 trains {', '.join(map(repr, TOWERS))}."
        raise RecipeError(msg)
    try:
        what = f"The {kind} tower of [gene_tower]"
        check_settings(what, own, TOWERS[kind], filled=("n_genes", "n_scales"))
        return TOWERS[kind](n_genes, **own)
    except (TypeError, ValueError, RuntimeError) as exc:
        msg = f"The gene tower {kind!r} cannot be built from {own}: {exc}"
        raise RecipeError(msg) from exc
