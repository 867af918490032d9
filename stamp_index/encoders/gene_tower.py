"""Gene tower: a transformer over rank tokens whose CLS starts from the spot's profile."""

from __future__ import annotations

import torch
from torch import nn

from stamp_index.encoders.layers import Block, check_sizes
from stamp_index.genes import PAD, TOKEN_OFFSET


class GeneTower(nn.Module):
    """Transformer over a spot's rank tokens and its profile.

    Rank tokens follow STAMP (arXiv 2602.13944; embedding table, learnable rank positions, padding masked).
    Ours is that CLS starts from a linear map of the signed profile, so that a gene that is low says something
    and a query can name it.

    Parameters
    ----------
    n_genes : int
        Length of the panel.
    context : int
        Number of rank tokens.
    width, depth, heads : int
        Of the transformer.
    dropout : float
        Inside the blocks.
    n_scales : int
        Scales of a profile, one block of `n_genes` each.

    Raises
    ------
    ValueError
        If a size or share is impossible.
    """

    def __init__(
        self,
        n_genes: int,
        *,
        context: int = 64,
        width: int = 128,
        depth: int = 1,
        heads: int = 4,
        dropout: float = 0.1,
        n_scales: int = 1,
    ) -> None:
        super().__init__()
        check_sizes({"context": context, "depth": depth, "dropout": dropout})
        check_sizes({"width": width, "heads": heads})
        self.width = width
        self.embed = nn.Embedding(n_genes + TOKEN_OFFSET, width, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.rank = nn.Parameter(torch.randn(context, width) * 0.02)
        self.profile = nn.Linear(n_genes * n_scales, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def positions(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode tokens (b, t), t at most `context`, as one feature for each rank (b, t, width).

        For stage 1, which predicts hidden genes: CLS starts from zeros, since the profile would name
        the hidden genes.

        Raises
        ------
        ValueError
            If t is above `context`.
        """
        check_tokens(tokens, len(self.rank))
        cls = torch.zeros_like(self.rank[:1]).expand(len(tokens), 1, -1)  # (b, 1, width)
        return self.norm(self._encode(cls, tokens)[:, 1:])  # type: ignore[no-any-return]

    def forward(self, tokens: torch.Tensor, profile: torch.Tensor) -> torch.Tensor:
        """Encode tokens (b, context) and profile (b, s * g) as features (b, width)."""
        check_tokens(tokens, len(self.rank))
        cls = self.profile(profile)[:, None]  # (b, 1, width)
        return self.norm(self._encode(cls, tokens)[:, 0])  # type: ignore[no-any-return]

    def _encode(self, cls: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Run the blocks over CLS (b, 1, width) and tokens (b, t); gives (b, 1 + t, width) before the norm."""
        x = self.embed(tokens.long()) + self.rank[: tokens.shape[1]]  # (b, t, width)
        keep = torch.cat([torch.ones_like(tokens[:, :1], dtype=torch.bool), tokens != PAD], dim=1)
        x = torch.cat([cls, x], dim=1)
        for block in self.blocks:
            x = block(x, keep)
        encoded: torch.Tensor = x
        return encoded


def check_tokens(tokens: torch.Tensor, context: int) -> None:
    """Refuse more rank tokens than a tower has ranks."""
    if tokens.ndim != 2 or tokens.shape[1] > context:
        msg = f"tokens have shape {tuple(tokens.shape)}; the tower takes (b, t) with t at most {context}."
        raise ValueError(msg)
