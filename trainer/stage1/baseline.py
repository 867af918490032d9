"""What can be said about a gene from its rank alone: the number that stage 1 has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.genes import PAD, TOKEN_OFFSET

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How many spots' worth of the overall frequencies every rank leans on. The best of these on what is measured is
# taken, which favours the baseline.
PRIORS: Final = (1.0, 10.0, 100.0, 1000.0, 10_000.0)


@dataclass(frozen=True)
class RankFrequency:
    """Frequency of each gene at each rank, smoothed towards its frequency at any rank.

    Attributes
    ----------
    counts : ndarray of shape (t, g), float32
        Training spots with gene g at rank r.
    """

    counts: NDArray[np.float32]

    @classmethod
    def fit(cls, tokens: NDArray[np.integer], n_genes: int) -> RankFrequency:
        """Count rank tokens (n, t) of training spots."""
        n_ranks = tokens.shape[1]
        counts = np.zeros((n_ranks, n_genes), dtype=np.float32)
        for rank in range(n_ranks):
            genes = tokens[:, rank][tokens[:, rank] != PAD].astype(np.int64) - TOKEN_OFFSET
            counts[rank] = np.bincount(genes, minlength=n_genes)
        return cls(counts)

    def score(self, targets: NDArray[np.integer], chosen: NDArray[np.bool_]) -> tuple[float, float]:
        """Mean cross-entropy (nats) and accuracy on the chosen ranks of targets (n, t).

        Without a chosen rank both are nan.
        """
        _, rank = np.nonzero(chosen)
        gene = targets[chosen].astype(np.int64) - TOKEN_OFFSET
        if not len(gene):
            return float("nan"), float("nan")
        overall = (self.counts.sum(axis=0) + 1.0) / (
            self.counts.sum() + self.counts.shape[1]
        )  # (g,)
        at_rank = self.counts.sum(axis=1)  # (t,)
        scores = []
        for prior in PRIORS:
            share = (self.counts[rank, gene] + prior * overall[gene]) / (at_rank[rank] + prior)
            best = (self.counts + prior * overall).argmax(axis=1)  # (t,)
            scores.append((float(-np.log(share).mean()), float((best[rank] == gene).mean())))
        return min(scores)
