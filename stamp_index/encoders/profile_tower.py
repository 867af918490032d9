"""Gene tower on the dense profile alone: nothing, or a small network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from stamp_index.encoders.layers import check_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class ProfileTower(nn.Module):
    """The spot's profile itself, or an MLP on it.

    With neither `hidden` nor `width` the profile goes to the head as it is: BLEEP's gene side
    (bowang-lab/BLEEP @2395967, ``models.py``) is its vector of highly variable genes and a projection.

    Parameters
    ----------
    n_genes : int
        Length of the panel.
    width : int, optional
        Length of a feature; by default that of the last hidden layer, or of the profile.
    hidden : sequence of int
        Widths of hidden layers, each Linear, LayerNorm, GELU, dropout.
    dropout : float
        After each hidden layer.
    context : int
        Number of rank tokens that the tower is handed, and does not read.
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
        width: int | None = None,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        context: int = 64,
        n_scales: int = 1,
    ) -> None:
        super().__init__()
        check_sizes({"width": width, "hidden": hidden, "dropout": dropout, "context": context})
        self.context = context
        layers: list[nn.Module] = []
        last = n_genes * n_scales
        for size in hidden:
            layers += [
                nn.Linear(last, size),
                nn.LayerNorm(size),
                nn.GELU(),
                nn.Dropout(dropout),
            ]
            last = size
        if width is not None:
            layers.append(nn.Linear(last, width))
            last = width
        self.width = last
        self.network = nn.Sequential(*layers)

    def forward(self, tokens: torch.Tensor, profile: torch.Tensor) -> torch.Tensor:
        """Encode profiles (b, g) as features (b, width); tokens (b, context) are not read."""
        feature: torch.Tensor = self.network(profile)
        return feature
