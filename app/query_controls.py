"""Widgets that make a query: gene text with examples and close names, filters, k, what to search.

Every widget is bound to the address, so the address is the query and can be sent to somebody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.asking import NEIGHBOURHOOD_UM, ONE_PER, Question
from app.gene_names import example_genes
from app.markup import plain
from stamp_index.errors import StampIndexError
from stamp_index.genes import GeneResolver, Signature, close_names, parse_signature
from stamp_index.genes.signature import MAX_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlit.delta_generator import DeltaGenerator

    from app.stores import Against, Opened

MAX_HITS = 200
USUAL_HITS = 48
TARGETS: dict[str, Against] = {"images": "image", "gene profiles": "gene"}  # as in the address

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


def close_genes(opened: Opened, name: str) -> list[str]:
    """Genes of the store whose names are close to one that is not known."""
    return close_names(name, opened.store.genes)


def examples(genes: Sequence[str], n: int = 3) -> list[str]:
    """`n` queries whose genes are all among `genes`; the first of these where too few fit."""
    known = set(genes)
    fitting = [text for text in EXAMPLES if known.issuperset(parse_signature(text).genes)]
    fitting += [f"{gene} high" for gene in genes[: n - len(fitting)] if len(fitting) < n]
    return fitting[:n]


def set_query(text: str) -> None:
    """Make a text the query; for button callbacks."""
    st.query_params["q"] = text


def _take_typed() -> None:
    set_query(st.session_state["genes"])


def gene_text(opened: Opened) -> str:
    """The one input for genes, with examples under it.

    The address carries the query, and without one the page opens on the first example.
    """
    tries = examples(example_genes(opened))
    text = st.query_params.get("q", tries[0])
    st.session_state["genes"] = text[:MAX_CHARS]
    st.text_input(
        "Genes",
        key="genes",
        on_change=_take_typed,
        max_chars=MAX_CHARS,
        placeholder=tries[0],
        help="Symbols or Ensembl ids, separated by commas. high and low, or a weight: CD8A 2.",
    )
    with st.container(horizontal=True, gap="small", key="examples", vertical_alignment="center"):
        st.caption("Try", width="content")
        for example in tries:
            st.button(
                example,
                type="tertiary",
                key=f"try-{example}",
                on_click=set_query,
                args=(example,),
            )
    return text


def unknown_genes(
    text: str, genes: Sequence[str], gene_ids: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Names in a query that are not among `genes`, each with close names; empty if unreadable."""
    try:
        asked = parse_signature(text).genes
    except StampIndexError:
        return {}
    resolver = GeneResolver(genes, gene_ids)
    known = resolver.resolve(asked, on_missing="ignore")
    return {name: close_names(name, genes) for name in asked if name not in known}


def corrected(text: str, wrong: str, right: str | None) -> str:
    """The query with one gene replaced, or left out where `right` is None."""
    weights = parse_signature(text).weights
    kept = {
        (right or "") if name == wrong else name: weight
        for name, weight in weights.items()
        if name != wrong or right
    }
    return Signature.from_weights(kept).text if kept else ""


def offer_close_names(text: str, unknown: dict[str, list[str]]) -> None:
    """One row per unknown gene: a click puts a close name in its place, or drops the gene."""
    for name, near in unknown.items():
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            ask = "did you mean" if near else "no gene of this store is close."
            st.markdown(f"**{plain(name)}**: {ask}", width="content")
            for candidate in near:
                try:
                    fixed = corrected(text, name, candidate)
                except StampIndexError:
                    continue  # that gene is already asked for, the other way round
                st.button(
                    candidate, key=f"fix-{name}-{candidate}", on_click=set_query, args=(fixed,)
                )
            rest = corrected(text, name, None)
            if rest:
                st.button(
                    f"Leave {name} out",
                    type="tertiary",
                    key=f"drop-{name}",
                    on_click=set_query,
                    args=(rest,),
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


def _filters(opened: Opened) -> dict[str, Any]:
    table = opened.slides
    chosen: dict[str, Any] = {}
    names = ("organ", "slide", "patient", "notpatient", "where")
    asked = sum(len(st.query_params.get_all(name)) for name in names)
    with st.popover(f"Filters · {asked}" if asked else "Filters"):
        st.caption("Search only in these; nothing chosen means everywhere.")
        for key, column, label, field in (
            ("organ", "organ", "Organ", "organs"),
            ("slide", "slide_id", "Slide", "slides"),
            ("patient", "patient_id", "Patient", "patients"),
            ("notpatient", "patient_id", "Without patient", "not_patients"),
        ):
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
            max_chars=2000,
            placeholder='expr("CD8A") > 1 and n_counts >= 1000',
            help="Fields, expr(), count() and label(), joined by and, or, not. It is applied inside the search.",
        )
    return chosen
