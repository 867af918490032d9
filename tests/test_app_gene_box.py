"""The gene box of the page Slides: which gene colours the spots."""

from __future__ import annotations

import pytest

from tests.browser.app_pages import PAGES, component, edit, errors, start
from tests.support import toy_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(tmp_path_factory.mktemp("box"), n_slides=2, n_spots=20)


def layer(at) -> dict:
    return component(at, "viewer")["layer"]


def shown(at) -> list[str]:
    return [term["gene"] for term in component(at, "query_bar")["terms"]]


def test_page_opens_on_a_gene_of_the_store(store):
    at = start(store, PAGES["slides"])
    assert shown(at) == ["EPCAM"]
    assert layer(at)["name"] == "EPCAM"


def test_gene_of_the_address_is_shown_by_its_symbol(store):
    at = start(store, PAGES["slides"], gene="her2")
    assert shown(at) == ["ERBB2"]
    assert layer(at)["path"] == "layer?gene=ERBB2"


def test_typed_gene_replaces_the_one_before_and_stands_in_the_address(store):
    at = start(store, PAGES["slides"], gene="EPCAM")
    edit(at, "CD8A", key="genebox")
    assert at.query_params["gene"] == "CD8A"
    assert layer(at)["name"] == "CD8A"


def test_unknown_gene_is_a_sentence_with_close_names(store):
    at = start(store, PAGES["slides"], gene="CD8X")
    assert component(at, "query_bar")["terms"][0]["state"] == "unknown"
    assert "CD8X was measured on no slide of this store. Did you mean CD8A" in errors(at)
    assert layer(at) is None


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "A" * 10_000, "\u202eCD8A", ","])
def test_nonsense_in_the_address_is_a_sentence(store, text):
    at = start(store, PAGES["slides"], gene=text)
    assert "was measured on no slide" in errors(at)
    assert layer(at) is None
