from __future__ import annotations

import re

import pytest

from stamp_index.genes import (
    GeneReference,
    GeneResolver,
    available_marker_sets,
    load_marker_sets,
    parse_signature,
)

SETS = load_marker_sets()
BY_NAME = {one.name: one for one in SETS}
EACH = pytest.mark.parametrize("one", SETS, ids=lambda one: one.name)


@EACH
def test_every_gene_is_an_approved_human_symbol(one):
    reference = GeneReference.load()
    assert [gene for gene in one.genes if reference.resolve(gene).how != "symbol"] == []


@EACH
def test_every_set_is_a_query_that_reads_back(one):
    signature = one.signature
    assert parse_signature(signature.text) == signature
    assert (signature.high, signature.low) == (one.high, one.low)
    assert len(one.high) >= 3


@EACH
def test_every_set_has_a_title_a_group_and_a_citation_with_a_doi(one):
    assert re.fullmatch("[a-z0-9_]+", one.name)
    assert one.title
    assert one.group
    assert one.citations
    for citation in one.citations:
        assert re.fullmatch(r"10\.\d{4,5}/\S+", citation.doi)
        assert citation.url == f"https://doi.org/{citation.doi}"
        assert str(citation.year) in str(citation)
        assert 1995 <= citation.year <= 2030


def test_names_and_titles_are_unique_and_groups_stand_together():
    assert len(BY_NAME) == len({one.title for one in SETS}) == len(SETS)
    groups = [one.group for one in SETS]
    assert sorted(groups, key=groups.index) == groups


def test_a_doi_is_of_one_paper():
    papers = {citation for one in SETS for citation in one.citations}
    assert len({citation.doi.casefold() for citation in papers}) == len(papers)


def test_published_lists_are_whole():
    assert len(BY_NAME["tls_cabrita"].high) == 9
    assert len(BY_NAME["tls_chemokines"].high) == 12
    assert len(BY_NAME["interferon_gamma"].high) == 6


def test_a_set_is_offered_where_half_of_it_is_known():
    one = BY_NAME["t_cell_cd4"]
    assert one.genes == ("CD4", "CD3D", "CD3E", "CD3G", "CD8A", "CD8B")
    known = GeneResolver(["CD3E", "CD8A", "EPCAM", "CD4"])
    assert one.available(known) == ("CD4", "CD3E", "CD8A")
    assert one.is_offered(known)
    assert not one.is_offered(GeneResolver(["CD3E", "CD4"]))
    assert not one.is_offered(GeneResolver(["CD8A", "CD8B"]))
    assert not BY_NAME["t_cell_cd8"].is_offered(GeneResolver(["CD8A"]))


def test_a_store_that_knows_all_genes_is_offered_all_sets_and_an_empty_one_none():
    genes = {gene for one in SETS for gene in one.genes}
    assert available_marker_sets(GeneResolver(sorted(genes))) == SETS
    assert available_marker_sets(GeneResolver([])) == ()


def test_a_store_with_older_names_or_of_mouse_knows_the_genes_too():
    plasma = BY_NAME["plasma_cell"]
    assert "JCHAIN" in plasma.available(GeneResolver(["IGJ", "XBP1"]))
    mouse = [gene.capitalize() for gene in plasma.genes]
    assert plasma.available(GeneResolver(mouse)) == plasma.genes
