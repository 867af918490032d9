"""Files of what is shown. Each is made when somebody asks for it, not when the page is drawn."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from app import sharing
from app.asking import hits_of
from app.facts import slide_name
from stamp_index.errors import QueryError
from stamp_index.export import (
    contact_sheet,
    geojson_bytes,
    hits_csv,
    hits_geojson,
    hits_h5ad,
)
from stamp_index.search.sharing import record_json, run_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.asking import Answer
    from app.stores import Opened
    from stamp_index.search import Hits, RegionHits
    from stamp_index.search.sharing import Request

KINDS = {
    "csv": "text/csv",
    "geojson": "application/geo+json",
    "h5ad": "application/x-hdf5",
    "png": "image/png",
    "svg": "image/svg+xml",
    "json": "application/json",
}


def button(label: str, make: Callable[[], bytes], file_name: str, *, help: str = "") -> None:
    """A button that makes a file and hands it over; the page is not drawn again."""
    st.download_button(
        label,
        make,
        file_name=file_name,
        mime=KINDS[file_name.rpartition(".")[2]],
        on_click="ignore",
        help=help or None,
        key=f"download-{file_name}",
    )


def of_hits(opened: Opened, answer: Answer) -> None:
    """One row with every way to take hits along."""
    hits, searched = hits_of(opened, answer), answer.against
    with st.container(horizontal=True, gap="small", key="hitdownloads"):
        button("CSV", partial(hits_csv, hits, searched), "hits.csv")
        geojson(opened, answer.table["slide_id"], partial(_geojson, hits))
        button(
            "h5ad",
            partial(_h5ad, hits, searched),
            "hits.h5ad",
            help="The hits as AnnData: embeddings, and counts of the genes that their slides share.",
        )
        button("Contact sheet", partial(contact_sheet, hits, searched), "hits.png")
        record(hits, answer.request)
        if answer.request is not None:
            sharing.python(opened, answer.request)
        sharing.link(answer.request)


def geojson(opened: Opened, slide_ids: Sequence[str], make: Callable[[str], bytes]) -> None:
    """Popover with the shapes on one slide, as QuPath opens one image at a time."""
    mpp = opened.slides["mpp"]
    held = [one for one in dict.fromkeys(slide_ids) if math.isfinite(mpp[one])]
    with st.popover("GeoJSON", disabled=not held):
        if held:
            slide_id = st.selectbox(
                "Of one slide, for QuPath",
                held,
                format_func=lambda name: slide_name(opened, name),
                key="geojson-slide",
            )
            button("Download GeoJSON", partial(make, slide_id), "hits.geojson")


def record(hits: Hits | RegionHits, request: Request | None) -> None:
    """Button for the record of a search."""
    button(
        "Record",
        lambda: record_json(run_record(hits, request)),
        "record.json",
        help="What was asked of which store with which encoder, and what was found, as JSON.",
    )


def _geojson(hits: Hits, slide_id: str) -> bytes:
    return geojson_bytes(hits_geojson(hits, slide_id))


def _h5ad(hits: Hits, searched: str) -> bytes:
    """With counts, unless the slides of the hits have no gene in common."""
    try:
        return hits_h5ad(hits, searched, counts=True)
    except QueryError:
        return hits_h5ad(hits, searched)
