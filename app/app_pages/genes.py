"""Gene to image: tissue that looks as if it expressed what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import asking, hits_panel, query_controls
from app.gene_set_panel import gene_sets
from app.markup import plain
from app.query_bar import query_bar
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
    text = asked(opened)
    with query_controls.controls():
        question = query_controls.question(opened, against="image", key="in")
        query_controls.offer_examples(opened)
    if text is None:
        return
    try:
        answer = answered(opened, text, question)
    except StampIndexError as error:
        st.error(plain(str(error)))
        return
    hits_panel.summary(opened, answer)
    hits_panel.notes(answer)
    if opened.is_synthetic:
        st.caption(HINTS)
    hits_panel.show(opened, answer, parse_signature(answer.query).weights)
    hits_panel.below(opened, answer)


def asked(opened: Opened) -> str | None:
    """The query of the address, or the first example where it has none; None while it cannot be asked."""
    first = query_controls.store_examples(opened)[0]
    bar, ready_made = st.columns([1, 0.12], gap="small")
    with bar:
        ready = query_bar(opened, st.query_params.get("q", first), key="genes")
    with ready_made:
        gene_sets(opened, st.query_params.get("q", first))
    return ready


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
