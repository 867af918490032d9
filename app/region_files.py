"""Regions that were found, as files."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from app import downloads, sharing
from app.region_asking import hits_of
from stamp_index.export import asked_columns, geojson_bytes, table_csv
from stamp_index.export.chosen_spots import MAX_SPOTS, spots_h5ad

if TYPE_CHECKING:
    from app.region_asking import RegionAnswer
    from app.stores import Opened
    from stamp_index.search import RegionHits


def show(opened: Opened, answer: RegionAnswer, picked: int) -> None:
    """One row with every way to take the regions along; the h5ad is of the picked one."""
    hits, searched = hits_of(opened, answer), answer.request.against
    rows = hits.rows[picked]
    with st.container(horizontal=True, gap="small", key="regiondownloads"):
        downloads.button("Regions CSV", partial(regions_csv, hits, searched), "regions.csv")
        downloads.button("Spots CSV", partial(region_spots_csv, hits, searched), "region_spots.csv")
        downloads.geojson(opened, answer.table["slide_id"], partial(_geojson, hits))
        if len(rows) <= MAX_SPOTS:
            downloads.button(
                f"Region #{picked + 1} (h5ad)",
                partial(spots_h5ad, opened.store, rows),
                "region.h5ad",
                help="The spots of the picked region as AnnData, with their counts.",
            )
        downloads.record(hits, answer.request)
        sharing.python(opened, answer.request)
        sharing.link(answer.request)


def regions_csv(hits: RegionHits, searched: str) -> bytes:
    """One row per region, and what was asked."""
    return table_csv(hits.to_pandas(), **asked_columns(hits, searched))


def region_spots_csv(hits: RegionHits, searched: str) -> bytes:
    """One row per spot of every region, and what was asked."""
    return table_csv(hits.spots(), **asked_columns(hits, searched))


def _geojson(hits: RegionHits, slide_id: str) -> bytes:
    return geojson_bytes(hits.to_geojson(slide_id))
