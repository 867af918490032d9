"""The shortlist on a page: its spots, two of them side by side, and what can be taken away."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from app import downloads, markup, shortlist
from app.api.routes import patch_address
from app.facts import spot_facts
from app.markup import plain
from app.session import user
from app.viewer import Mark, Shown, viewer
from stamp_index.export import table_csv

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from app.stores import Opened

PLACE = ("spot_id", "slide_id", "patient_id", "organ", "x_px", "y_px", "x_um", "y_um")
AROUND_UM = 1000.0  # of the tissue that is shown around each of two


def show(opened: Opened, weights: Mapping[str, float]) -> None:
    """The marked spots; nothing where none is."""
    held = shortlist.rows(opened)
    if not held:
        return
    with st.container(border=True, key="shortlist"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**Shortlist · {len(held)}**", width="content")
            downloads.button("CSV", partial(csv, opened, held, weights), "shortlist.csv")
            st.button("Clear", key="clear-shortlist", type="tertiary", on_click=shortlist.clear)
        st.html(
            markup.patch_row(
                [
                    (patch_address(opened, row, user=user()), spot_id)
                    for spot_id, row in held.items()
                ]
            )
        )
        if len(held) > 1 and st.toggle("Compare two", key="compare"):
            _compare(opened, held, weights)


def csv(opened: Opened, held: Mapping[str, int], weights: Mapping[str, float]) -> bytes:
    """The marked spots, and the store that they are of; any number of queries may have found them."""
    return table_csv(table(opened, held, weights), **_source(opened))


def table(opened: Opened, held: Mapping[str, int], weights: Mapping[str, float]) -> pd.DataFrame:
    """Place and measured expression of the marked spots; a gene called organ is in ``expr(organ)``."""
    rows = list(held.values())
    found = opened.store.spots(list(PLACE), rows)
    genes = [gene for gene in weights if gene in opened.measured]
    if genes:
        values = opened.store.expression(genes, rows)
        found = found.assign(
            **{_column(opened, gene): values[:, at] for at, gene in enumerate(genes)}
        )
    return found


def _column(opened: Opened, gene: str) -> str:
    return f"expr({gene})" if gene in {*PLACE, *_source(opened)} else gene


def _source(opened: Opened) -> dict[str, str | int]:
    store = opened.store
    return {
        "store_id": store.store_id,
        "store_version": store.version,
        "encoder": store.card.fingerprint,
    }


def _compare(opened: Opened, held: Mapping[str, int], weights: Mapping[str, float]) -> None:
    """Two marked spots on their slides, at the same physical zoom."""
    ids = list(held)
    sides = zip(st.columns(2, gap="medium"), ("left", "right"), (0, 1), strict=True)
    for column, name, default in sides:
        with column:
            spot_id = st.selectbox(
                f"Spot at the {name}",
                ids,
                index=default,
                key=f"compare-{name}",
                label_visibility="collapsed",
            )
            _side(opened, spot_id, held[spot_id], name)
            genes = [gene for gene in weights if gene in opened.measured]
            values = table(opened, {spot_id: held[spot_id]}, weights).iloc[0]
            bars = [(gene, float(values[_column(opened, gene)])) for gene in genes]
            st.html(markup.value_bars([bar for bar in bars if math.isfinite(bar[1])]))


def _side(opened: Opened, spot_id: str, row: int, name: str) -> None:
    spot = opened.store.spots(["slide_id", "x_px", "y_px", "x_um"], [row]).iloc[0]
    width = AROUND_UM if math.isfinite(spot["x_um"]) else AROUND_UM * 2
    viewer(
        opened,
        str(spot["slide_id"]),
        Shown(
            marks=[Mark(float(spot["x_px"]), float(spot["y_px"]), "", "marked")],
            picked=0,
            focus=(float(spot["x_px"]), float(spot["y_px"]), width),
            focus_stamp=spot_id,
            group="compare",
            tools=("pan",),
        ),
        key=f"compareview-{name}",
        height="360px",
    )
    st.caption(plain(f"{spot_id} on slide {spot['slide_id']}"))
    st.html(markup.facts(spot_facts(opened, str(spot["slide_id"]), row)))
