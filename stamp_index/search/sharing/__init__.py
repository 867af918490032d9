"""A search that can be handed on: what was asked, as a record, as Python, and as an address of the app."""

from __future__ import annotations

from stamp_index.search.sharing.links import request_url
from stamp_index.search.sharing.records import record_json, run_record
from stamp_index.search.sharing.requests import (
    GeneRequest,
    ImageRequest,
    RegionRequest,
    Request,
    SpotRequest,
    rings_of,
)
from stamp_index.search.sharing.snippets import python_snippet

__all__ = [
    "GeneRequest",
    "ImageRequest",
    "RegionRequest",
    "Request",
    "SpotRequest",
    "python_snippet",
    "record_json",
    "request_url",
    "rings_of",
    "run_record",
]
