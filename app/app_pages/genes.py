"""Gene to image: tissue that looks as if it expressed what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import asking, hits_panel, markup, query_controls
from app.gene_names import askable_genes
from app.markup import plain
from app.session import current
from stamp_index.errors import StampIndexError
from stamp_index.genes import parse_signature

if TYPE_CHECKING:
    from app.asking import Answer, Question
    from app.stores import Opened

HINTS = (
    "**1** Pick a patch to see where it lies and what was measured there. "
    "**2** Use it as the query for its predicted expression. "
    "**3** On *Image to gene*, drop an H&E picture of your own."
)


def page() -> None:
    opened = current()
    st.title("Gene to image", anchor=False)
    entry, controls = st.columns([0.56, 0.44], gap="medium")
    with entry:
        text = query_controls.gene_text(opened)
    with controls, query_controls.controls():
        question = query_controls.question(opened, against="image", key="in")
    try:
        answer = answered(opened, text, question)
    except StampIndexError as error:
        st.error(plain(str(error)))
        # a gene can be unknown to store and encoder, or measured but not known to the encoder
        unknown = query_controls.unknown_genes(text, *askable_genes(opened))
        unknown = unknown or query_controls.unknown_genes(text, opened.searcher.encoder.panel.genes)
        query_controls.offer_close_names(text, unknown)
        return
    weights = parse_signature(answer.query).weights
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(markup.chips(weights), width="content")
        hits_panel.summary(opened, answer)
    hits_panel.notes(answer)
    if opened.is_synthetic:
        st.caption(HINTS)
    hits_panel.show(opened, answer, weights)
    hits_panel.below(opened, answer)


def answered(opened: Opened, text: str, question: Question) -> Answer:
    """Hits of the genes alone, or of the genes and the look of a spot."""
    spot_id = st.query_params.get("like", "")
    if not spot_id:
        return asking.ask_genes(opened, text, question)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="likebar"):
        st.markdown(f"and the look of **{plain(spot_id)}**", width="content")
        share = st.slider(
            "Share of the genes",
            10,
            90,
            50,
            10,
            key="mix",
            bind="query-params",
            format="%d %%",
            width=260,
        )
        st.button(
            "Genes alone", key="drop-look", on_click=lambda: st.query_params.pop("like", None)
        )
    return asking.ask_both(opened, text, asking.Look(spot_id, share / 100), question)


page()
