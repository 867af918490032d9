"""Genes of regions: what sets the query and its hits apart on their slides, and what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import markup
from app.markup import plain
from app.selections import others_of
from app.stores import Opened
from stamp_index.errors import QueryError
from stamp_index.view.contrast import MOST_SPOTS, region_contrast

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from app.region_asking import AskedShape, RegionAnswer

TOP = 30  # genes of a region that may be shared
SHOWN_GENES = 10
NAMED = 5  # shared genes in a row of the table
COMPARED = 12  # hits of the table whose genes are compared at once; each reads up to 6,000 spots
NOT_YET = "pick it to compare"
SAMPLE = f"against the rest of its slide, over at most {MOST_SPOTS:,} spots a side"
SHARED_HELP = (
    f"Genes among the {TOP} most raised of both query and hit, with a log2 fold change above 0 in both: of mean CP10K, "
    f"each {SAMPLE}. The first {NAMED} are named, of the first {COMPARED} hits."
)


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def contrast(opened: Opened, slide_id: str, rows: NDArray) -> pd.DataFrame:
    """Genes of a region against the rest of its slide."""
    return region_contrast(opened.store, rows, others_of(opened, slide_id, rows))


def raised(table: pd.DataFrame) -> list[str]:
    """The genes that lead a contrast, of those that are higher inside than outside."""
    return list(table.loc[table["log2fc"] > 0, "gene"].head(TOP))


def shared(query: pd.DataFrame, hit: pd.DataFrame) -> list[str]:
    """Genes that are among the most raised of both contrasts, in the query's order."""
    of_hit = set(raised(hit))
    return [gene for gene in raised(query) if gene in of_hit]


def column(
    opened: Opened, asked: AskedShape, answer: RegionAnswer, told: Callable[[int, int], object]
) -> list[str]:
    """The shared genes of each hit in few words; `told` hears how many hits are compared, of how many.

    Of more than `COMPARED` hits the others wait until they are picked.
    """
    n = len(answer.table)
    n_compared = min(COMPARED, n)
    words = []
    for at in range(n_compared):
        told(at, n_compared)
        words.append(_words(opened, asked, answer, at))
    return words + [NOT_YET] * (n - n_compared)


def _words(opened: Opened, asked: AskedShape, answer: RegionAnswer, at: int) -> str:
    found = _both(opened, asked, answer, at)
    if isinstance(found, str):
        return "not measured"
    genes = shared(*found)
    more = f" +{len(genes) - NAMED}" if len(genes) > NAMED else ""
    return ", ".join(genes[:NAMED]) + more or "none"


def _both(
    opened: Opened, asked: AskedShape, answer: RegionAnswer, at: int
) -> tuple[pd.DataFrame, pd.DataFrame] | str:
    """Contrasts of query and hit; a sentence where they cannot be compared."""
    hit_slide = str(answer.table["slide_id"].iloc[at])
    plain_ones = {asked.slide_id, hit_slide} & opened.plain_slides
    if plain_ones:
        return f"Slide {', '.join(sorted(plain_ones))} is H&E only: no genes to compare."
    try:
        query = contrast(opened, asked.slide_id, answer.hits.query_rows)
        return query, contrast(opened, hit_slide, answer.hits.rows[at])
    except QueryError as error:
        return str(error)


def show(opened: Opened, asked: AskedShape, answer: RegionAnswer, picked: int) -> None:
    """Genes that set the query apart on its slide, beside the same genes of the picked hit."""
    found = _both(opened, asked, answer, picked)
    if isinstance(found, str):
        st.caption(plain(found))
        return
    query, hit = found
    table = query.head(SHOWN_GENES)[["gene", "log2fc"]].merge(
        hit[["gene", "log2fc"]], on="gene", how="left", suffixes=("", "_hit")
    )
    st.markdown(f"**Region and hit #{picked + 1}, gene by gene**")
    st.html(markup.pair_bars(table))
    words = ", ".join(shared(query, hit)) or "none"
    st.caption(
        f"log2 fold change of mean CP10K, each {SAMPLE}. Shared, that is among the {TOP} most raised of both and "
        f"with a fold change above 0 in both: {plain(words)}."
    )
