"""Hide genes of rank tokens, for the model to find again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from stamp_index.genes import MASK, PAD, TOKEN_OFFSET

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MASKED: Final = 0.8  # of the chosen ranks show MASK, a tenth another gene, a tenth their own
_REPLACED: Final = 0.1


@dataclass(frozen=True)
class Corrupted:
    """Tokens with hidden genes.

    Attributes
    ----------
    tokens : ndarray of shape (n, t), int64
        What the encoder is shown.
    targets : ndarray of shape (n, t), int64
        What stood there.
    chosen : ndarray of shape (n, t), bool
        Ranks to predict; never padding.
    """

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    chosen: NDArray[np.bool_]


def corrupt(
    tokens: NDArray[np.integer], n_genes: int, share: float, rng: np.random.Generator
) -> Corrupted:
    """Choose ranks at random and hide them as BERT does: 80 % MASK, 10 % another gene, 10 % unchanged.

    Parameters
    ----------
    tokens : ndarray of shape (n, t), integer
        Rank tokens, 0 where padded.
    n_genes : int
        Length of the panel: another gene is drawn from all of it, so it can be the same.
    share : float
        Chance that a rank with a gene is chosen, in (0, 1].
    rng : Generator
        Decides everything.

    Returns
    -------
    Corrupted
        Of m chosen ranks in the batch, round(0.8 m) show MASK and round(0.9 m) - round(0.8 m) another gene.

    Notes
    -----
    The released code (Hanminghao/STAMP @78c4fd2, ``complete_masking``) draws other genes from all ids from 10
    on, among them 20 that no gene has, and its order of steps gives about 81, 10 and 9 %.
    """
    targets = tokens.astype(np.int64)
    chosen = (rng.random(targets.shape) < share) & (targets != PAD)
    row, rank = np.nonzero(chosen)
    shuffled = rng.permutation(len(row))
    row, rank = row[shuffled], rank[shuffled]
    n_masked = round(_MASKED * len(row))
    n_hidden = round((_MASKED + _REPLACED) * len(row))
    shown = targets.copy()
    shown[row[:n_masked], rank[:n_masked]] = MASK
    another = rng.integers(0, n_genes, n_hidden - n_masked) + TOKEN_OFFSET
    shown[row[n_masked:n_hidden], rank[n_masked:n_hidden]] = another
    return Corrupted(shown, targets, chosen)


def mask_only(tokens: NDArray[np.integer], share: float, rng: np.random.Generator) -> Corrupted:
    """Choose ranks as `corrupt` does and show MASK in all of them: for measuring, not for training.

    A rank that keeps its gene would be predicted by copying it.
    """
    targets = tokens.astype(np.int64)
    chosen = (rng.random(targets.shape) < share) & (targets != PAD)
    return Corrupted(np.where(chosen, MASK, targets), targets, chosen)
