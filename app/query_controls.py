"""Widgets that make a query: examples, filters, k, what to search.

Every widget is bound to the address, so the address is the query and can be sent to somebody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.asking import Question
from app.gene_names import example_genes
from app.markup import plain
from stamp_index.genes import parse_signature
from stamp_index.search.sharing.links import (
    MAX_HITS,
    MAX_WHERE,
    NEIGHBOURHOOD_UM,
    ONE_PER,
    TARGETS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from streamlit.delta_generator import DeltaGenerator

    from app.stores import Against, Opened

USUAL_HITS = 48
# Filters that are lists: their name in the address, the column of the slides, their label, and their name in a question.
LISTED = (
    ("organ", "organ", "Organ", "organs"),
    ("slide", "slide_id", "Slide", "slides"),
    ("patient", "patient_id", "Patient", "patients"),
    ("notpatient", "patient_id", "Without patient", "not_patients"),
)

# Textbook markers, asked the way a pathologist would; shown where the store measured all of them, and
# where it measured nothing, if the encoder knows them.
EXAMPLES = (
    "CD8A high, EPCAM low",
    "EPCAM high, KRT8 high",
    "COL1A1 high, DCN high",
    "MS4A1 high, CD79A high",
    "ERBB2 high",
    "CD3E high",
    "ADIPOQ high, PLIN1 high",
    "PECAM1 high, VWF high",
    "CD68 high",
    "ACTA1 high, MYH7 high",
    "MKI67 high",
)


def examples(genes: Sequence[str], n: int = 3) -> list[str]:
    """`n` queries whose genes are all among `genes`; the first of these where too few fit."""
    known = set(genes)
    fitting = [text for text in EXAMPLES if known.issuperset(parse_signature(text).genes)]
    fitting += [f"{gene} high" for gene in genes[: n - len(fitting)] if len(fitting) < n]
    return fitting[:n]


def set_query(text: str) -> None:
    """Make a text the query; for button callbacks."""
    st.query_params["q"] = text


def store_examples(opened: Opened) -> list[str]:
    """Examples of genes that the store measured and the encoder knows."""
    return examples(example_genes(opened))


def offer_examples(opened: Opened) -> None:
    """Buttons that make the examples the query."""
    with st.container(
        horizontal=True, gap="small", key="examples", vertical_alignment="center", width="content"
    ):
        st.caption("Try", width="content")
        for example in store_examples(opened):
            st.button(
                example,
                type="tertiary",
                key=f"try-{example}",
                on_click=set_query,
                args=(example,),
            )


def controls() -> DeltaGenerator:
    """A row for the widgets of a question; it breaks where the window is narrow."""
    return st.container(horizontal=True, vertical_alignment="bottom", gap="small")


def question(opened: Opened, *, against: Against, key: str) -> Question:
    """What to search, how many hits, and filters; widgets that stand side by side in `controls`.

    Parameters
    ----------
    opened : Opened
        The store.
    against : {"image", "gene"}
        What is searched unless the user chooses otherwise, if any spot has such an embedding.
    key : str
        Name of that choice in the address; each page has its own, as its default is its own.
    """
    held = {name: value for name, value in TARGETS.items() if value in opened.searchable}
    against = against if against in held.values() else opened.searchable[0]
    target = st.segmented_control(
        "Search in",
        list(held),
        default=next(name for name, value in held.items() if value == against),
        required=True,
        key=key,
        bind="query-params",
    )
    most = min(MAX_HITS, opened.store.n_spots)
    k = st.number_input(
        "Hits (k)",
        min_value=1,
        max_value=most,
        value=min(USUAL_HITS, most),
        key="k",
        bind="query-params",
        width=110,
    )
    one_per = st.selectbox(
        "One hit per",
        list(ONE_PER),
        key="one",
        bind="query-params",
        width=160,
        help=f"A neighbourhood is {NEIGHBOURHOOD_UM:g} µm around a hit.",
    )
    return Question(held.get(target, against), int(k), one_per=one_per, **_filters(opened))


def _not_here(table: pd.DataFrame) -> list[str]:
    """Filters of the address that name nothing of the store, in words."""
    return [
        f"{label.lower().removeprefix('without ')} '{value[:60]}'"
        for key, column, label, _ in LISTED
        for value in st.query_params.get_all(key)
        if value not in set(table[column])
    ]


def _filters(opened: Opened) -> dict[str, Any]:
    table = opened.slides
    chosen: dict[str, Any] = {}
    strange = _not_here(table)
    asked = sum(
        len(st.query_params.get_all(name)) for name in (*(one[0] for one in LISTED), "where")
    )
    n_filters = asked - len(strange)
    if strange:
        st.warning(plain(f"This store has no {', '.join(strange)}: not filtered by it."))
    with st.popover(f"Filters · {n_filters}" if n_filters else "Filters"):
        st.caption("Search only in these; nothing chosen means everywhere.")
        for key, column, label, field in LISTED:
            options = sorted(set(table[column]) - {""})
            chosen[field] = tuple(
                st.multiselect(
                    label,
                    options,
                    key=key,
                    bind="query-params",
                    placeholder="none" if key == "notpatient" else "all",
                    select_all=False,
                    disabled=not options,
                )
            )
        chosen["where"] = st.text_input(
            "Filter",
            key="where",
            bind="query-params",
            max_chars=MAX_WHERE,
            placeholder='expr("CD8A") > 1 and n_counts >= 1000',
            help="Fields, expr(), count() and label(), joined by and, or, not. It is applied inside the search.",
        )
    return chosen
