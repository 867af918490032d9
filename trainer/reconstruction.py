"""SEAL's losses between a decoded and a measured expression, before their scale factors.

All are functions of prediction (b, g) and target (b, g), both in the genes' training deviations as the profile
is, and give a scalar. SEAL's standardised error is then the plain one.
Source of forms and numbers: mahmoodlab/SEAL @2137d8d, ``gene_loss.py``; arXiv 2602.14177. Left out are
``pls``, which has no lower bound, and ``negbin``, which needs log counts rather than deviations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

_BARLOW: Final = 0.05  # factor of every Barlow term
_OFF_DIAGONAL: Final = 0.005  # weight of two different genes' correlation
_STANDARDISED: Final = (
    5.0  # weight of the standardised error beside the Barlow term; 1 of the plain error
)
_MMD_WIDTHS: Final = (10.0, 15.0, 20.0, 50.0)  # squared deviations of the Gaussian kernels


def mse(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error."""
    return functional.mse_loss(prediction, target)


def pcc(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One minus the mean over spots of Pearson's correlation across genes; a constant spot counts 0."""
    rows = (
        functional.normalize(x - x.mean(1, keepdim=True), eps=1e-8) for x in (prediction, target)
    )
    own, measured = rows
    return 1 - (own * measured).sum(1).mean()


def barlow(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """``0.05 (Σ_g (1 - c_gg)² + 0.005 Σ_{g≠h} c_gh²)``, c (g, g) the genes' correlations over the batch."""
    correlation = _over_batch(prediction).T @ _over_batch(target)  # (g, g)
    own = correlation.diagonal()
    off = (correlation**2).sum() - (own**2).sum()
    return _BARLOW * (((1 - own) ** 2).sum() + _OFF_DIAGONAL * off)


def barlow_soft(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Diagonal of `barlow` alone: ``0.05 Σ_g (1 - c_gg)²``."""
    own = (_over_batch(prediction) * _over_batch(target)).sum(0)  # (g,)
    return _BARLOW * ((1 - own) ** 2).sum()


def barlow_mse(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """`barlow_soft` + `mse`."""
    return barlow_soft(prediction, target) + mse(prediction, target)


def barlow_std_mse(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """`barlow_soft` + 5 `mse`: what SEAL trains with."""
    return barlow_soft(prediction, target) + _STANDARDISED * mse(prediction, target)


def mmd(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared maximum mean discrepancy between predicted and measured genes.

    A gene is a point of b coordinates, one per spot, and the kernel the sum of Gaussians of variance 10,
    15, 20 and 50; pairs of a gene with itself count. Takes (g, g) memory.
    """
    own, measured = prediction.T, target.T  # (g, b)
    return _kernel(own, own) + _kernel(measured, measured) - 2 * _kernel(own, measured)


def l1(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute error."""
    return functional.l1_loss(prediction, target)


def huber(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of half the squared error up to 1, and of the absolute error less a half beyond."""
    return functional.smooth_l1_loss(prediction, target)


RECONSTRUCTIONS: Final[dict[str, Callable[..., torch.Tensor]]] = {
    "mse": mse,
    "standardized_mse": mse,
    "pcc": pcc,
    "barlow": barlow,
    "barlow_soft": barlow_soft,
    "barlow_mse": barlow_mse,
    "barlow_std_mse": barlow_std_mse,
    "mmd": mmd,
    "l1": l1,
    "huber": huber,
}


def _over_batch(x: torch.Tensor) -> torch.Tensor:
    """Genes (b, g) centred over the batch and of unit length: products summed over b are correlations.

    A gene that is constant over the batch correlates with nothing, and its gradient stays finite.
    """
    x = x - x.mean(0)
    return x / (x.square().sum(0) + 1e-6).sqrt()


def _kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean of the kernel over all pairs of the rows of a (m, d) and b (n, d)."""
    squared = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)  # (m, n)
    total = torch.stack([torch.exp(-squared / (2 * width)).mean() for width in _MMD_WIDTHS])
    return total.sum()
