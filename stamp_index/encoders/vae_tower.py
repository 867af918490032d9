"""Gene tower that is a variational auto-encoder with planar flows: SEAL's gene model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

# exp of half of it is the deviation of the noise: 0.007 to 150. A logvar beyond has run away in training.
_LOGVAR_LIMIT: Final = 10.0


@dataclass(frozen=True)
class VaeState:
    """What the encoder made of b profiles.

    Attributes
    ----------
    mu, logvar : Tensor of shape (b, latent)
        Of the Gaussian before the flows.
    z : Tensor of shape (b, latent)
        After the flows.
    log_det : Tensor of shape (b,)
        Sum over the flows of log |det dz' / dz|.
    """

    mu: torch.Tensor
    logvar: torch.Tensor
    z: torch.Tensor
    log_det: torch.Tensor


class PlanarFlow(nn.Module):
    """``z <- z + u tanh(w'z + b)`` (Rezende and Mohamed, arXiv 1505.05770).

    As in the released code nothing holds w'u above -1, so a flow may fold space; the log-determinant is
    then that of the fold's two sides.

    Parameters
    ----------
    dim : int
        Length of z.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.randn(dim) * 0.01)
        self.w = nn.Parameter(torch.randn(dim) * 0.01)
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map z (b, dim) to the moved z (b, dim) and log |det| (b,)."""
        active = torch.tanh(z @ self.w + self.b)  # (b,)
        moved = z + active[:, None] * self.u
        log_det = torch.log((1 + (1 - active**2) * (self.w @ self.u)).abs() + 1e-8)
        return moved, log_det


class VaeTower(nn.Module):
    """SEAL's gene model (arXiv 2602.14177; mahmoodlab/SEAL @2137d8d, ``gene_model.py``).

    Encoder [Linear, BatchNorm, ReLU, dropout] per hidden width, mean and log-variance, planar flows, and a
    decoder of ReLU layers with a linear output. Unlike the released code, noise is added in training alone:
    outside of it the latent is the flows' image of the mean, so a spot has one embedding.

    Parameters
    ----------
    n_genes : int
        Length of the panel.
    hidden : sequence of int
        Widths of the encoder's layers; the decoder's are the reverse.
    latent : int
        Length of z, and the tower's `width`. SEAL sets it to the image tower's width.
    n_flows : int
        Planar flows after the noise.
    dropout : float
        After each encoder layer, and before the decoder's output.
    context : int
        Number of rank tokens that the tower is handed, and does not read.

    Notes
    -----
    BatchNorm couples the spots of a batch while training: batches need two spots, and gradients cached
    in chunks differ from those of the whole batch.
    """

    def __init__(
        self,
        n_genes: int,
        *,
        hidden: Sequence[int] = (1024, 512),
        latent: int = 512,
        n_flows: int = 3,
        dropout: float = 0.0,
        context: int = 64,
    ) -> None:
        super().__init__()
        if not hidden:
            msg = "The VAE tower has no hidden layers; give at least one width, for example hidden = [512]."
            raise ValueError(msg)
        self.width = latent
        self.context = context
        self.encoder = _encoder(n_genes, hidden, dropout)
        self.mu = nn.Linear(hidden[-1], latent)
        self.logvar = nn.Linear(hidden[-1], latent)
        self.flows = nn.ModuleList(PlanarFlow(latent) for _ in range(n_flows))
        self.decoder = _decoder(latent, hidden, n_genes, dropout)

    def posterior(self, profile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance (b, latent) before the flows, of profiles (b, g).

        The log-variance is held within +-10, where the noise of a spot neither vanishes nor drowns it.
        """
        x = self.encoder(profile)
        return self.mu(x), self.logvar(x).clamp(-_LOGVAR_LIMIT, _LOGVAR_LIMIT)

    def flow(self, z0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Send z0 (b, latent) through the flows: z (b, latent) and the summed log |det| (b,)."""
        z, log_det = z0, z0.new_zeros(len(z0))
        for planar in self.flows:
            z, part = planar(z)
            log_det = log_det + part
        return z, log_det

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Reconstruct profiles (b, g) from z (b, latent), as `forward` gives it."""
        decoded: torch.Tensor = self.decoder(z)
        return decoded

    def encode_full(self, profile: torch.Tensor) -> VaeState:
        """Encode profiles (b, g), keeping what `divergence` needs."""
        mu, logvar = self.posterior(profile)
        z0 = mu
        if self.training:
            z0 = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        z, log_det = self.flow(z0)
        return VaeState(mu, logvar, z, log_det)

    def divergence(self, state: VaeState) -> torch.Tensor:
        """KL divergence (b,), in nats, of each spot's z from a standard normal.

        ``KL = 1/2 sum (z^2 - 1 - logvar) - log_det``, with z after the flows in the place of its expectation
        (arXiv 1505.05770, eq. 15). The released code puts the mean and variance from before the flows
        there, which is another density's divergence as soon as a flow moves anything.
        """
        kl: torch.Tensor = 0.5 * (state.z**2 - 1 - state.logvar).sum(-1) - state.log_det
        return kl

    def forward(self, tokens: torch.Tensor, profile: torch.Tensor) -> torch.Tensor:
        """Encode profiles (b, g) as z (b, width); rank tokens (b, context) are not read."""
        return self.encode_full(profile).z


def _encoder(n_genes: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    last = n_genes
    for size in hidden:
        layers += [nn.Linear(last, size), nn.BatchNorm1d(size), nn.ReLU(), nn.Dropout(dropout)]
        last = size
    return nn.Sequential(*layers)


def _decoder(latent: int, hidden: Sequence[int], n_genes: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    last = latent
    for size in reversed(hidden):
        layers += [nn.Linear(last, size), nn.ReLU()]
        last = size
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(last, n_genes))
