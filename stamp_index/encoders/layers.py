"""The transformer block that both small towers are made of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Pre-norm transformer block with masked self-attention.

    Parameters
    ----------
    width : int
        Length of a token.
    heads : int
        Attention heads; divides `width`.
    dropout : float
        On both residual branches.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        last = nn.Linear(2 * width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), last)
        self.dropout = nn.Dropout(dropout)
        # A block starts as the identity: what it adds has to be learned against a good start.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(last.weight)

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Map tokens (b, t, width); `keep` (b, t) is True where a token may be attended to."""
        b, t, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, t, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (b, heads, t, width / heads)
        mask = None if keep is None else keep[:, None, None, :]  # (b, 1, 1, t)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.dropout(self.out(attended.transpose(1, 2).reshape(b, t, width)))
        moved: torch.Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return moved
