"""The named losses. Embeddings are unit vectors; the logit scale is shared and learnable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from trainer.recipe import LossTerm


def clip_one_way(
    left: torch.Tensor, right: torch.Tensor, scale: torch.Tensor, same: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of each left item finding its own right item in the batch.

    Parameters
    ----------
    left, right : Tensor of shape (b, d)
        Unit vectors; row i of both is one pair.
    scale : Tensor, scalar
        Factor on the cosines.
    same : Tensor of shape (b, b), bool
        True where pair j is no valid negative of pair i (the same or an overlapping spot); the diagonal is
        False.

    Returns
    -------
    Tensor, scalar
        Mean over the batch.
    """
    logits = (scale * left @ right.T).masked_fill(same, float("-inf"))  # (b, b)
    return functional.cross_entropy(logits, torch.arange(len(left), device=left.device))


def clip(
    left: torch.Tensor, right: torch.Tensor, scale: torch.Tensor, same: torch.Tensor
) -> torch.Tensor:
    """Symmetric form of `clip_one_way` (CLIP; STAMP's patch-gene and region-gene losses)."""
    forward = clip_one_way(left, right, scale, same)
    return (forward + clip_one_way(right, left, scale, same.T)) / 2


def locate(
    reference: torch.Tensor, cells: torch.Tensor, scale: torch.Tensor, label: torch.Tensor
) -> torch.Tensor:
    """Nine-way localisation of a patch in its region (STAMP's cross-scale loss).

    Parameters
    ----------
    reference : Tensor of shape (b, d)
        The patch seen within its region.
    cells : Tensor of shape (b, 9, d)
        The region's cells, in reading order.
    scale : Tensor, scalar
        Factor on the cosines.
    label : Tensor of shape (b,), int64
        Cell that the patch covers.
    """
    logits = scale * torch.einsum("bd,bkd->bk", reference, cells)  # (b, 9)
    return functional.cross_entropy(logits, label)


def loss_of(
    term: LossTerm, embeddings: dict[str, torch.Tensor], scale: torch.Tensor
) -> torch.Tensor:
    """Unweighted value of one recipe term on a batch's embeddings."""
    if term.kind == "locate":
        return locate(embeddings["reference"], embeddings["cells"], scale, embeddings["label"])
    function = clip if term.kind == "clip" else clip_one_way
    return function(embeddings[term.left], embeddings[term.right], scale, embeddings["same"])
