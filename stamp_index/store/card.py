"""What a store remembers about the encoder that filled it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stamp_index.encoders.base import Encoder


_MOST_DIM: Final = 65_536
_PLAIN: Final = re.compile(r"[\w\-]{1,100}")


@dataclass(frozen=True)
class EncoderCard:
    """The encoder of a store, in words and numbers.

    Attributes
    ----------
    name : str
        Short name; becomes part of the names of the embedding columns.
    fingerprint : str
        Hash of everything that decides an embedding. Rows made under another one are refused.
    dim : int
        Length d of an embedding.
    patch_width_um, region_width_um : float
        What the encoder sees around a spot, in microns.
    patch_size_px : int
        Side of the patch that the encoder is given.
    panel_hash : str
        Hash of the gene panel.
    checkpoint : str
        Where the checkpoint came from, for people; the copy in the store is what is loaded.
    """

    name: str
    fingerprint: str
    dim: int
    patch_width_um: float
    patch_size_px: int
    region_width_um: float
    panel_hash: str
    checkpoint: str = ""

    @classmethod
    def of(cls, encoder: Encoder, checkpoint: str = "") -> EncoderCard:
        """Card of a loaded encoder."""
        return cls(
            name=encoder.name,
            fingerprint=encoder.fingerprint,
            dim=encoder.dim,
            patch_width_um=encoder.patch.width_um,
            patch_size_px=encoder.patch.size_px,
            region_width_um=encoder.region.width_um,
            panel_hash=encoder.panel.hash,
            checkpoint=checkpoint,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncoderCard:
        """Inverse of `to_dict`."""
        return cls(**values)


def check_card(card: EncoderCard) -> None:
    """Refuse a card that columns cannot be named and sized by.

    Raises
    ------
    ValueError
        If its name, fingerprint or dim cannot be.
    """
    whole = isinstance(card.dim, int) and not isinstance(card.dim, bool)
    if not whole or not 1 <= card.dim <= _MOST_DIM:
        msg = f"its card has dim {card.dim!r}; expected a whole number from 1 to {_MOST_DIM:,}"
        raise ValueError(msg)
    for field in ("name", "fingerprint"):
        value = getattr(card, field)
        if not isinstance(value, str) or not _PLAIN.fullmatch(value):
            msg = f"its card has {field} {value!r}; expected 1 to 100 letters, digits, '-' or '_'"
            raise ValueError(msg)
