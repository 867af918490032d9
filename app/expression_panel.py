"""Expression predicted from the hits of an image query, beside what is usual in the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from app import distribution, downloads, frame, markup, reliability, stores
from app.asking import hits_of
from app.gene_names import predictable_genes
from app.markup import plain
from app.unmeasured import NOT_MEASURED
from stamp_index.export import asked_columns, table_csv
from stamp_index.search import predict_expression
from stamp_index.search.reliability import RELIABLE

if TYPE_CHECKING:
    from app.asking import Answer
    from app.stores import Opened

ROWS_SHOWN = 12
GENES_OF_HITS = 3  # predicted genes whose measurement is shown at every hit
ORDERS = {
    "raised": "Most above the store",
    "lowered": "Most below the store",
    "mean": "Highest mean",
    "name": "Name",
}


@st.cache_data(
    max_entries=32, show_spinner=False, hash_funcs={stores.Opened: lambda opened: opened.key}
)
def predicted(opened: Opened, rows: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Prediction for every gene that encoder and store share, with its place in the store.

    Returns
    -------
    DataFrame
        gene, mean, sd, low, high, n_measured of `predict_expression`, and percentile of the mean,
        median and z (distance from the store's mean in its standard deviations) in the store. Only
        genes that the slide of a hit measured.
    """
    genes = predictable_genes(opened)
    if not genes:
        return pd.DataFrame({"gene": []})
    table = predict_expression((rows, scores), opened.store, genes).dropna(subset=["mean"])
    usual = distribution.sampled_expression(opened, genes)
    place = {gene: column for column, gene in enumerate(genes)}
    columns = [usual[:, place[gene]] for gene in table["gene"]]
    columns = [column[np.isfinite(column)] for column in columns]
    columns = [  # a gene of one small slide can have no spot in the sample
        column if len(column) else distribution.sorted_expression(opened, gene)
        for column, gene in zip(columns, table["gene"], strict=True)
    ]
    table = table.reset_index(drop=True)
    table["percentile"] = [
        distribution.percentile_in(column, mean)
        for column, mean in zip(columns, table["mean"], strict=True)
    ]
    table["median"] = [float(np.median(column)) for column in columns]
    means = np.array([column.mean() for column in columns])
    spreads = np.array([column.std() for column in columns])
    # a gene that hardly varies must not lead the table by a division by almost nothing
    table["z"] = (table["mean"] - means) / np.maximum(spreads, 0.1)
    return table


def ordered(table: pd.DataFrame, order: str, find: str) -> pd.DataFrame:
    """Rows whose gene holds one of the words in `find`, in one of `ORDERS`."""
    words = [word.casefold() for word in find.replace(",", " ").split()]
    if words:
        names = table["gene"].str.casefold()
        table = table[[any(word in name for word in words) for name in names]]
    by, ascending = {
        "raised": ("z", False),
        "lowered": ("z", True),
        "mean": ("mean", False),
        "name": ("gene", True),
    }[order]
    return table.sort_values(by, ascending=ascending, kind="stable")


def show(opened: Opened, answer: Answer, spot_id: str | None = None) -> list[str]:
    """The table, its controls and its download; returns the genes at its top.

    With `spot_id` what was measured at that spot stands beside its prediction.
    """
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader("Predicted expression", anchor=False, width="content")
        st.html(markup.badge(NOT_MEASURED), width="content")
    table = predicted(opened, answer.rows, answer.scores)
    if table.empty:
        st.info(_why_nothing(opened, answer))
        return []
    known = spot_id is not None and _add_measured(opened, table, spot_id)
    r = reliability.correlations(opened, answer.against)
    table["r"] = np.nan if r is None else r.reindex(table["gene"]).to_numpy()
    rows = _wanted(opened, answer, table)
    if rows.empty:
        st.info("No predicted gene has that in its name, or none of these is reliable.")
        return []
    longest = max(float(table["high"].max()), float(table["median"].max()), 1.0)
    st.html(markup.prediction_table(rows.head(ROWS_SHOWN), longest=longest))
    _what_next(opened, list(rows["gene"].head(ROWS_SHOWN)), spot_id)
    if spot_id is not None and not known:
        slide_id = opened.store.spots(["slide_id"], [opened.store.row_of(spot_id)]).iloc[0, 0]
        st.caption(_why_no_measurement(opened, str(slide_id)))
    st.caption(
        f"{min(ROWS_SHOWN, len(rows))} of {len(rows)} genes. Dot: weighted mean of what was measured "
        f"at {_hits_that_measured(table, len(answer.rows))}, log1p CP10K, with its standard deviation; "
        "light bar: 10 to 90 % of the hits; black tick: the store's median; pXX: share of the store's "
        f"measured spots with less (both of at most {distribution.n_sampled(len(predictable_genes(opened))):,} spots){'; diamond: measured at the query spot' if known else ''}. "
        f"{_what_r_is(opened, r)} A prediction from neighbours, not a measurement."
    )
    return list(rows["gene"].head(GENES_OF_HITS))


def csv(opened: Opened, answer: Answer, table: pd.DataFrame) -> bytes:
    """The prediction of every gene, and what it answers."""
    asked = asked_columns(hits_of(opened, answer), answer.against)
    return table_csv(table.drop(columns="z"), **asked)


def _wanted(opened: Opened, answer: Answer, table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are asked for, in the order that is asked for; all of them as a file."""
    with st.container(
        horizontal=True, vertical_alignment="bottom", gap="small", key="predcontrols"
    ):
        find = st.text_input(
            "Find genes", key="find", placeholder="CD8A, KRT", width=170, bind="query-params"
        )
        order = st.selectbox("Order", list(ORDERS), format_func=ORDERS.get, key="order", width=190)
        downloads.button(
            "CSV",
            partial(csv, opened, answer, table),
            "predicted_expression.csv",
            help="All genes, with r.",
        )
        is_reliable, only = (table["r"] >= RELIABLE).to_numpy(), False
        if table["r"].notna().any():
            with st.container(gap=None, width="content"):
                only = st.toggle(
                    f"Only reliable (r ≥ {RELIABLE:g})",
                    value=True,
                    key="reliable",
                    bind="query-params",
                )
                n = int((~is_reliable).sum())
                st.caption(
                    f"{n:,} of {len(table):,} genes {'hidden' if only else 'are less so'}",
                    width="content",
                )
    return ordered(table[is_reliable] if only else table, order, find)


def _what_next(opened: Opened, genes: list[str], spot_id: str | None) -> None:
    """What can be done with a gene of the table."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="nextrow"):
        gene = st.selectbox(
            "Gene of the table", genes, key="nextgene", width=170, label_visibility="collapsed"
        )
        if st.button(f"Find tissue with {plain(gene)}", key="search-gene"):
            st.switch_page(frame.GENE_PAGE, query_params={"q": f"{gene} high"})
        if spot_id is None:
            return
        slide_id = str(opened.store.spots(["slide_id"], [opened.store.row_of(spot_id)]).iloc[0, 0])
        if st.button(f"Map of {plain(gene)} on this slide", key="map-gene"):
            st.switch_page(
                frame.SLIDES_PAGE,
                query_params={"s": slide_id, "by": "Gene", "gene": gene, "spot": spot_id},
            )


def _what_r_is(opened: Opened, r: pd.Series | None) -> str:
    if r is None:
        return (
            "How well each gene is predicted is not known: it takes two slides with pictures and counts, of which one "
            "can be held out."
        )
    return (
        "r: correlation of prediction and measurement at a sample of this store's spots, predicted from other "
        f"{reliability.basis(opened)}."
    )


def _add_measured(opened: Opened, table: pd.DataFrame, spot_id: str) -> bool:
    """Add what was measured at the query spot; False where none of the genes was."""
    values = opened.store.expression(list(table["gene"]), [opened.store.row_of(spot_id)])[0]
    if not np.isfinite(values).any():
        return False
    table["measured"] = values
    return True


def _why_nothing(opened: Opened, answer: Answer) -> str:
    """Why there is no prediction at all."""
    if not opened.measured:
        return (
            "No slide of this store measured expression, so nothing can be predicted. Add slides "
            "with counts."
        )
    return (
        f"None of the {len(answer.rows)} hits lies on a slide with counts, so nothing can be predicted "
        "from them. Search in gene profiles, ask for more hits, or relax the filters."
    )


def _why_no_measurement(opened: Opened, slide_id: str) -> str:
    """Why the table has no column of what was measured at the query spot."""
    if slide_id in opened.plain_slides:
        return (
            f"Slide {plain(slide_id)} is H&E only: nothing was measured at the query spot, so there is "
            "no column of measurements."
        )
    return f"Slide {plain(slide_id)} measured none of these genes, so there is no column of measurements."


def _hits_that_measured(table: pd.DataFrame, n_hits: int) -> str:
    """Of how many hits the table's means are."""
    low, high = int(table["n_measured"].min()), int(table["n_measured"].max())
    if low == n_hits:
        return f"the {n_hits} hits"
    some = f"{high}" if low == high else f"{low} to {high}"
    return f"{some} of the {n_hits} hits (the others lie on slides that did not measure the gene)"
