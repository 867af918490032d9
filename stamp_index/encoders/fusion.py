"""ST-Align's attention between the image tokens and the gene tokens of one spot or one niche.

Paper: arXiv 2411.16793, section 3.3. Code: dumbgoos/ST-Align @738da0b, ``stalign.py``. Where the two
differ:

| | paper | code | here |
|---|---|---|---|
| tokens | R^d -> R^(s x l) | Conv1d(1 -> s, k = 1): s affine copies of one vector | Linear(d -> s l) |
| heads | one | 8 of 64, then a Linear | 8 of 64; the Linear is one with W_I, W_G |
| before attention | nothing | LayerNorm on both sides | LayerNorm, `norm` = False leaves it out |
| W_I, W_G | l -> l / 2, linear | MLP 512 -> 64 -> 256 | linear |
| after | nothing | LayerNorm | nothing: a head follows, and losses use directions |

Neither has a residual, and neither has this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence


class Tokeniser(nn.Module):
    """A feature as a few tokens, each its own linear map of it.

    The released code makes them with a Conv1d of kernel 1, which gives copies of one vector: a rank of two
    at most, over which attention has nothing to choose.

    Parameters
    ----------
    width : int
        Length d of a feature.
    n_tokens : int
        Number s of tokens.
    token_width : int
        Length l of a token.
    """

    def __init__(self, width: int, n_tokens: int = 8, token_width: int = 512) -> None:
        super().__init__()
        self.shape = (n_tokens, token_width)
        self.linear = nn.Linear(width, n_tokens * token_width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (b, d) to tokens (b, s, l)."""
        tokens: torch.Tensor = self.linear(features).unflatten(-1, self.shape)
        return tokens


class CrossAttention(nn.Module):
    """Tokens of one kind ask those of the other: ``softmax(Q K' / sqrt(dim_head)) V`` per head.

    Parameters
    ----------
    token_width : int
        Length l of a token.
    out : int
        Length of what comes back for each asking token.
    heads, dim_head : int
        Number of heads and length of each.
    dropout : float
        On the attention weights and on the output.
    norm : bool
        LayerNorm on both kinds of tokens first.
    """

    def __init__(
        self,
        token_width: int,
        out: int,
        *,
        heads: int,
        dim_head: int,
        dropout: float,
        norm: bool,
    ) -> None:
        super().__init__()
        inner = heads * dim_head
        self.heads = heads
        self.dropout = dropout
        self.norm_query = nn.LayerNorm(token_width) if norm else nn.Identity()
        self.norm_other = nn.LayerNorm(token_width) if norm else nn.Identity()
        self.query = nn.Linear(token_width, inner, bias=False)
        self.key = nn.Linear(token_width, inner, bias=False)
        self.value = nn.Linear(token_width, inner, bias=False)
        self.out = nn.Linear(inner, out, bias=False)  # W_I or W_G of the paper

    def forward(self, asking: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        """Answer tokens (b, s, l) from tokens (b, t, l): (b, s, out)."""
        asking, asked = self.norm_query(asking), self.norm_other(asked)
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (b, heads, s or t, dim_head)
            for x in (self.query(asking), self.key(asked), self.value(asked))
        )
        attended = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        answer = self.out(attended.transpose(1, 2).flatten(2))  # (b, s, out)
        return functional.dropout(answer, self.dropout, self.training)


class AttentionFusion(nn.Module):
    """Image tokens and gene tokens as one set of fused tokens (ABFN, paper section 3.3).

    ``F = [Z_I W_I ; Z_G W_G]`` along features, Z_I the image tokens' answers from the gene tokens, Z_G the
    other way round with weights of its own.

    Parameters
    ----------
    token_width : int
        Length l of a token; even, as each direction gives one half.
    n_tokens : int
        Number s of tokens on either side.
    heads, dim_head : int
        Of each direction.
    dropout : float
        On attention weights and outputs.
    norm : bool
        LayerNorm on tokens first (code); False is the paper's equation to the letter.

    Raises
    ------
    ValueError
        If `token_width` is odd; in `forward`, if tokens have another shape.
    """

    def __init__(
        self,
        token_width: int,
        n_tokens: int = 8,
        *,
        heads: int = 8,
        dim_head: int = 64,
        dropout: float = 0.1,
        norm: bool = True,
    ) -> None:
        super().__init__()
        if token_width % 2:
            msg = f"token_width of the fusion is {token_width}; it must be even: each side gives one half."
            raise ValueError(msg)
        self.shape = (n_tokens, token_width)
        self.image, self.gene = (
            CrossAttention(
                token_width,
                token_width // 2,
                heads=heads,
                dim_head=dim_head,
                dropout=dropout,
                norm=norm,
            )
            for _ in range(2)
        )

    def forward(self, image: torch.Tensor, gene: torch.Tensor) -> torch.Tensor:
        """Fuse image and gene tokens, each (b, s, l), into (b, s, l)."""
        for name, tokens in (("image", image), ("gene", gene)):
            if tokens.shape[1:] != self.shape:
                msg = f"The {name} tokens are {_times(tokens.shape[1:])}; the fusion takes {_times(self.shape)}."
                raise ValueError(msg)
        return torch.cat([self.image(image, gene), self.gene(gene, image)], dim=-1)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
