"""Asking the store: what a query on a page holds, and its answer.

Answers are cached by store version, so that a widget which has nothing to do with the query asks nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import streamlit as st

from app.stores import Against, Opened
from stamp_index.genes import parse_signature
from stamp_index.search import Hits, all_of, field_in, field_not_in, parse_filter
from stamp_index.search.sharing import GeneRequest, ImageRequest, Request, SpotRequest
from stamp_index.search.sharing.links import ONE_PER

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from app.upload import QueryPicture
    from stamp_index.search.filtering import Condition
    from stamp_index.search.selection import Own


Asked = ParamSpec("Asked")


@dataclass(frozen=True)
class Question:
    """How a query is asked, whatever is asked."""

    against: Against
    k: int
    organs: tuple[str, ...] = ()
    slides: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    not_patients: tuple[str, ...] = ()
    where: str = ""  # in the filter language, besides the lists above
    one_per: str = "spot"

    def filters(self) -> Condition | None:
        """The library's filter.

        Raises
        ------
        QueryError
            If `where` cannot be read.
        """
        return all_of(
            field_in("organ", self.organs),
            field_in("slide", self.slides),
            field_in("patient", self.patients),
            field_not_in("patient", self.not_patients),
            parse_filter(self.where) if self.where.strip() else None,
        )

    def keywords(self) -> dict[str, Any]:
        """What every search of the library takes."""
        return {
            "against": self.against,
            "k": self.k,
            "filters": self.filters(),
            "one_per": ONE_PER[self.one_per],
        }


@dataclass(frozen=True)
class Look:
    """The look of a stored spot, and how much of a query the genes beside it are (0 to 1)."""

    spot_id: str
    genes: float


@dataclass(frozen=True)
class Answer:
    """Hits as the pages use them."""

    table: pd.DataFrame
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    genes: tuple[str, ...]
    query: str
    notes: tuple[str, ...]
    question: Question
    store_version: int
    seconds: float  # that the search took when it was asked first
    request: Request | None  # None where the library has no request that says the same
    is_whole: bool = True  # False where shards of an index did not answer

    @property
    def against(self) -> Against:
        """What was searched."""
        return self.question.against


def hits_of(opened: Opened, answer: Answer) -> Hits:
    """The answer as the library's hits, for what it does with them."""
    return Hits(
        table=answer.table,
        rows=answer.rows,
        genes=answer.genes,
        query=answer.query,
        notes=answer.notes,
        store_version=answer.store_version,
        fingerprint=opened.store.card.fingerprint,
        store=opened.store,
    )


def _answer(
    opened: Opened, question: Question, request: Request | None, search: Callable[[], Hits]
) -> Answer:
    started = time.perf_counter()
    hits = search()
    return Answer(
        table=hits.to_pandas(),
        rows=np.asarray(hits.rows),
        scores=np.asarray(hits.scores),
        genes=hits.genes,
        query=hits.query,
        notes=tuple(hits.notes),
        question=question,
        store_version=opened.store.version,
        seconds=time.perf_counter() - started,
        request=request,
        is_whole=hits.is_whole,
    )


def _kept_if_whole(ask: Callable[Asked, Answer]) -> Callable[Asked, Answer]:
    """Drop an answer without what some shards hold from Streamlit's cache: who asks again may get all of it."""

    @wraps(ask)
    def asked(*args: Asked.args, **kwargs: Asked.kwargs) -> Answer:
        answer = ask(*args, **kwargs)
        if not answer.is_whole:
            ask.clear(*args, **kwargs)
        return answer

    return asked


@_kept_if_whole
@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def ask_genes(opened: Opened, text: str, question: Question) -> Answer:
    """Spots for a gene query."""
    request = GeneRequest(signature=text, **question.keywords())
    return _answer(opened, question, request, lambda: request.run(opened.searcher))


@_kept_if_whole
@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def ask_both(opened: Opened, text: str, look: Look, question: Question) -> Answer:
    """Spots that fit a gene query and look like a stored spot."""

    def search() -> Hits:
        asked = opened.searcher.search_genes(text, **question.keywords())  # its names and refusals
        weights = dict(parse_signature(asked.query).items)
        genes = opened.searcher.encoder.encode_signature(weights)
        row = opened.store.row_of(look.spot_id)
        picture = opened.store.vectors("image", [row])[0].astype(np.float32)
        found = opened.searcher.search_vector(
            look.genes * genes + (1 - look.genes) * picture,
            genes=asked.genes,
            **question.keywords(),
        )
        return replace(found, query=asked.query)

    return _answer(opened, question, None, search)


# An upload must not outlive the session that made it: its answers are cached for that session only.
@_kept_if_whole
@st.cache_data(
    max_entries=8,
    show_spinner=False,
    scope="session",
    hash_funcs={Opened: lambda opened: opened.key},
)
def ask_image(opened: Opened, picture: QueryPicture, question: Question) -> Answer:
    """Spots for an uploaded picture."""
    place = {"mpp": picture.mpp, **question.keywords()}
    request = ImageRequest(file_name=picture.file_name, centre_px=picture.centre_px, **place)
    asked = replace(request, centre_px=picture.centre_of_pixels)
    return _answer(opened, question, request, lambda: asked.run(opened.searcher, picture.pixels))


@_kept_if_whole
@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def ask_spot(opened: Opened, spot_id: str, exclude_own: Own, question: Question) -> Answer:
    """Spots for the picture of a stored spot."""
    request = SpotRequest(
        spot_id=spot_id, query="image", exclude_own=exclude_own, **question.keywords()
    )
    return _answer(opened, question, request, lambda: request.run(opened.searcher))
