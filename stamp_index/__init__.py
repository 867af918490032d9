"""One space for H&E patches and gene expression: read, embed, index, search, evaluate.

Names are imported on first use, so that ``import stamp_index`` loads neither torch nor lance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stamp_index.client import RemoteSearcher, connect
    from stamp_index.embed import embed_slide, ingest
    from stamp_index.encoders import Encoder, load_encoder
    from stamp_index.errors import StampIndexError
    from stamp_index.evaluate import compare_reports, evaluate_run, evaluate_store
    from stamp_index.genes import GenePanel, Signature, parse_signature
    from stamp_index.index import Index, IndexCard, IndexRecipe
    from stamp_index.phantom import make_phantom
    from stamp_index.readers import SlideOptions, find_slides, read
    from stamp_index.search import (
        Hits,
        Region,
        RegionHits,
        RegionSettings,
        Searcher,
        parse_filter,
        predict_expression,
    )
    from stamp_index.slides import PatchSpec, Slide
    from stamp_index.store import EncoderCard, Store
    from stamp_index.view import SlideViewer

__version__ = "0.1.0"

_WHERE = {
    "Encoder": "encoders",
    "EncoderCard": "store",
    "GenePanel": "genes",
    "Hits": "search",
    "Index": "index",
    "IndexCard": "index",
    "IndexRecipe": "index",
    "PatchSpec": "slides",
    "Region": "search",
    "RegionHits": "search",
    "RegionSettings": "search",
    "RemoteSearcher": "client",
    "Searcher": "search",
    "Signature": "genes",
    "Slide": "slides",
    "SlideOptions": "readers",
    "SlideViewer": "view",
    "StampIndexError": "errors",
    "Store": "store",
    "compare_reports": "evaluate",
    "connect": "client",
    "embed_slide": "embed",
    "evaluate_run": "evaluate",
    "evaluate_store": "evaluate",
    "find_slides": "readers",
    "ingest": "embed",
    "load_encoder": "encoders",
    "make_phantom": "phantom",
    "parse_filter": "search",
    "parse_signature": "genes",
    "predict_expression": "search",
    "read": "readers",
}

__all__ = [
    "Encoder",
    "EncoderCard",
    "GenePanel",
    "Hits",
    "Index",
    "IndexCard",
    "IndexRecipe",
    "PatchSpec",
    "Region",
    "RegionHits",
    "RegionSettings",
    "RemoteSearcher",
    "Searcher",
    "Signature",
    "Slide",
    "SlideOptions",
    "SlideViewer",
    "StampIndexError",
    "Store",
    "compare_reports",
    "connect",
    "embed_slide",
    "evaluate_run",
    "evaluate_store",
    "find_slides",
    "ingest",
    "load_encoder",
    "make_phantom",
    "parse_filter",
    "parse_signature",
    "predict_expression",
    "read",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name when it is first asked for."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"stamp_index.{_WHERE[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """Public names, imported or not."""
    return sorted([*globals(), *__all__])
