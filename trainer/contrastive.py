"""Contrastive losses as pure functions on the raw outputs of the heads.

Each scales its inputs to unit length itself, apart from `clip_soft`, and computes in float32 at least:
under autocast a matrix of bfloat16 logits of up to 100 would be off by 0.4. Nothing is larger than the
logits (b, b), 64 MB for 4,096 spots.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def clip_one_way(
    left: torch.Tensor,
    right: torch.Tensor,
    scale: torch.Tensor | float,
    same: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy of each left item finding its own right item in the batch (STAMP's patch -> region).

    Parameters
    ----------
    left, right : Tensor of shape (b, d)
        Of any length; row i of both is one pair.
    scale : Tensor, scalar, or float
        Factor on the cosines, the inverse of the temperature.
    same : Tensor of shape (b, b), bool, optional
        True where right j is no valid negative of left i: the same or an overlapping spot. The diagonal
        must be False.

    Returns
    -------
    Tensor, scalar
        Mean over the batch, nats.
    """
    with _precise(left):
        return functional.cross_entropy(_logits(left, right, scale, same), _diagonal(left))


def clip(
    left: torch.Tensor,
    right: torch.Tensor,
    scale: torch.Tensor | float,
    same: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean of `clip_one_way` in both directions (CLIP, arXiv 2103.00020; STAMP, UMPIRE, SEAL)."""
    with _precise(left):
        logits, own = _logits(left, right, scale, same), _diagonal(left)
        # Left finds right along the rows; right finds left along the columns of the same matrix.
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def clip_soft(
    left: torch.Tensor,
    right: torch.Tensor,
    scale: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """BLEEP's loss: the targets are how alike the spots are on both sides.

    Parameters
    ----------
    left, right : Tensor of shape (b, d)
        Images and genes. Dot products are taken as they are: BLEEP's projections end in a LayerNorm and
        are not scaled to unit length.
    scale : Tensor, scalar, or float
        Inverse of the temperature, on logits and targets; 1 as published.

    Returns
    -------
    Tensor, scalar
        Mean over the batch, nats.

    Notes
    -----
    bowang-lab/BLEEP @2395967, ``models.py``: with similarities ``S = scale (L L' + R R') / 2``, targets
    ``T = softmax(S)`` along rows and logits ``scale R L'``, the loss is half of the rows' cross-entropy
    with T and half of the columns' with the columns of T, which sum to one on average, not each.

    Kept as published: the gradient goes through the targets. It is what keeps the spots of a side apart,
    since constant targets are met as well by mapping all spots to one point. Other classes of the same
    file multiply the targets by the temperature where this one divides; at 1 they agree, and dividing
    keeps targets and logits in one unit.

    There is no mask of false negatives: a spot that is the same, or nearly, gets its share of the target.
    """
    with _precise(left):
        left, right = _wide(left), _wide(right)
        alike = scale * (left @ left.T + right @ right.T) / 2  # (b, b)
        targets = alike.softmax(dim=1)
        logits = scale * right @ left.T  # (b, b): rows are genes, columns images
        rows = -(targets * logits.log_softmax(dim=1)).sum()
        columns = -(targets * logits.log_softmax(dim=0)).sum()
        return (rows + columns) / (2 * len(left))


def clip_paired(
    left: torch.Tensor,
    right: torch.Tensor,
    right_negatives: torch.Tensor,
    scale: torch.Tensor | float,
    *,
    left_negatives: torch.Tensor | None = None,
    same: torch.Tensor | None = None,
) -> torch.Tensor:
    """InfoNCE of each left item among its own right item and negatives chosen for it (ST-Align).

    Parameters
    ----------
    left, right : Tensor of shape (b, d)
        Of any length; row i of both is one pair.
    right_negatives : Tensor of shape (b, k, d)
        Negatives of each left item.
    scale : Tensor, scalar, or float
        Factor on the cosines; ST-Align's code has 10 (a temperature of 0.1).
    left_negatives : Tensor of shape (b, k, d), optional
        Negatives of each right item; with them the result is the mean of both directions.
    same : Tensor of shape (b, k), bool, optional
        True where negative j is no valid one for item i, on either side.

    Returns
    -------
    Tensor, scalar
        Mean over the batch, nats.

    Notes
    -----
    arXiv 2411.16793, equations 10 (two directions) and 11 (one). As printed, the denominators leave the
    positive out and the loss has no lower bound; here it is in, as in the released code.
    """
    with _precise(left):
        forward = _among_negatives(left, right, right_negatives, scale, same=same)
        if left_negatives is None:
            return forward
        return (forward + _among_negatives(right, left, left_negatives, scale, same=same)) / 2


def locate(
    reference: torch.Tensor,
    cells: torch.Tensor,
    scale: torch.Tensor | float,
    label: torch.Tensor,
) -> torch.Tensor:
    """Nine-way localisation of a patch in its region (STAMP's cross-scale loss).

    Parameters
    ----------
    reference : Tensor of shape (b, d)
        The patch seen within its region, of any length.
    cells : Tensor of shape (b, 9, d)
        The region's cells, in reading order.
    scale : Tensor, scalar, or float
        Factor on the cosines.
    label : Tensor of shape (b,), int64
        Cell that the patch covers; -1 where the spot has none and does not count.

    Returns
    -------
    Tensor, scalar
        Mean over the spots that count, nats; 0 if none does.
    """
    with _precise(reference):
        reference, cells = _unit(reference), _unit(cells)
        logits = scale * torch.einsum("bd,bkd->bk", reference, cells)  # (b, 9)
        total = functional.cross_entropy(logits, label, ignore_index=-1, reduction="sum")
        return total / (label >= 0).sum().clamp(min=1)


def _logits(
    left: torch.Tensor,
    right: torch.Tensor,
    scale: torch.Tensor | float,
    same: torch.Tensor | None,
) -> torch.Tensor:
    logits = scale * _unit(left) @ _unit(right).T  # (b, b)
    return logits if same is None else logits.masked_fill(same, float("-inf"))


def _among_negatives(
    left: torch.Tensor,
    right: torch.Tensor,
    negatives: torch.Tensor,
    scale: torch.Tensor | float,
    *,
    same: torch.Tensor | None,
) -> torch.Tensor:
    left = _unit(left)
    own = (left * _unit(right)).sum(-1, keepdim=True)  # (b, 1)
    others = torch.einsum("bd,bkd->bk", left, _unit(negatives))  # (b, k)
    if same is not None:
        others = others.masked_fill(same, float("-inf"))
    logits = scale * torch.cat([own, others], dim=1)  # (b, 1 + k)
    return -logits.log_softmax(dim=1)[:, 0].mean()


def _diagonal(left: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(left), device=left.device)


def _unit(x: torch.Tensor) -> torch.Tensor:
    return functional.normalize(_wide(x), dim=-1)


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Take x to float32, unless it is float64 already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _precise(x: torch.Tensor) -> torch.autocast:
    """Switch autocast off, which would take matrix products back to half precision."""
    return torch.autocast(x.device.type, enabled=False)
