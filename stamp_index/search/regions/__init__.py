"""Region search: a region of a slide asks, regions of other slides answer."""

from __future__ import annotations

from stamp_index.search.regions.hits import RegionHits
from stamp_index.search.regions.query import Region
from stamp_index.search.regions.settings import RegionSettings

__all__ = ["Region", "RegionHits", "RegionSettings"]
