"""Gene to image: tissue that looks as if it expressed what was asked for."""

from __future__ import annotations

import stamp_data
import stamp_hits
import stamp_html
import stamp_query
import streamlit as st
from stamp_html import plain

from stamp_index.errors import StampIndexError
from stamp_index.genes import parse_signature

HINTS = (
    "**1** Pick a patch to see where it lies and what was measured there. "
    "**2** Use it as the query for its predicted expression. "
    "**3** On *Image to gene*, drop an H&E picture of your own."
)


def page() -> None:
    opened = stamp_data.current()
    st.title("Gene to image", anchor=False)
    entry, controls = st.columns([0.56, 0.44], gap="medium")
    with entry:
        text = stamp_query.gene_text(opened)
    with controls, stamp_query.controls():
        question = stamp_query.question(opened, against="image", key="in")
    try:
        answer = stamp_data.ask_genes(opened, text, question)
    except StampIndexError as error:
        st.error(plain(str(error)))
        # a gene can be unknown to store and encoder, or measured but not known to the encoder
        unknown = stamp_query.unknown_genes(text, *stamp_data.askable_genes(opened))
        unknown = unknown or stamp_query.unknown_genes(text, opened.searcher.encoder.panel.genes)
        stamp_query.offer_close_names(text, unknown)
        return
    weights = parse_signature(answer.query).weights
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(stamp_html.chips(weights), width="content")
        stamp_hits.summary(opened, answer)
    stamp_hits.notes(answer)
    if opened.is_synthetic:
        st.caption(HINTS)
    stamp_hits.show(opened, answer, weights)
    stamp_hits.below(opened, answer)


page()
