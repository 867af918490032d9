"""What a query's genes mean in a store, and how a pasted list joins it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("streamlit")

from app import gene_names, stores
from app.query_terms import merged, read_terms, text_of
from stamp_index.errors import EmptyQueryError, StampIndexError
from stamp_index.genes import parse_signature
from tests.support import TOY_GENES, ToyEncoder, toy_slide, toy_store

WEIGHTS = st.sampled_from([1.0, -1.0, 2.0, -0.5])
QUERIES = st.dictionaries(st.sampled_from(TOY_GENES), WEIGHTS, max_size=60)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A store in which nobody measured the last toy gene, and that measured one which the encoder does not know."""
    slide = toy_slide("S1", 20, genes=TOY_GENES[:-1])
    slide = replace(slide, genes=(*slide.genes[:-1], "OR4F5"))
    store = toy_store(tmp_path_factory.mktemp("terms"), slides=[slide])
    stores.use_encoder(ToyEncoder())
    return stores.open_store(str(store.path))


def test_each_gene_says_how_it_stands(opened):
    text = f"cd8a high, {TOY_GENES[-1]} low, OR4F5 high, NOSUCH high"
    assert [term.state for term in read_terms(opened, text).terms] == [
        "ok",
        "unmeasured",
        "unencoded",
        "unknown",
    ]
    read = read_terms(opened, text)
    assert [term.gene for term in read.open] == ["OR4F5", "NOSUCH"]
    assert read.without_open == f"CD8A high, {TOY_GENES[-1]} low"
    assert not read.can_be_asked


def test_genes_that_can_be_asked_for_are_those_of_the_searcher(opened):
    text = "CD8A high, HER2 low"
    assert read_terms(opened, text).can_be_asked
    assert opened.searcher.search_genes(text, k=3).query == "CD8A high, ERBB2 low"
    with pytest.raises(StampIndexError):
        opened.searcher.search_genes("OR4F5 high", k=3)


def test_store_and_encoder_names_stand_once(opened):
    genes, ids = gene_names.askable_genes(opened)
    assert len(genes) == len(ids) == len(set(genes)) == len(TOY_GENES) + 1  # OR4F5 besides


@given(QUERIES.filter(lambda weights: 0 < len(weights) <= 50))
def test_query_that_can_be_read_comes_back_as_it_was(opened, weights):
    text = text_of(weights.items())
    read = read_terms(opened, text)
    assert text_of((term.gene, term.weight) for term in read.terms) == text
    assert (read.rest, read.error) == ("", "")


@settings(deadline=None)
@given(st.text(alphabet="CDEPAM8 ,;+-:=.\n<high>low1é", max_size=80))
def test_any_text_is_read_as_far_as_it_goes(opened, text):
    read = read_terms(opened, text)
    if read.can_be_asked:
        assert len(opened.searcher.search_genes(text, k=3)) == 3
    elif not read.error and not read.open:
        with pytest.raises(EmptyQueryError):
            parse_signature(text)


@given(QUERIES.filter(lambda weights: len(weights) <= 50), QUERIES)
def test_paste_keeps_the_query_and_says_what_has_no_room(before, pasted):
    lines = "\n".join(f"{gene}\t{weight:g}" for gene, weight in pasted.items())
    text, problems = merged(text_of(before.items()), lines)
    found = dict(parse_signature(text).items) if text else {}
    wanted = before | dict(list(pasted.items())[:50])
    assert found.items() <= wanted.items()
    assert list(found)[: len(before)] == list(before)
    missing = set(before | pasted) - set(found)
    assert len(found) == min(50, len(wanted))
    assert bool(missing) <= bool(problems)


def test_paste_says_which_weight_it_changed_and_what_it_dropped():
    text, problems = merged("CD8A high, what is this", "cd8a\tlow")
    assert text == "CD8A low"
    assert any("new weight (-1)" in problem for problem in problems)
    assert any("what is this" in problem for problem in problems)
