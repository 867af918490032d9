"""The indexer: slides become rows of a store."""

from __future__ import annotations

from stamp_index.embed.ingest import embed_slide, ingest

__all__ = ["embed_slide", "ingest"]
