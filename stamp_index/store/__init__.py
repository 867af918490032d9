"""The store: Lance tables of slides, spots and expression."""

from stamp_index.store.card import EncoderCard
from stamp_index.store.rows import SlideRows
from stamp_index.store.schema import Modality
from stamp_index.store.store import Store

__all__ = ["EncoderCard", "Modality", "SlideRows", "Store"]
