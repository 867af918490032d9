"""Decoders: expression from an embedding, for the reconstruction losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from torch import nn

from stamp_index.encoders.settings import check_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch


class ImageDecoder(nn.Module):
    """Linear, ReLU, dropout, Linear: SEAL's decoder from an image's embedding to its genes.

    Source: mahmoodlab/SEAL @2137d8d. It also serves UMPIRE's reconstruction objective, whose decoder was
    never described; that use is our own design.

    Parameters
    ----------
    dim : int
        Length of an embedding.
    n_genes : int
        Length of the panel.
    hidden : int
        Width between the two maps; 512 as released.
    dropout : float
        After the ReLU; 0 as released.
    relu : bool
        A ReLU at the end, as released. Right for log counts, which are never negative; off by default
        because the trainer's targets are deviations from a mean.
    """

    def __init__(
        self,
        dim: int,
        n_genes: int,
        *,
        hidden: int = 512,
        dropout: float = 0.0,
        relu: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Linear(dim, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_genes),
        ]
        self.network = nn.Sequential(*layers, *([nn.ReLU()] if relu else []))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Map embeddings (b, dim), not scaled to unit length, to expression (b, g)."""
        decoded: torch.Tensor = self.network(embedding)
        return decoded


def linear_decoder(dim: int, n_genes: int) -> nn.Module:
    """One linear map: what the embedding holds without any help."""
    return nn.Linear(dim, n_genes)


DECODERS: Final[dict[str, Callable[..., nn.Module]]] = {
    "mlp": ImageDecoder,
    "linear": linear_decoder,
}


def check_decoder(kind: str, settings: Mapping[str, Any], section: str = "") -> None:
    """Refuse a kind of decoder that there is not, and settings that the kind does not know.

    Parameters
    ----------
    kind : str
        A key of `DECODERS`.
    settings : mapping
        Keyword arguments of that kind.
    section : str
        Where they stand, for the message: ``model.decoders.patch``.

    Raises
    ------
    ValueError
        Naming the known kinds or settings.
    """
    where = f" of [{section}]" if section else ""
    if kind not in DECODERS:
        msg = f"Unknown decoder {kind!r}{where}; expected one of {', '.join(DECODERS)}."
        raise ValueError(msg)
    what = f"The {kind} decoder{where}"
    check_settings(what, settings, DECODERS[kind], filled=("dim", "n_genes"))


def make_decoder(kind: str = "mlp", *, dim: int, n_genes: int, **settings: Any) -> nn.Module:  # noqa: ANN401
    """Build a decoder from a section ``[model.decoders.SIDE]`` of a recipe.

    Parameters
    ----------
    kind : str
        A key of `DECODERS`.
    dim, n_genes : int
        It maps (b, dim) to (b, n_genes).
    **settings
        Keyword arguments of that kind.

    Raises
    ------
    ValueError
        For an unknown kind or setting, naming the known ones.
    """
    check_decoder(kind, settings)
    return DECODERS[kind](dim, n_genes, **settings)
