"""Retrieval between the two halves of this store's spots, coverage by organ, and the cards of its indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from app.drawing import png_uri
from app.facts import known_patients
from app.markup import facts, plain
from app.stores import Opened
from stamp_index.errors import StampIndexError
from stamp_index.evaluate.metrics import retrieval_ranks, retrieval_recall_at_k
from stamp_index.index.folder import current, index_folder
from stamp_index.index.plots import PLOT

if TYPE_CHECKING:
    from stamp_index.index import Index

GALLERY = 2000  # spots of an organ that are compared with each other
CUTS = (1, 5, 10, 50)
PANEL = "of the encoder's panel"


def retrieval(opened: Opened) -> None:
    """Recall of a spot's own other half, by organ."""
    st.subheader("Image to gene and back, on this store's own spots", anchor=False)
    table = retrieval_table(opened)
    if table.empty:
        st.info(
            "No spot of this store has both a picture and a gene profile, so nothing can be compared."
        )
        return
    st.dataframe(
        table.assign(**{name: 100 * table[name] for name in table if "@" in name}),
        hide_index=True,
        width="stretch",
        column_config={
            **{
                name: st.column_config.NumberColumn(format="%.1f %%")
                for name in table
                if "@" in name
            },
            "gallery": st.column_config.NumberColumn(format="localized"),
        },
    )
    st.caption(
        f"Each spot's picture asks for its own gene profile among those of at most {GALLERY:,} spots of the organ "
        "(a seeded sample), and the other way round. Chance is k over the gallery. Neighbouring spots look alike and "
        "share a slide, and patients that the encoder was trained on may be among these: this tells whether the "
        "store is in order, not how well the encoder does on new patients. For that, run `stamp-index evaluate`."
    )


@st.cache_data(max_entries=4, show_spinner="Comparing pictures and profiles …",
               hash_funcs={Opened: lambda opened: opened.key})  # fmt: skip
def retrieval_table(opened: Opened) -> pd.DataFrame:
    """One row for each organ and direction: gallery, patients, recall@k and chance."""
    both = opened.store.has_vector("image") & opened.store.has_vector("gene")
    rows = opened.store.rows()
    rows = rows[both[rows]]
    organs = opened.store.spots(["organ", "patient_id"], rows)
    out: list[dict[str, Any]] = []
    for organ, here in organs.groupby("organ", sort=True):
        chosen = rows[here.index.to_numpy()]
        if len(chosen) > GALLERY:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, GALLERY, replace=False))
        image, gene = (
            opened.store.vectors(side, chosen).astype(np.float32) for side in ("image", "gene")
        )
        for name, asks, answers in (("image to gene", image, gene), ("gene to image", gene, image)):
            ranks = retrieval_ranks(asks, answers)
            cuts = {
                f"recall@{k}": retrieval_recall_at_k(ranks, k) for k in CUTS if k <= len(chosen)
            }
            out.append(
                {
                    "organ": organ or "not given",
                    "direction": name,
                    "gallery": len(chosen),
                    "patients": known_patients(here),
                    **cuts,
                    "chance@10": min(10 / len(chosen), 1.0),
                    "median rank": float(np.median(ranks)),
                }
            )
    return pd.DataFrame(out)


def coverage(opened: Opened) -> None:
    """What there is of each organ, and how much of the encoder's panel was measured there."""
    st.subheader("Coverage by organ", anchor=False)
    table = coverage_table(opened)
    st.dataframe(
        table.assign(**{PANEL: 100 * table[PANEL]}),
        hide_index=True,
        width="stretch",
        column_config={
            PANEL: st.column_config.NumberColumn(format="%.1f %%"),
            "spots": st.column_config.NumberColumn(format="localized"),
        },
    )


@st.cache_data(max_entries=4, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def coverage_table(opened: Opened) -> pd.DataFrame:
    """One row for each organ: slides, patients, spots, genes."""
    panel = set(opened.searcher.encoder.panel.genes)
    share = {
        slide_id: len(panel.intersection(opened.store.genes_of(slide_id))) / len(panel)
        for slide_id in opened.slides.index
    }
    slides = opened.slides.assign(share=pd.Series(share), plain=opened.slides["n_genes"] == 0)
    return pd.DataFrame(
        [
            {
                "organ": organ or "not given",
                "slides": len(here),
                "H&E only": int(here["plain"].sum()),
                "patients": known_patients(here),
                "spots": int(here["n_spots"].sum()),
                PANEL: float(here.loc[~here["plain"], "share"].mean()),
            }
            for organ, here in slides.groupby("organ", sort=True)
        ]
    )


def indexes(opened: Opened) -> None:
    """The card of each index."""
    st.subheader("Indexes", anchor=False)
    held = opened.searcher.indexes
    if not held:
        st.info(
            "This store has no index: every vector is compared, which is exact and takes longer. "
            f"Build one: stamp-index build {plain(opened.path)}"
        )
        return
    for column, (side, index) in zip(st.columns(len(held)), held.items(), strict=True):
        with column:
            try:
                _index(side, index)
            except StampIndexError as error:  # it went away while the page was open
                st.error(plain(str(error)))


def _index(side: str, index: Index) -> None:
    card = index.card
    st.markdown(f"**{side} index** · {card.kind}")
    recall = ", ".join(
        f"{value:.3f} for {name} queries" for name, value in card.ann_recall_at_10.items()
    )
    st.html(
        facts(
            [
                ("Vectors", f"{card.n:,} of {card.dim} numbers, at version {card.store_version}"),
                ("recall@10", f"{recall} (share of the exact top ten)"),
                (
                    "Target",
                    f"{card.target_recall:g}, {'reached' if card.reached else 'not reached'}",
                ),
                ("On disk", f"{(card.bytes + card.sidecar_bytes) / 1e6:,.1f} MB"),
            ]
        )
    )
    choices = card.calibration.get("choices", ())
    st.dataframe(
        pd.DataFrame(
            [
                {
                    "recall asked": one["target"],
                    "found": min(one["recall"].values()),
                    "CPU ms": one["cpu_ms"],
                }
                for one in choices
            ]
        ),
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.3f") for name in ("found", "CPU ms")
        },
    )
    plot = current(index_folder(index.store, index.modality)) / PLOT
    if plot.is_file():
        st.image(
            png_uri(plot.read_bytes()),
            width="stretch",
            alt=f"Recall of the {side} index against its cost",
        )
    elif card.kind == "flat":
        st.caption("Exact search: every vector is compared, so there is no curve to show.")
