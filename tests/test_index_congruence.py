"""Whatever was added, deleted, built and folded: our answers, exact NumPy and Lance's own flat search agree."""

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stamp_index.errors import QueryError
from stamp_index.index import Index, has_index
from stamp_index.search import Searcher, parse_filter
from stamp_index.search.filtering import evaluate
from stamp_index.store.reading import open_table
from tests.index_world import (
    ORGANS,
    THOROUGH,
    assert_same_hits,
    change,
    made,
    slow_search,
    unit,
)
from tests.store_world import CARD, empty_store

# In our language, and in Lance's SQL
FILTERS = {
    None: None,
    'organ == "breast"': "organ = 'breast'",
    'organ != "liver" and n_counts > 12': "organ <> 'liver' and n_counts > 12",
    'patient in ("P1", "P2") or n_counts <= 9': "patient_id in ('P1', 'P2') or n_counts <= 9",
    'not (organ == "skin")': "not (organ = 'skin')",
    "x_um >= 500 and x_um < 1400": "x_um >= 500 and x_um < 1400",
}


class _Encoder:
    """As much of an encoder as a search by vector needs."""

    fingerprint, name, dim = CARD.fingerprint, "vec", 8


def lance_search(store, query, k, where):
    """Scores and row ids of Lance's own exact search in the spots table."""
    table = open_table(store.path, "spots", store._tables.manifest.tables["spots"])
    near = {
        "column": f"image_{store.encoder}",
        "q": query,
        "k": k,
        "metric": "cosine",
        "use_index": False,
    }
    found = table.to_table(
        columns=["spot_id", "_distance"],
        nearest=near,
        filter=where,
        prefilter=True,
        with_row_id=True,
    )
    scores = 1 - found.column("_distance").to_numpy()
    return scores[None], found.column("_rowid").to_numpy().astype(np.int64)[None]


class Stores(RuleBasedStateMachine):
    """A store with an index, changed at random."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.store = empty_store(self.folder)
        self.held, self.number = {}, 0
        self.add()

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule()
    def add(self):
        self.number += 1
        self._do("add", f"S{self.number}", self.number)
        self.held[f"S{self.number}"] = self.number

    @precondition(lambda self: len(self.held) > 1)
    @rule(which=st.integers(0, 100))
    def delete(self, which):
        slide = list(self.held)[which % len(self.held)]
        self._do("delete", slide)
        del self.held[slide]

    @rule(which=st.integers(0, 100))
    def replace(self, which):
        slide = list(self.held)[which % len(self.held)]
        self.number += 1
        self._do("replace", slide, self.number)
        del self.held[slide]
        self.held[slide] = self.number

    @rule(kind=st.sampled_from(["flat", "ivf_sq8", "ivf_sq8"]))
    def build(self, kind):
        self._do("build", kind)

    @rule()
    def fold(self):
        self._do("fold")

    @rule()
    def tidy(self):
        self._do("compact")
        self._do("clean")

    def _do(self, *step):
        change(self.store, step)

    @rule(
        seed=st.integers(0, 2**16),
        k=st.sampled_from([1, 7, 60]),
        text=st.sampled_from(list(FILTERS)),
    )
    def search(self, seed, k, text):
        query, store = unit(1, seed), self.store
        searcher = Searcher.open(store.path, encoder=_Encoder())
        allowed = np.ones(store.n_rows, bool)
        if text is not None:
            try:
                passing = evaluate(parse_filter(text), store.columns(searcher._resolver))
            except QueryError:  # names an organ or patient that nobody has
                return
            allowed = allowed if passing.mask is None else passing.mask
        theirs = lance_search(store, query[0], k, FILTERS[text])
        exact = slow_search(store, query, k, allowed)
        assert_same_hits(theirs, exact, within=1e-3)  # Lance rounds the query to float16
        if not exact[1].size:
            return
        k = min(k, store.n_spots)
        hits = searcher.search_vector(query[0], k=k, filters=text)
        if not searcher.indexes or searcher.indexes["image"].card.kind == "flat":
            assert_same_hits((hits.scores[None], hits.rows[None]), exact)
        if has_index(store, "image"):
            index = Index.open(store, "image")
            ours = index.search(query, k, allowed=allowed, settings=THOROUGH)
            assert_same_hits(ours, exact)
            quick = index.search(query, k, allowed=allowed)
            assert quick[1].shape == exact[1].shape  # never fewer than there are
            assert allowed[quick[1]].all()

    @invariant()
    def nothing_is_lost(self):
        if hasattr(self, "held"):
            parts = [made(*one).image for one in self.held.items()]
            expected = np.concatenate(parts).astype(np.float16)
            np.testing.assert_array_equal(self.store.vectors("image"), expected)
            assert set(self.store.slides()["organ"]) <= set(ORGANS)


Stores.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=14,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # what fails is seen at once; shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)
TestStores = pytest.mark.slow(Stores.TestCase)
