"""Gene tower for the expression around a spot: ST-Align's transformer over tokens made of one profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from stamp_index.encoders.layers import Block

if TYPE_CHECKING:
    from collections.abc import Sequence


class NicheTransformer(nn.Module):
    """Profile, MLP into a few tokens, pre-norm transformer, mean token.

    ST-Align's AE-Gene (arXiv 2411.16793; dumbgoos/ST-Align @738da0b, ``stalign.py``): six layers, eight
    heads, dropout 0.1, MLP 1,024. There 4,384 genes become 8 tokens of 548 that a last MLP maps to 8 x 512;
    here a token is as wide as the tower from the start, so that its heads divide it, and the mean token is
    handed on, since the fusion makes tokens of its own.

    Parameters
    ----------
    n_genes : int
        Length of the panel.
    width, n_tokens, depth, heads : int
        Of the transformer; `heads` divides `width`.
    hidden : sequence of int
        Hidden widths of the MLP that makes the tokens.
    dropout : float
        Inside the blocks.
    context : int
        Number of rank tokens that the tower is handed, and does not read.

    Raises
    ------
    ValueError
        If `heads` does not divide `width`.
    """

    def __init__(  # noqa: PLR0913 - the keys of a recipe's [model.niche_tower]
        self,
        n_genes: int,
        *,
        width: int = 512,
        n_tokens: int = 8,
        depth: int = 6,
        heads: int = 8,
        hidden: Sequence[int] = (1024, 512),
        dropout: float = 0.1,
        context: int = 64,
    ) -> None:
        super().__init__()
        if width % heads:
            msg = (
                f"The niche tower is {width} wide with {heads} heads; heads must divide the width."
            )
            raise ValueError(msg)
        self.width = width
        self.n_tokens = n_tokens
        self.context = context
        layers: list[nn.Module] = []
        last = n_genes
        for size in hidden:
            layers += [nn.Linear(last, size), nn.ReLU()]
            last = size
        self.tokens = nn.Sequential(*layers, nn.Linear(last, n_tokens * width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, profile: torch.Tensor) -> torch.Tensor:
        """Encode profiles (b, g) as features (b, width); rank tokens (b, context) are not read."""
        x = self.tokens(profile).reshape(len(profile), self.n_tokens, self.width)  # (b, t, width)
        for block in self.blocks:
            x = block(x)
        feature: torch.Tensor = self.norm(x).mean(1)
        return feature
