"""What the pages know about the store: opening it, asking it, and its distribution of each gene.

The store is only read. The one place where a searcher is made is `open_searcher`; a script that
starts the app with an encoder of its own (the tests do) calls `use_encoder` before
`stamp_frame.run`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import streamlit as st

from stamp_index.search import Searcher, all_of, field_in
from stamp_index.store import Store
from stamp_index.store.manifest import stored_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from stamp_index.encoders.base import Encoder
    from stamp_index.search import Hits
    from stamp_index.search.filtering import Condition

Against = Literal["image", "gene"]
SAMPLE_SPOTS = 4000  # spots that stand for the store where every gene is compared at once
PATH = "_store_path"

_given_encoder: list[Encoder] = []


@dataclass(frozen=True)
class Opened:
    """A store that is open for reading, with what answers queries on it."""

    path: str
    store: Store
    searcher: Searcher | None  # None while the store has no spots
    slides: pd.DataFrame  # indexed by slide_id

    @property
    def key(self) -> tuple[str, int]:
        """What a cached answer depends on besides the query."""
        return self.path, self.store.version

    @property
    def is_synthetic(self) -> bool:
        """True where every slide was drawn by the phantom."""
        return len(self.slides) > 0 and set(self.slides["platform"]) == {"phantom"}

    @cached_property
    def measured(self) -> frozenset[str]:
        """Genes that a slide of the store measured; none where all of it is plain H&E."""
        return frozenset(self.store.genes)

    @cached_property
    def plain_slides(self) -> frozenset[str]:
        """Slides on which nothing was measured."""
        return frozenset(self.slides.index[self.slides["n_genes"] == 0])

    @cached_property
    def searchable(self) -> tuple[Against, ...]:
        """Embeddings that any spot has; a store of plain H&E has no gene profiles."""
        held: tuple[Against, ...] = ("image", "gene")
        return tuple(one for one in held if self.store.has_vector(one).any())


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


def use_encoder(encoder: Encoder) -> None:
    """Serve every store with this encoder instead of the one that the store carries."""
    _given_encoder[:] = [encoder]


def open_store(path: str) -> Opened:
    """The newest version of the store at `path`; a new version is noticed at the next query."""
    return _open(path, stored_versions(Path(path))[-1])


@st.cache_resource(max_entries=2, show_spinner="Opening the store …")
def _open(path: str, version: int) -> Opened:
    store = Store.open(path, version=version)
    searcher = open_searcher(path) if store.n_spots else None
    shown = searcher.store if searcher else store
    return Opened(path, shown, searcher, shown.slides().set_index("slide_id", drop=False))


def open_searcher(path: str) -> Searcher:
    """The only place where the app makes a searcher."""
    encoder = _given_encoder[0] if _given_encoder else None
    return Searcher.open(path, encoder=encoder)


def current() -> Opened:
    """The store that this session looks at."""
    return open_store(st.session_state[PATH])


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


@st.cache_data(max_entries=512, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def sorted_expression(opened: Opened, gene: str) -> NDArray[np.float32]:
    """Measured log1p CP10K of one gene over the whole store, ascending; empty if on no slide."""
    if gene not in opened.measured:
        return np.empty(0, np.float32)
    values = opened.store.expression([gene])[:, 0]
    return np.sort(values[np.isfinite(values)])


def percentile(opened: Opened, gene: str, value: float) -> float:
    """Share of the store's measured spots with a lower value, in percent; NaN if not measured."""
    return percentile_in(sorted_expression(opened, gene), value)


def percentile_in(ascending: NDArray[np.float32], value: float) -> float:
    """Share of `ascending` below `value`, in percent."""
    if not np.isfinite(value) or len(ascending) == 0:
        return float("nan")
    return 100.0 * float(np.searchsorted(ascending, value, side="left")) / len(ascending)


@st.cache_data(max_entries=4, show_spinner=False, hash_funcs={Opened: lambda opened: opened.key})
def sampled_expression(opened: Opened, genes: Sequence[str]) -> NDArray[np.float32]:
    """Expression of at most `SAMPLE_SPOTS` spots, each column ascending with NaN at its end."""
    rows = opened.store.rows()
    if opened.plain_slides:  # their spots would only add NaN
        measured = ~opened.slides["n_genes"].eq(0).to_numpy()
        rows = rows[opened.store.mask_of(measured)[rows]]
    if len(rows) > SAMPLE_SPOTS:
        rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE_SPOTS, replace=False))
    return np.sort(opened.store.expression(list(genes), rows), axis=0)


def gene_names(opened: Opened) -> tuple[str, ...]:
    """Genes that can be predicted: those that both the encoder and the store know, or the store's.

    None in a store where nothing was measured.
    """
    panel = set(opened.searcher.encoder.panel.genes)
    both = tuple(gene for gene in opened.store.genes if gene in panel)
    return both or opened.store.genes


def example_genes(opened: Opened) -> tuple[str, ...]:
    """Genes to make example queries of: measured ones that the encoder knows, or all it knows."""
    panel = opened.searcher.encoder.panel.genes
    known = set(panel)
    return tuple(gene for gene in opened.store.genes if gene in known) or tuple(panel)


def askable_genes(opened: Opened) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Genes that a query may name, and their Ensembl ids: the store's, and the encoder's besides."""
    others = [gene for gene in opened.searcher.encoder.panel.genes if gene not in opened.measured]
    return (*opened.store.genes, *others), (*opened.store.gene_ids, *[""] * len(others))
