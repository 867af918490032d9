"""Heads: from a tower's feature into the joint space, one kind for each way of the published recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from torch import nn

from stamp_index.encoders.settings import check_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch


class AdapterHead(nn.Module):
    """UMPIRE's head with its optional adapter (Hanminghao/UMPIRE, ``models/_umpire.py``).

    A linear map into the space, then ``e <- (1 - share) e + share adapter(e)`` with the adapter
    Linear d -> d / reduction, ReLU, Linear -> d, ReLU, no biases.

    Parameters
    ----------
    width, dim : int
        Length of a feature, of an embedding.
    share : float
        Weight of the adapter, in [0, 1]; 0.2 as released.
    reduction : int
        The adapter is this many times narrower inside; 4 as released.

    Raises
    ------
    ValueError
        If `share` is outside [0, 1] or `reduction` leaves no unit.
    """

    def __init__(self, width: int, dim: int, *, share: float = 0.2, reduction: int = 4) -> None:
        super().__init__()
        if not 0.0 <= share <= 1.0:
            msg = f"share of the adapter head is {share}; it must lie in [0, 1]."
            raise ValueError(msg)
        if not 1 <= reduction <= dim:
            msg = f"reduction of the adapter head is {reduction}; it must lie in [1, dim = {dim}]."
            raise ValueError(msg)
        self.share = share
        self.linear = nn.Linear(width, dim)
        self.adapter = nn.Sequential(
            nn.Linear(dim, dim // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(dim // reduction, dim, bias=False),
            nn.ReLU(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (..., width) to (..., dim)."""
        embedding: torch.Tensor = self.linear(features)
        adapted: torch.Tensor = self.adapter(embedding)
        return (1 - self.share) * embedding + self.share * adapted


class ProjectionHead(nn.Module):
    """BLEEP's projection: Linear, GELU, Linear, dropout, residual on the first Linear, LayerNorm.

    Source: bowang-lab/BLEEP @2395967, ``modules.py``; there 256 wide with dropout 0.1.

    Parameters
    ----------
    width, dim : int
        Length of a feature, of an embedding.
    dropout : float
        Before the residual is added.
    """

    def __init__(self, width: int, dim: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.project = nn.Linear(width, dim)
        self.refine = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (..., width) to (..., dim)."""
        projected = self.project(features)
        embedding: torch.Tensor = self.norm(projected + self.refine(projected))
        return embedding


def linear_head(width: int, dim: int) -> nn.Module:
    """One linear map with bias, as STAMP and UMPIRE have."""
    return nn.Linear(width, dim)


def mlp_head(width: int, dim: int, *, hidden: int = 2048) -> nn.Module:
    """ST-Align's head on its flattened tokens: Linear, ReLU, Linear (4096 -> 2048 -> 1024 there)."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim))


def identity_head(width: int, dim: int) -> nn.Module:
    """No head, as in SEAL: the feature is the embedding, so both must be as long.

    Raises
    ------
    ValueError
        If `width` is not `dim`.
    """
    if width != dim:
        msg = (
            f"The identity head maps features of length {width} to embeddings of length {dim}; they must "
            f"be equal. Set the tower's width (for a VAE its latent) or model.dim, or use a linear head."
        )
        raise ValueError(msg)
    return nn.Identity()


HEADS: Final[dict[str, Callable[..., nn.Module]]] = {
    "linear": linear_head,
    "adapter": AdapterHead,
    "mlp": mlp_head,
    "projection": ProjectionHead,
    "identity": identity_head,
}


def check_head(kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse a kind of head that there is not, and settings that the kind does not know.

    Raises
    ------
    ValueError
        Naming the known kinds or settings.
    """
    if kind not in HEADS:
        msg = f"Unknown head {kind!r}; expected one of {', '.join(HEADS)}."
        raise ValueError(msg)
    what = f"The {kind} head of [model.head]"
    check_settings(what, settings, HEADS[kind], filled=("width", "dim"))


def make_head(kind: str, width: int, dim: int, **settings: Any) -> nn.Module:  # noqa: ANN401
    """Build a head from the ``[model.head]`` section of a recipe.

    Parameters
    ----------
    kind : str
        A key of `HEADS`.
    width, dim : int
        Length of the features (..., width) it takes and of the embeddings (..., dim) it gives, before
        they are scaled to unit length.
    **settings
        Keyword arguments of that kind.

    Raises
    ------
    ValueError
        For an unknown kind or setting, naming the known ones, or a value that the kind refuses.
    """
    check_head(kind, settings)
    return HEADS[kind](width, dim, **settings)
