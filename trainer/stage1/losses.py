"""The two losses of stage 1: a spot's own hidden genes, and the centre's genes from its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from stamp_index.genes import PAD

if TYPE_CHECKING:
    from torch import nn

CGR_TARGETS: Final = ("all", "masked")
# Positions scored at once. With 20,000 genes a softmax over 4,096 positions takes 0.3 GiB in float32.
CHUNK: Final = 4096


class Score(NamedTuple):
    """A loss with what it was measured on.

    Attributes
    ----------
    loss : Tensor, scalar
        Mean cross-entropy in nats; 0 without a position.
    right : Tensor, scalar int64
        Positions whose most likely gene is the right one.
    n : int
        Positions.
    """

    loss: torch.Tensor
    right: torch.Tensor
    n: int


def gene_loss(
    features: torch.Tensor, targets: torch.Tensor, chosen: torch.Tensor, head: nn.Module
) -> Score:
    """Intrinsic gene reconstruction (IGR): predict the chosen ranks of every spot.

    Parameters
    ----------
    features : Tensor of shape (n, t, width)
        Encoder output at every rank.
    targets : Tensor of shape (n, t), int64
        Genes that stood there.
    chosen : Tensor of shape (n, t), bool
        Ranks to predict.
    head : Module
        Maps (m, width) to logits (m, ids).

    Returns
    -------
    Score

    Notes
    -----
    L_IGR of STAMP (arXiv 2602.13944). The head runs on chosen ranks only.
    """
    return _cross_entropy(features[chosen], targets[chosen], head)


def niche_loss(
    features: torch.Tensor,
    tokens: torch.Tensor,
    head: nn.Module,
    *,
    chosen: torch.Tensor | None = None,
    compat: bool = False,
) -> Score:
    """Contextual gene reconstruction (CGR): predict the centre's genes from the neighbours' mean output.

    Rank by rank, the outputs of a niche's eight neighbours are averaged and have to name the gene that the
    centre has at that rank.

    Parameters
    ----------
    features : Tensor of shape (k, 9, t, width)
        Encoder output of each niche; slot 0 is the centre, which is not looked at.
    tokens : Tensor of shape (k, 9, t), int64
        Genes before any was hidden, 0 where padded.
    head : Module
        Maps (m, width) to logits (m, ids).
    chosen : Tensor of shape (k, t), bool, optional
        Predict these ranks of the centres only; all ranks that hold a gene by default.
    compat : bool
        Average all eight neighbours, padding included, as the released code does.

    Returns
    -------
    Score

    Notes
    -----
    L_CGR of STAMP (arXiv 2602.13944; Hanminghao/STAMP @78c4fd2, ``_visiumformer_saptial.py``). A neighbour
    whose list has ended says nothing about the rank, so that here only the others are averaged, and a rank
    that no neighbour reaches is not predicted.
    """
    wanted = tokens[:, 0] != PAD  # (k, t)
    if chosen is not None:
        wanted = wanted & chosen
    live = torch.ones_like(tokens[:, 1:]) if compat else tokens[:, 1:] != PAD  # (k, 8, t)
    n_live = live.sum(dim=1)  # (k, t)
    wanted = wanted & (n_live > 0)
    weight = (live / n_live.clamp(min=1)[:, None]).to(features.dtype)  # (k, 8, t)
    around = (features[:, 1:] * weight[..., None]).sum(dim=1)  # (k, t, width)
    return _cross_entropy(around[wanted], tokens[:, 0][wanted], head)


def _cross_entropy(features: torch.Tensor, targets: torch.Tensor, head: nn.Module) -> Score:
    """Mean cross-entropy of (m, width) against (m,); logits of more than a chunk are made twice, not kept."""
    n = len(targets)
    if n == 0:
        return Score(features.sum() * 0.0, targets.new_zeros(()), 0)
    if n <= CHUNK:
        total, right = _sum(features, targets, head)
        return Score(total / n, right, n)
    total, right = features.new_zeros((), dtype=torch.float32), targets.new_zeros(())
    for part, wanted in zip(features.split(CHUNK), targets.split(CHUNK), strict=True):
        more, hits = checkpoint(_sum, part, wanted, head, use_reentrant=False)
        total, right = total + more, right + hits
    return Score(total / n, right, n)


def _sum(
    features: torch.Tensor, targets: torch.Tensor, head: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = head(features).float()  # softmax over thousands of genes needs more than bf16
    right = (logits.detach().argmax(dim=1) == targets).sum()
    return functional.cross_entropy(logits, targets, reduction="sum"), right
