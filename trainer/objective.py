"""The weighted sum of a recipe's losses, on the joined outputs of all processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from trainer.contrastive import clip, clip_one_way, clip_paired, clip_soft, locate
from trainer.reconstruction import RECONSTRUCTIONS
from trainer.sampler import group_size

if TYPE_CHECKING:
    from trainer.recipe import LossTerm, Recipe


class Objective(nn.Module):
    """Every loss by its name, and the logit scale that they share.

    Parameters
    ----------
    recipe : Recipe
        Losses, scale and sampler.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.terms = recipe.losses
        self.largest = recipe.scale.largest
        apart_um = recipe.sampler.apart_um
        self.apart_um = recipe.model.patch.width_um if apart_um is None else apart_um
        self.group = group_size(recipe.sampler)
        log_scale = torch.tensor(float(recipe.scale.start)).log()
        self.log_scale = nn.Parameter(log_scale, requires_grad=recipe.scale.learnable)

    @property
    def scale(self) -> torch.Tensor:
        """Logit scale, clamped."""
        # The logarithm is clamped: exp(log(100)) rounds to more than 100, where a clamp has no gradient.
        return self.log_scale.clamp(max=math.log(self.largest)).exp()

    def hold_scale(self) -> None:
        """Keep the parameter itself under the clamp: beyond it there is no gradient to come back by."""
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(self.largest))

    def forward(
        self, views: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Losses of a joined batch of b spots.

        Parameters
        ----------
        views : dict of str to Tensor
            The model's outputs, with the batch's ``label`` (b,) and ``place`` (b, 3), and ``target``
            (b, g) where a loss decodes.

        Returns
        -------
        total : Tensor, scalar
            Weighted sum.
        values : dict of str to Tensor
            Each loss, unweighted, by name.
        """
        views = {
            name: view.float() if view.is_floating_point() else view for name, view in views.items()
        }
        same = overlapping(views["place"], self.apart_um)
        values = {term.name: self._value(term, views, same) for term in self.terms}
        total = torch.stack([term.weight * values[term.name] for term in self.terms]).sum()
        return total, values

    def _value(
        self, term: LossTerm, views: dict[str, torch.Tensor], same: torch.Tensor
    ) -> torch.Tensor:
        if term.kind == "locate":
            return locate(views["reference"], views["cells"], self.scale, views["label"])
        if term.kind == "kl":
            return views["kl_gene"].mean()
        if term.kind == "reconstruct":
            return RECONSTRUCTIONS[term.form](views[f"decoded_{term.left}"], views["target"])
        left, right = views[term.left], views[term.right]
        if term.kind == "clip_paired":
            return self._paired(term, left, right, same)
        if term.kind == "clip_soft":
            return clip_soft(left, right, self.scale)
        function = clip if term.kind == "clip" else clip_one_way
        return function(left, right, self.scale, same)

    def _paired(
        self, term: LossTerm, left: torch.Tensor, right: torch.Tensor, same: torch.Tensor
    ) -> torch.Tensor:
        """Each anchor against the negatives of its own group; the sampler puts the anchor first."""
        first = torch.arange(0, len(left), self.group, device=left.device)
        company = first[:, None] + torch.arange(1, self.group, device=left.device)  # (b, k)
        return clip_paired(
            left[first],
            right[first],
            right[company],
            self.scale,
            left_negatives=left[company] if term.both_ways else None,
            same=same[first[:, None], company],
        )


def overlapping(place: torch.Tensor, apart_um: float) -> torch.Tensor:
    """Mark pairs (b, b), off the diagonal, that are one spot or spots of a slide nearer than `apart_um`.

    `place` (b, 3) is slide number, x and y in um.
    """
    at = place[:, 1:]
    # By differences: far from the slide's corner, matrix products lose microns.
    distance = torch.cdist(at, at, compute_mode="donot_use_mm_for_euclid_dist")
    near: torch.Tensor = (distance < apart_um) | (distance == 0)
    near &= place[:, :1] == place[:, 0]
    return near.fill_diagonal_(fill_value=False)
