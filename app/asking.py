"""Asking the store: what a query on a page holds, and its answer.

Answers are cached by store version, so that a widget which has nothing to do with the query asks nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.stores import Against, Opened
from stamp_index.search import all_of, field_in

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.search import Hits
    from stamp_index.search.filtering import Condition


@dataclass(frozen=True)
class Question:
    """How a query is asked, whatever is asked."""

    against: Against
    k: int
    organs: tuple[str, ...] = ()
    slides: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()

    def filters(self) -> Condition | None:
        """The library's filter."""
        return all_of(
            field_in("organ", self.organs),
            field_in("slide", self.slides),
            field_in("patient", self.patients),
        )


@dataclass(frozen=True)
class Answer:
    """Hits as the pages use them."""

    table: pd.DataFrame
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    query: str
    notes: tuple[str, ...]
    against: Against
    store_version: int
    seconds: float  # that the search took when it was asked first


def _answer(opened: Opened, against: Against, search: Callable[[], Hits]) -> Answer:
    started = time.perf_counter()
    hits = search()
    return Answer(
        table=hits.to_pandas(),
        rows=np.asarray(hits.rows),
        scores=np.asarray(hits.scores),
        query=hits.query,
        notes=tuple(hits.notes),
        against=against,
        store_version=opened.store.version,
        seconds=time.perf_counter() - started,
    )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def ask_genes(opened: Opened, text: str, question: Question) -> Answer:
    """Spots for a gene query."""
    return _answer(
        opened,
        question.against,
        lambda: opened.searcher.search_genes(
            text, against=question.against, k=question.k, filters=question.filters()
        ),
    )


# An upload must not outlive the session that made it: its answers are cached for that session only.
@st.cache_data(
    max_entries=8,
    show_spinner=False,
    scope="session",
    hash_funcs={Opened: lambda opened: opened.key},
)
def ask_image(opened: Opened, patch: NDArray[np.uint8], mpp: float, question: Question) -> Answer:
    """Spots for an uploaded picture."""
    return _answer(
        opened,
        question.against,
        lambda: opened.searcher.search_image(
            patch, mpp=mpp, against=question.against, k=question.k, filters=question.filters()
        ),
    )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def ask_spot(opened: Opened, spot_id: str, exclude_own: str, question: Question) -> Answer:
    """Spots for the picture of a stored spot."""
    return _answer(
        opened,
        question.against,
        lambda: opened.searcher.search_spot(
            spot_id,
            query="image",
            against=question.against,
            k=question.k,
            filters=question.filters(),
            exclude_own=exclude_own,
        ),
    )
