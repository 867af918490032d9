"""The published gene encoder: a post-norm transformer over rank tokens, averaged over the ranks."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from stamp_index.encoders.gene_tower import check_tokens
from stamp_index.encoders.layers import check_sizes, check_whole
from stamp_index.genes import PAD, TOKEN_OFFSET

POOLS: Final = ("mean", "compat")
SPARE_ROWS: Final = 5  # the published table has five more rows than token ids
_COMPAT_SKIPPED: Final = 3  # ranks that the published pooling leaves out


class RankTransformer(nn.Module):
    """Encoder over rank tokens with a learnable position for each rank.

    Layout and numbers are those of STAMP and UMPIRE (Hanminghao/STAMP @78c4fd2,
    ``_visiumformer_saptial.py``): post-norm, ReLU, layer-norm eps 1e-12, bidirectional, only padding
    masked, no CLS token.

    Parameters
    ----------
    n_genes : int
        Length of the panel.
    context : int
        Most rank tokens of a spot.
    width, depth, heads, ffn : int
        Of the transformer; `heads` divides `width`. The defaults are the published size.
    dropout : float
        Inside the layers.
    pool : {"mean", "compat"}
        How `forward` pools the ranks. "mean" averages the ranks that hold a gene. "compat" averages
        every rank but the first three, padding included, as the released code does; only for its
        checkpoints, since it drops the three most over-expressed genes.

    Raises
    ------
    ValueError
        If `pool` is another word, or a size or share is impossible: `heads` divides `width`.
    """

    def __init__(  # noqa: PLR0913 - a tower is built from the keys of a recipe
        self,
        n_genes: int,
        *,
        context: int = 1500,
        width: int = 512,
        depth: int = 12,
        heads: int = 16,
        ffn: int = 1024,
        dropout: float = 0.0,
        pool: str = "mean",
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            msg = f"pool is {pool!r}; it must be one of {', '.join(POOLS)}."
            raise ValueError(msg)
        check_sizes({"context": context, "ffn": ffn, "dropout": dropout})
        check_sizes({"width": width, "heads": heads})
        check_whole("depth of a rank tower", depth)  # torch has no encoder without a layer
        self.width = width
        self.pool = pool
        self.embed = nn.Embedding(n_genes + TOKEN_OFFSET + SPARE_ROWS, width, padding_idx=PAD)
        self.rank = nn.Parameter(torch.randn(context, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, ffn, dropout, "relu", layer_norm_eps=1e-12, batch_first=True
        )
        # Nested tensors would shorten the output to the longest spot of the batch.
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        for module in self.encoder.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_normal_(module.in_proj_weight)  # else alike in all layers

    def positions(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode tokens (b, t), t at most `context`, as one feature for each rank (b, t, width).

        Raises
        ------
        ValueError
            If t is above `context`.
        """
        check_tokens(tokens, len(self.rank))
        x = self.embed(tokens.long()) + self.rank[: tokens.shape[1]]  # (b, t, width)
        ignored = tokens == PAD
        # A spot without a gene would attend to nothing, which is 0/0; let it see its first padding.
        first = torch.arange(tokens.shape[1], device=tokens.device) == 0
        ignored = ignored & ~(ignored.all(dim=1, keepdim=True) & first)
        features: torch.Tensor = self.encoder(x, src_key_padding_mask=ignored)
        return features

    def forward(self, tokens: torch.Tensor, profile: torch.Tensor) -> torch.Tensor:
        """Encode tokens (b, t) as features (b, width); `profile` is not used.

        A spot without a gene gives zeros under "mean".
        """
        x = self.positions(tokens)
        if self.pool == "compat":
            return x[:, _COMPAT_SKIPPED:].mean(dim=1)
        keep = (tokens != PAD)[..., None]  # (b, t, 1)
        total = torch.where(keep, x, 0).sum(dim=1)  # (b, width)
        return total / keep.sum(dim=1).clamp(min=1).to(x.dtype)
