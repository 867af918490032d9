"""Measure a stage-1 model, on held-out slides where there are any, beside its baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from stamp_index.genes import PAD
from trainer.stage1.losses import gene_loss, niche_loss
from trainer.stage1.masking import Corrupted, mask_only
from trainer.stage1.niches import SIZE

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from trainer.stage1.baseline import RankFrequency
    from trainer.stage1.config import Stage1Recipe
    from trainer.stage1.data import Spots
    from trainer.stage1.model import Stage1Model

MOST_NICHES: Final = 200  # 1,800 spots say it to the third digit
NICHE_VALUES: Final = ("cgr", "niche_accuracy")
_SEED: Final = 20_260_213  # the same hidden genes in every run


@dataclass(frozen=True)
class Probe:
    """Fixed niches with fixed hidden genes, and what the baseline scores on them.

    Attributes
    ----------
    spots : ndarray of shape (k, 9), int64
        Spot numbers.
    hidden : Corrupted
        Of the k * 9 spots; every chosen rank shows MASK.
    baseline : dict of str to float
        ``baseline_igr``, ``baseline_accuracy``, ``baseline_cgr``, ``baseline_niche_accuracy``.
    """

    spots: NDArray[np.int64]
    hidden: Corrupted
    baseline: dict[str, float]

    @classmethod
    def make(cls, recipe: Stage1Recipe, spots: Spots, frequency: RankFrequency) -> Probe | None:
        """Draw the probe; None if no slide has a niche."""
        rng = np.random.default_rng(_SEED)
        niches = spots.niches(rng, recipe.objective.max_pitches)
        if not len(niches):
            return None
        niches = niches[np.linspace(0, len(niches) - 1, min(MOST_NICHES, len(niches))).astype(int)]
        hidden = mask_only(spots.tokens[niches.ravel()], recipe.objective.mask_share, rng)
        igr, accuracy = frequency.score(hidden.targets, hidden.chosen)
        centres = hidden.targets[::SIZE]
        cgr, niche_accuracy = frequency.score(centres, centres != PAD)
        baseline = {
            "baseline_igr": igr,
            "baseline_accuracy": accuracy,
            "baseline_cgr": cgr,
            "baseline_niche_accuracy": niche_accuracy,
        }
        return cls(niches, hidden, baseline)

    def measure(
        self, model: Stage1Model, device: torch.device, precision: AbstractContextManager[object]
    ) -> dict[str, float]:
        """Losses and accuracies of the model in evaluation mode; it is left as it was.

        Returns
        -------
        dict of str to float
            ``igr`` and ``accuracy`` on hidden genes; ``cgr`` and ``niche_accuracy`` on all genes of the
            centres, from neighbours with hidden genes.
        """
        was_training = model.training
        model.eval()
        sums = {"igr": 0.0, "accuracy": 0.0, "cgr": 0.0, "niche_accuracy": 0.0}
        n_own = n_niche = 0
        shown, targets, chosen = (
            torch.from_numpy(array)
            for array in (self.hidden.tokens, self.hidden.targets, self.hidden.chosen)
        )
        with torch.no_grad(), precision:
            for rows in torch.arange(len(shown)).split(8 * SIZE):
                wanted = targets[rows].to(device)
                features = model(shown[rows].to(device))
                own = gene_loss(features, wanted, chosen[rows].to(device), model.gene_head)
                grouped = features.unflatten(0, (-1, SIZE))
                niche = niche_loss(grouped, wanted.unflatten(0, (-1, SIZE)), model.niche_head)
                sums["igr"] += float(own.loss) * own.n
                sums["accuracy"] += float(own.right)
                sums["cgr"] += float(niche.loss) * niche.n
                sums["niche_accuracy"] += float(niche.right)
                n_own, n_niche = n_own + own.n, n_niche + niche.n
        model.train(was_training)
        n_of = {"igr": n_own, "accuracy": n_own, "cgr": n_niche, "niche_accuracy": n_niche}
        return {name: total / max(1, n_of[name]) for name, total in sums.items()}
