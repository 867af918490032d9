"""Kinds of encoders that are made of other people's weights, by the name in a checkpoint's manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stamp_index.encoders.published.seal_encoder import PublishedSealEncoder
from stamp_index.encoders.published.stamp_encoder import PublishedStampEncoder

if TYPE_CHECKING:
    PublishedEncoder = type[PublishedStampEncoder] | type[PublishedSealEncoder]

KINDS: Final[dict[str, PublishedEncoder]] = {
    PublishedStampEncoder.kind: PublishedStampEncoder,
    PublishedSealEncoder.kind: PublishedSealEncoder,
}
