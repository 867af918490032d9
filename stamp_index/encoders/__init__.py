"""Encoders: towers, the trained model, the closed-form floor, and their checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stamp_index.encoders.base import Encoder
    from stamp_index.encoders.checkpoint import load_encoder, read_manifest, save_encoder
    from stamp_index.encoders.features import FeatureCache

__all__ = ["Encoder", "FeatureCache", "load_encoder", "read_manifest", "save_encoder"]

_WHERE = {
    "Encoder": "base",
    "FeatureCache": "features",
    "load_encoder": "checkpoint",
    "read_manifest": "checkpoint",
    "save_encoder": "checkpoint",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import on first use: torch takes seconds, and not every caller encodes."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"stamp_index.encoders.{_WHERE[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
