"""Readers: a file or a folder for each source format, each giving the same `Slide`."""

from __future__ import annotations

from stamp_index.readers.base import Reader, SlideOptions
from stamp_index.readers.build import make_slide, validate
from stamp_index.readers.gene_names import for_panel, harmonise
from stamp_index.readers.registry import READERS, find_slides, read

__all__ = [
    "READERS",
    "Reader",
    "SlideOptions",
    "find_slides",
    "for_panel",
    "harmonise",
    "make_slide",
    "read",
    "validate",
]
