"""The transformer block that our towers are made of, and which sizes a tower can have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

_FROM_ONE: Final = (
    *("width", "heads", "context", "ffn", "n_tokens", "latent", "base", "rank", "alpha"),
    *("token_width", "dim_head", "components"),
)
_LEAST: Final = {**dict.fromkeys(_FROM_ONE, 1), "depth": 0, "n_flows": 0, "blocks": 0}
# Far above any network: what lies beyond is a slip, which would end in the allocator's words or never.
WIDEST: Final = 65_536
MOST_RANKS: Final = 100_000
MOST_PIXELS: Final = 8_192  # of an image's side
_MOST: Final = {
    **dict.fromkeys(_FROM_ONE, WIDEST),
    **{"context": MOST_RANKS, "depth": 2_000, "n_flows": 2_000, "blocks": 2_000},
}
_SHARES: Final = ("dropout", "token_dropout", "feature_dropout")


def check_whole(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Refuse what is no whole number, below `least` or above `most`.

    Raises
    ------
    ValueError
        Beginning with `name`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{name} is {value!r}; expected a whole number of at least {least}."
        raise ValueError(msg)
    if most is not None and value > most:
        msg = f"{name} is {value}; expected a whole number of at most {most:,}."
        raise ValueError(msg)


def check_sizes(settings: Mapping[str, object], section: str = "") -> None:
    """Refuse sizes and shares that no tower, head or decoder can have.

    Parameters
    ----------
    settings : mapping
        Settings by name, as recipes spell them; those that are no size, and None, are passed over.
    section : str
        Stands before a name in the message: ``model.image_tower.``.

    Raises
    ------
    ValueError
        Naming the setting, its value and what was expected.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name, value in given.items():
        if name in _LEAST:
            check_whole(f"{section}{name}", value, _LEAST[name], _MOST[name])
        if name in _SHARES:
            _check_share(f"{section}{name}", value)
        if name == "hidden":
            for size in value if isinstance(value, (list, tuple)) else (value,):
                check_whole(f"A size of {section}hidden", size, most=WIDEST)
    width, heads = given.get("width"), given.get("heads")
    if isinstance(width, int) and isinstance(heads, int) and width % heads:
        msg = f"{section}heads is {heads}, which does not divide width, {width}; choose a divisor."
        raise ValueError(msg)


def _check_share(name: str, value: object) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < 1:  # type: ignore[operator] # mypy forgets is_number
        msg = f"{name} is {value!r}; expected a share of at least 0 and below 1."
        raise ValueError(msg)


class Block(nn.Module):
    """Pre-norm transformer block with masked self-attention.

    Parameters
    ----------
    width : int
        Length of a token.
    heads : int
        Attention heads; divides `width`.
    dropout : float
        On both residual branches.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        last = nn.Linear(2 * width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), last)
        self.dropout = nn.Dropout(dropout)
        # A block starts as the identity: what it adds has to be learned against a good start.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(last.weight)

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Map tokens (b, t, width); `keep` (b, t) is True where a token may be attended to."""
        b, t, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, t, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (b, heads, t, width / heads)
        mask = None if keep is None else keep[:, None, None, :]  # (b, 1, 1, t)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.dropout(self.out(attended.transpose(1, 2).reshape(b, t, width)))
        moved: torch.Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return moved
